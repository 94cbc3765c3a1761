"""Finds the labels of a classifier file: in a file that the user names, in its metadata, in files beside it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtpoets.adoption.foreign import AGAIN, ForeignModel
from trtpoets.adoption.metadata import literal_dict, ultralytics_metadata
from trtpoets.adoption.neighbours import LARGEST, find_beside, json_value
from trtpoets.adoption.paddle import FILE, paddle_labels
from trtpoets.core.errors import BadInput
from trtpoets.core.formatting import many
from trtpoets.core.original import Evidence, Source, classes_of
from trtpoets.core.reading import read_text

_NAMES = (
    "labels.txt",
    "retrained_labels.txt",
    "dict.txt",
    "class_names.txt",
    "class_labels.txt",
    "classes.txt",
    "labels.json",
    "classes.json",
    "class_indices.json",
    "signature.json",
    "config.json",
)
"""Files that belong to a classifier of the same folder, in the order in which they are tried."""

_OWN = ("{}_labels.txt", "{}.labels.txt", "{}-labels.txt", "{}.txt", "{}_labels.json", "{}.json")
"""Files that belong to the classifier with this name. They are tried first."""

_FOR_LABELS = ("dict.txt", "class_names.txt", "classes.txt", "classes.json", "class_indices.json", "signature.json")
"""Files whose labels can only be meant for the classifier, as those with "label" in their name.

