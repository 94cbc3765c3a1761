"""Finds the classifier file in a folder that another program exported, beside its labels and metadata."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from trtpoets.adoption.foreign import EXPECTED
from trtpoets.adoption.tensorflow.saved_models import SAVED_MODEL
from trtpoets.core.errors import BadArtefact
from trtpoets.core.file_kinds import FileKind, kind_of_file
from trtpoets.core.formatting import many
from trtpoets.core.reading import NotReadable
from trtpoets.core.shell_commands import command, quote

_CLASSIFIERS = ("onnx", "tflite", "keras", "keras-h5", "graph-def")
"""Kinds of files (`core/file_kinds.py`) that a single file of a classifier can have."""

_ARCHIVES = {"zip": "unzip {0} -d {1}", "tar": "mkdir -p {1} && tar -xf {0} -C {1}", "7z": "7z x {0} -o{1}"}
_COMPRESSED = ("gzip", "bzip2", "xz", "zstd")
_TARS = (".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz", ".tar.zst")

_BESIDE = ("text", "json", "script", "photo", "xml", "html", "empty", "pdf", "svg")
"""Kinds of files that lie beside a classifier and say nothing about how to get one."""

_DEEPEST = 3
"""Levels of folders that are searched. An archive often has a folder of its own inside."""

_MAX_ENTRIES = 5_000
"""The largest number of files and folders that are examined."""

_NAMED = 5
"""Files that an error names."""


@dataclass(frozen=True)
class _Seen:
    """A file of a folder, and its kind; None if it is unknown."""

    path: Path
    kind: FileKind | None


def classifier_in_folder(folder: Path) -> Path:
    """Return the classifier in a folder: the folder itself if it is a SavedModel, else the one in it.

    Subfolders are searched where the folder itself has no classifier. Raises BadArtefact that lists the candidates,
    each with its command, or that names what the folder has instead.
    """
    if (folder / SAVED_MODEL).is_file():
        return folder
    looked_at: list[_Seen] = []
    for level in _levels(folder):
        candidates = [path for path in level if path.is_dir()]
        seen = [_Seen(path, _kind(path)) for path in level if path.is_file()]
        candidates += [one.path for one in seen if one.kind is not None and one.kind.name in _CLASSIFIERS]
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise _several(folder, sorted(candidates))
        looked_at += seen
    raise _none(folder, looked_at)


def unpacking(archive: Path, kind: FileKind) -> str:
    """Return the command that unpacks an archive and adopts what is in it; "" if the file is not an archive."""
    name = archive.name.lower()
    suffix = next((end for end in _TARS if name.endswith(end)), archive.suffix)
    is_tar = kind.name == "tar" or (kind.name in _COMPRESSED and suffix.lower() in _TARS)
    unpack = _ARCHIVES.get("tar" if is_tar else kind.name)
    if unpack is None:
        return ""
    folder = archive.with_name(archive.name[: len(archive.name) - len(suffix)] if suffix else f"{archive.name}_files")
    return f"{unpack.format(quote(archive), quote(folder))} && {command('adopt', folder, '--name', 'NAME')}"


def _levels(folder: Path) -> Iterator[list[Path]]:
    """Yield the files and the SavedModel folders of a folder, then those of its subfolders, level by level."""
    folders, left = [folder], _MAX_ENTRIES
    for _ in range(_DEEPEST):
        entries = [entry for one in folders for entry in _entries(one, left)][:left]
        left -= len(entries)
        below = [entry for entry in entries if entry.is_dir()]
        saved = [entry for entry in below if (entry / SAVED_MODEL).is_file()]
        yield [*saved, *(entry for entry in entries if entry.is_file())]
        folders = [entry for entry in below if entry not in saved and not entry.is_symlink()]


def _entries(folder: Path, most: int) -> list[Path]:
    """Return the first `most` entries of a folder by name, without hidden ones and what macOS adds to archives."""
    try:
        entries = sorted(folder.iterdir())
    except OSError:
        return []
    return [entry for entry in entries if not entry.name.startswith(".") and entry.name != "__MACOSX"][:most]


def _kind(path: Path) -> FileKind | None:
    try:
        return kind_of_file(path)
    except (OSError, NotReadable):
        return None


def _several(folder: Path, candidates: Sequence[Path]) -> BadArtefact:
    return BadArtefact(
        f"{folder} has {many(len(candidates), 'classifier')}, and one was expected",
        hint=f"give one of them: {command('adopt', candidates[0], '--name', 'NAME')}",
        code="TP9506",
        details=[command("adopt", path, "--name", "NAME") for path in candidates],
    )


def _none(folder: Path, seen: Sequence[_Seen]) -> BadArtefact:
    # Files other than texts and photos tell most about the folder.
    ordered = sorted(seen, key=lambda one: one.kind is None or one.kind.name in _BESIDE)
    names = [f"{one.path.relative_to(folder)} ({one.kind.words if one.kind else 'unknown'})" for one in ordered]
    if len(names) > _NAMED:
        names = [*names[:_NAMED], f"{many(len(names) - _NAMED, 'other file')}"]
    content = f"it has {', '.join(names)}" if names else "it has no files"
    others = [one for one in seen if one.kind is not None and one.kind.name not in _BESIDE]
    hint = ""
    if len(others) == 1:
        path, kind = others[0].path, others[0].kind
        assert kind is not None
        hint = unpacking(path, kind) or kind.remedy_for(path)
    return BadArtefact(
        f"{folder} is a folder without a classifier ({content}); {EXPECTED} was expected",
        hint=hint or f"give the file of the classifier, or the folder that holds {SAVED_MODEL}",
        code="TP9501",
    )
