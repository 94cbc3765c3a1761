"""Reads inference.yml, which PaddleClas and PaddleX export with a network: its preprocessing and its labels.

Only the form that they write is understood: operators in a list, each with its settings below it.
"""

from __future__ import annotations

import re
from typing import Any

from trtpoets.adoption.contract import Geometry, pixels_from_mean_and_std
from trtpoets.adoption.facts import Fact
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.neighbours import number_of, text_beside, triple_of
from trtpoets.core.original import Channels, Evidence, Source
from trtpoets.core.types import LARGEST_SIDE, Resize

FILE = "inference.yml"

_OPERATOR = re.compile(r"( *)- ([A-Za-z]+):.*")
_SETTING = re.compile(r" *([A-Za-z_]+): ?(.*)")
_ITEM = re.compile(r" *- (.*)")


def paddle_facts(foreign: ForeignModel) -> tuple[Fact, ...]:
    """Return what inference.yml beside a file states about pixels, geometry and input size; empty without one."""
    text = text_beside(foreign, FILE)
    if text is None:
        return ()
    operators = _operators(text)
    facts = []
    normalise, decode = operators.get("NormalizeImage"), operators.get("DecodeImage", {})
    resize, crop = operators.get("ResizeImage", {}), operators.get("CropImage")
    size = _size(crop.get("size") if crop else resize.get("size"))
    if normalise is not None:
        mean, std = triple_of(normalise.get("mean", "0")), triple_of(normalise.get("std", "1"))
        scale = number_of(normalise.get("scale", "1"))
        if mean and std and scale and 0 < scale <= 1 and min(std) >= 1e-4 and max(map(abs, mean)) <= 300:
            channels = Channels.BGR if str(decode.get("to_rgb", "")).lower() == "false" else Channels.RGB
            if channels is Channels.BGR:  # the numbers have the order of the channels
                mean, std = mean[::-1], std[::-1]
            numbers = ", ".join(f"{value:.4g}" for value in (*mean, *std))
            pixels = pixels_from_mean_and_std(mean, std, scale, channels, f"mean and std {numbers} of x * {scale:.4g}")
            evidence = Evidence("pixels", Source.METADATA, f"NormalizeImage in {FILE} states {pixels.text}")
            facts.append(Fact(evidence, pixels, channels_known="to_rgb" in decode, size=size))
    geometry = _geometry(resize, crop)
    if geometry is not None:
        evidence = Evidence("resize", Source.METADATA, f"ResizeImage in {FILE} states {geometry.text}")
        facts.append(Fact(evidence, geometry=geometry, size=size))
    return tuple(facts)


def paddle_labels(foreign: ForeignModel) -> tuple[str, ...]:
    """Return the label_list of inference.yml beside a file; empty without one."""
    lines = (text_beside(foreign, FILE) or "").splitlines()
    start = next((index for index, line in enumerate(lines) if line.strip() == "label_list:"), len(lines))
    labels = []
    for line in lines[start + 1 :]:
        item = _ITEM.fullmatch(line)
        if item is None:
            break
        labels.append(_unquoted(item.group(1)))
    return tuple(labels)


def _operators(text: str) -> dict[str, dict[str, Any]]:
    """Return the settings of each operator in the list transform_ops: texts, and lists of texts."""
    operators: dict[str, dict[str, Any]] = {}
    indent, settings, key = -1, None, ""
    for line in text[:1_000_000].splitlines():
        start = _OPERATOR.fullmatch(line)
        if start and (indent < 0 or len(start.group(1)) <= indent):
            indent, settings, key = len(start.group(1)), operators.setdefault(start.group(2), {}), ""
            continue
        if settings is None or len(line) - len(line.lstrip()) <= indent:
            settings = None  # the list has ended, or it has not begun
            indent = -1
            continue
        item, setting = _ITEM.fullmatch(line), _SETTING.fullmatch(line)
        if item and key:
            known = settings[key] if isinstance(settings[key], list) else []
            settings[key] = [*known, _unquoted(item.group(1))]
        elif setting:
            key, value = setting.group(1), setting.group(2).strip()
            inline = value.startswith("[") and value.endswith("]")
            settings[key] = [part.strip() for part in value[1:-1].split(",")] if inline else _unquoted(value)
    return operators


def _geometry(resize: dict[str, object], crop: dict[str, object] | None) -> Geometry | None:
    shorter = number_of(resize.get("resize_short"))
    if shorter is not None and crop is not None:
        kept = _size(crop.get("size"))
        if kept is not None and 0.1 <= min(kept) / shorter <= 1:
            return Geometry(Resize.CROP, min(kept) / shorter)
        return None
    return Geometry(Resize.STRETCH) if crop is None and _size(resize.get("size")) is not None else None


def _size(value: Any) -> tuple[int, int] | None:
    """Return (height, width) from a side, or a list of width and height."""
    sides = value if isinstance(value, list) else [value, value]
    numbers = [number_of(side) for side in sides]
    if len(numbers) != 2 or any(number is None or not 1 <= number <= LARGEST_SIDE for number in numbers):
        return None
    width, height = (int(number) for number in numbers if number is not None)
    return height, width


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace("''", "'") if quoted else text