A config.json or a text with the name of the classifier may be about something else: it is not used if
the number differs.
"""

_BACKGROUND = "background"

_LONGEST = 1_000
"""Characters of a label. Longer lines are not labels."""

_MAX_LABELS = 1 << 20
"""A file with more lines than this does not contain labels."""


@dataclass(frozen=True)
class _LabelList:
    labels: tuple[str, ...]
    where: str
    source: Source
    is_for_labels: bool = True


def labels_for(foreign: ForeignModel, option: Path | None = None) -> tuple[tuple[str, ...], Evidence]:
    """Return the labels of a classifier in the order of its scores, and where they come from.

    They are those of the file `option`, else of the metadata, else of the files beside it, else "class 0", "class 1"
    and so on, as Source.ASSUMED. Raises BadInput for a file that can't be read, that has another number of labels,
    or empty or repeated ones; and if files beside the classifier have other numbers of labels only.
    """
    count = classes_of(foreign.output)
    if option is not None:
        return _of_option(option, count)
    other_counts: list[_LabelList] = []
    for candidate in (*_of_metadata(foreign), *_beside(foreign)):
        fitting = _fitted(candidate.labels, count)
        if fitting is None:
            if candidate.is_for_labels:
                other_counts.append(candidate)
            continue
        fitting, renamed = _distinct(fitting)
        _check(fitting, candidate.where)
        background = " and the class background before them" if len(fitting) > len(candidate.labels) else ""
        skipped = "".join(
            f"; {one.where} has {many(len(one.labels), 'label')} and was not used" for one in other_counts
        )
        return fitting, Evidence("labels", candidate.source, f"{candidate.where}{background}{renamed}{skipped}")
    if other_counts:
        raise _other_count(other_counts[0].where, len(other_counts[0].labels), count)
    names = tuple(f"class {number}" for number in range(count))
    text = f"no file has labels, so the {count:,} classes have numbers; --labels FILE gives them names"
    return names, Evidence("labels", Source.ASSUMED, text)


def labels_of_file(path: Path) -> tuple[str, ...]:
    """Return the labels in a text file (one per line) or JSON file (a list or a map). Raises BadInput."""
    try:
        text = read_text(path, LARGEST)
    except FileNotFoundError as error:
        raise BadInput(f"{path} does not exist", hint="check the path given with --labels", code="TP9440") from error
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error, "") from error
    labels = _labels_of_text(text)
    if labels is None:
        raise BadInput(
            f"{path} contains no labels: one per line, or a list or a map in JSON, was expected",
            hint="write one label per line, in the order of the scores",
            code="TP9443",
        )
    return labels


def _unreadable(path: Path, error: OSError | UnicodeDecodeError, hint: str) -> BadInput:
    if isinstance(error, OSError):
        return BadInput(
            f"{path} can't be read: {error.strerror}",
            hint=hint or "check the path given with --labels",
            code="TP9441",
        )
    return BadInput(
        f"{path} is not a text file in UTF-8", hint=hint or "save the labels as UTF-8, one per line", code="TP9442"
    )


def _of_option(option: Path, count: int) -> tuple[tuple[str, ...], Evidence]:
    labels = labels_of_file(option)
    fitting = _fitted(labels, count)
    if fitting is None:
        raise _other_count(str(option), len(labels), count)
    fitting, renamed = _distinct(fitting)
    _check(fitting, str(option))
    background = ", and the class background before them" if len(fitting) > len(labels) else ""
    return fitting, Evidence("labels", Source.OPTION, f"{option.name}, given with --labels{background}{renamed}")


def _of_metadata(foreign: ForeignModel) -> Iterator[_LabelList]:
    ultralytics = ultralytics_metadata(foreign)
    labels = _of_map(literal_dict(ultralytics.get("names")))
    if labels:
        yield _LabelList(labels, "names in the metadata of Ultralytics", Source.METADATA)
    named = foreign.clues.metadata.get("output.files", "").split(",")
    for name, text in sorted(foreign.clues.files.items(), key=lambda item: (item[0] not in named, item[0])):
        labels = _labels_of_text(text) if name in named or "label" in name or name == "dict.txt" else None
        if labels:
            yield _LabelList(labels, f"{name} inside {foreign.path.name}", Source.METADATA)
    labels = _labels_of_text(foreign.clues.metadata.get("output.labels", ""))
    if labels:
        yield _LabelList(labels, f"an output of {foreign.path.name} that is the same for every photo", Source.METADATA)
    labels = paddle_labels(foreign)
    if labels:
        yield _LabelList(labels, f"label_list in {FILE}", Source.METADATA)
    for key in ("character", "labels", "classes", "class_names", "id2label", "names"):
        value = "" if key == "names" and ultralytics else foreign.clues.metadata.get(key, "")
        labels = _labels_of_text(value)
        if labels:
            yield _LabelList(labels, f"{key} in the metadata of {foreign.path.name}", Source.METADATA)


def _beside(foreign: ForeignModel) -> Iterator[_LabelList]:
    stem = foreign.path.stem
    own = [name.format(stem) for name in _OWN]
    for path in find_beside(foreign, [*own, *_NAMES]):
        is_for_labels = "label" in path.name or path.name in _FOR_LABELS
        try:
            labels = _labels_of_text(read_text(path, LARGEST))
        except (OSError, UnicodeDecodeError, BadInput) as error:
            if is_for_labels and isinstance(error, (OSError, UnicodeDecodeError)):
                raise _unreadable(path, error, "correct it, or give another file with --labels FILE") from error
            continue
        # A text or settings file of another purpose has no labels, or one line.
        if labels is not None and (len(labels) > 1 or path.name in _NAMES[:6]):
            yield _LabelList(labels, f"{path.name} beside the file", Source.METADATA, is_for_labels)


def _labels_of_text(text: str) -> tuple[str, ...] | None:
    """Return the labels of a text: JSON, a Python literal, or lines. None if it has none."""
    text = text.removeprefix("\ufeff")
    if text.lstrip()[:1] in ("{", "["):
        value = json_value(text)
        if value is None:
            value = literal_dict(text) or None
        return _of_json(value)
    lines = [line.strip() for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    if not lines or len(lines) > _MAX_LABELS or any(len(line) > _LONGEST or "\0" in line for line in lines):
        return None
    return _without_numbers(lines)


_NUMBERED = re.compile(r"(\d+)(?:\s*[:,;.)]\s*|\s+)(.*)")


def _without_numbers(lines: list[str]) -> tuple[str, ...]:
    """Remove the numbers of "0 rose", "1 tulip" if all lines have one and they count up from 0 or 1."""
    matches = [_NUMBERED.fullmatch(line) for line in lines]
    numbers = [int(match.group(1)) if match and len(match.group(1)) < 9 else -1 for match in matches]
    if numbers in (list(range(len(lines))), list(range(1, len(lines) + 1))):
        return tuple(match.group(2) for match in matches if match is not None)
    return tuple(lines)


def _of_json(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, list):
        return tuple(value) if value and all(isinstance(label, str) for label in value) else None
    if not isinstance(value, dict):
        return None
    classes = value.get("classes")
    if isinstance(classes, dict) and isinstance(classes.get("Label"), list):  # Lobe
        return _of_json(classes["Label"])
    for key in ("id2label", "labels", "classes", "names", "label_names"):
        if isinstance(value.get(key), (dict, list)):
            return _of_map(value[key]) if isinstance(value[key], dict) else _of_json(value[key])
    settings = value.get("pretrained_cfg")
    if isinstance(settings, dict):
        return _of_json(settings.get("label_names")) or _of_json(value.get("label_names"))
    return _of_map(value)


def _of_map(value: dict[Any, Any]) -> tuple[str, ...] | None:
    """Return the labels of {0: "rose"}, {"0": "rose"} or {"rose": 0}, whose numbers are 0 to n - 1 in any order."""
    for index, label in (
        ([_index(key) for key in value], list(value.values())),
        ([_index(number) for number in value.values()], list(value)),
    ):
        if all(isinstance(name, str) for name in label) and sorted(index) == list(range(len(value))) and value:
            return tuple(name for _, name in sorted(zip(index, label, strict=True)))
    return None


def _index(value: Any) -> int:
    if isinstance(value, bool):
        return -1
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() and len(value) < 9 else -1


def _fitted(labels: tuple[str, ...], count: int) -> tuple[str, ...] | None:
    """Return the labels for `count` classes: with a background class first if one is missing. None if they don't fit.

    Networks of TF-Slim have 1,001 classes for the 1,000 of ImageNet.
    """
    if len(labels) == count:
        return labels
    if len(labels) + 1 == count and count > _MIN_WITH_BACKGROUND and _BACKGROUND not in map(str.lower, labels):
        return (_BACKGROUND, *labels)
    return None


_MIN_WITH_BACKGROUND = 100
"""Only lists of at least this length are completed with a background class; a shorter one is of another classifier."""


_REPEATED_SHARE = 0.01
"""Up to this share of the labels may be repeated. More repetitions are a mistake in the file."""


def _distinct(labels: tuple[str, ...]) -> tuple[tuple[str, ...], str]:
    """Return different labels, and a text about those that were repeated: "crane" twice is "crane (134)" and so on.

    The usual names of ImageNet's 1,000 classes contain crane, the bird and the machine.
    """
    counts = Counter(labels)
    repeated = [label for label, count in counts.items() if count > 1]
    if not 0 < len(repeated) <= _REPEATED_SHARE * len(labels):
        return labels, ""
    names = tuple(f"{label} ({place})" if counts[label] > 1 else label for place, label in enumerate(labels))
    renamed = ", ".join(name for name, label in zip(names, labels, strict=True) if counts[label] > 1)
    return names, f"; repeated names have the number of their class: {renamed}"


def _check(labels: Sequence[str], where: str) -> None:
    empty = [number + 1 for number, label in enumerate(labels) if not label.strip()]
    if empty:
        raise BadInput(
            f"label {empty[0]} of {where} is empty",
            hint=f"give a file with a label for each class: {AGAIN} --labels FILE",
            code="TP9444",
        )
    repeated = [label for label, count in Counter(labels).items() if count > 1]
    if repeated:
        raise BadInput(
            f"{where} has the label {repeated[0]!r} more than once",
            hint=f"give a file with different labels: {AGAIN} --labels FILE",
            code="TP9445",
        )


def _other_count(where: str, labels: int, classes: int) -> BadInput:
    return BadInput(
        f"{where} has {many(labels, 'label')}, but the classifier has {many(classes, 'class', 'classes')}",
        hint=f"give the labels of this classifier: {AGAIN} --labels FILE",
        code="TP9446",
    )
