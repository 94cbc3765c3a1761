"""Errors for folders and files without labelled photos: archives, detection data sets, photos without labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.file_kinds import kind_of_file
from trtpoets.core.reading import NotReadable, read_start
from trtpoets.core.shell_commands import command, quote
from trtpoets.train.folders.class_folders import ADVICE, photos_in, some_names
from trtpoets.train.folders.folder_roles import is_role
from trtpoets.train.folders.photo_index import PhotoIndex, counted_by_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.train.folders.ignored_files import Entries

_PACKED = {"gzip": "tar -xzf", "xz": "tar -xJf", "bzip2": "tar -xjf", "zstd": "tar --zstd -xf", "tar": "tar -xf"}
_SUFFIXES = re.compile(r"(\.tar)?\.(zip|tar|gz|tgz|xz|txz|bz2|tbz2?|zst|tzst|7z|rar)$", re.IGNORECASE)
_LOOKED_AT = 200
_YOLO_LINE = re.compile(r"\d+( -?[\d.]+(e-?\d+)?){4,}\s*", re.IGNORECASE)


def file_error(path: Path) -> BadInput:
    """Return the error for a file that was given instead of a folder of photos; for an archive, how to unpack it."""
    kind = kind_of_file(path)
    name = kind.name if kind else ""
    if name in ("zip", "7z", "rar", *_PACKED):
        target = path.with_name(_SUFFIXES.sub("", path.name) or path.name)
        if target == path:
            target = path.with_name(path.name + "_photos")
        packed, folder = quote(path), quote(target)
        unpack = {
            "zip": f"unzip -q {packed} -d {folder}",
            "7z": f"7z x {packed} -o{folder}",
            "rar": f"mkdir -p {folder} && unrar x {packed} {folder}/",
        }.get(name) or f"mkdir -p {folder} && {_PACKED[name]} {packed} -C {folder}"
        return BadInput(
            f"{path} is an archive, but photos are read from a folder",
            hint=f"unpack it: {unpack} && {command('run', target, '--name', 'NAME')}",
            code="TP2058",
        )
    kind_text = f", it is {kind.words}" if kind else ""
    hint = ADVICE
    if path.suffix.lower() in (".csv", ".tsv", ".jsonl"):
        hint = f"use it as the label file: {command('run', path.parent, '--name', 'NAME', '--labels', path)}"
    elif name == "photo":
        hint += f"; to classify this photo with a run: {command('label', 'NAME', path)}"
    return BadInput(f"{path} is not a folder{kind_text}", hint=hint, code="TP2059")


def folder_error(index: PhotoIndex, errors: Sequence[BadInput], entries: Entries) -> BadInput:
    """Return the error for a folder in which no labels were found."""
    folder = index.folder
    evidence = _detection(index.others)
    if evidence:
        return BadInput(
            f"{folder} is a detection or segmentation data set ({evidence}), but trtpoets trains classifiers of "
            "whole photos",
            hint="export it for classification (class folders), or cut the objects out into class folders",
            code="TP2060",
        )
    if errors:
        return errors[0]
    folders = [path.name for path in entries.folders(folder)]
    if index.photos:
        roles = [name for name in folders if is_role(name)]
        class_option = ""
        if len(roles) > 1 and any(photos_in(folder / name, entries) for name in roles):
            class_option = f"; with {some_names(roles)} as classes: " + command(
                "run", folder, "--name", "NAME", "--class-folders"
            )
        return BadInput(
            f"{folder} has no class folders and no label file: {len(index.photos)} photos without a label, "
            f"{counted_by_folder(index.photos, folder)}",
            hint=f"{ADVICE}; or give a CSV file with the labels by --labels FILE{class_option}",
            code="TP2061",
        )
    missing = "usable photo" if folders else "class folders"
    return BadInput(f"{folder} has no {missing}", hint=ADVICE, code="TP2062")


def _detection(files: Sequence[Path]) -> str:
    """Return the evidence that the files belong to a detection data set; empty if there is none."""
    counts: dict[str, int] = {}
    for path in files:
        suffix = path.suffix.lower()
        if suffix in (".txt", ".xml", ".json", ".csv", ".yaml", ".yml") and counts.get(suffix, 0) < _LOOKED_AT:
            counts[suffix] = counts.get(suffix, 0) + 1
            try:
                start = read_start(path, 1 << 20).decode("utf-8", "replace")
            except (OSError, NotReadable):
                continue
            if evidence := _evidence(suffix, start):
                return f"{path.name} has {evidence}"
    return ""


def _evidence(suffix: str, text: str) -> str:
    lines = [line for line in text.splitlines()[:5] if line.strip()]
    if suffix == ".txt" and lines and all(_YOLO_LINE.fullmatch(line) for line in lines):
        return "boxes in YOLO's format"
    if suffix == ".xml" and "<bndbox>" in text:
        return "boxes in Pascal VOC's format"
    if suffix == ".json" and '"annotations"' in text and re.search(r'"(bbox|segmentation)"', text):
        return "boxes in COCO's format"
    if suffix == ".json" and '"shapes"' in text and '"points"' in text:
        return "shapes in LabelMe's format"
    return ""
