"""Reads CSV and JSON-lines files with labels of photos, and recognises their columns."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput
from trtpoets.core.reading import read_bytes, read_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

SUFFIXES = (".csv", ".tsv", ".jsonl", ".txt")
MAX_BYTES = 256 << 20
"""Largest size of a label file in bytes; a row has about 100."""

MAX_CELLS = 50_000_000
"""Largest number of cells, rows times columns: short rows are filled up to the width of the first."""

_PHOTO_COLUMNS = (
    *("filename", "filepath", "filepaths", "imagepath", "imagefile", "path", "file", "files", "filenames", "fname"),
    *("image", "imageid", "imagename", "images", "img", "imgid", "imgname", "imgpath", "photo", "photoid", "picture"),
    *("id", "name", "isicid", "uuid", "key", "url"),
)
_LABEL_COLUMNS = (
    *("labelname", "classname", "categoryname", "labeltext", "label", "labels", "class", "classes", "category"),
    *("categories", "target", "targets", "breed", "species", "diagnosis", "dx", "disease", "finding", "variety"),
    *("type", "tag", "tags", "y", "groundtruth", "annotation", "labelid", "classid", "categoryid", "targetname"),
)
_LABEL_WORD = re.compile(r"label|class|categor|species|breed|diagnos|disease")
_SPLIT_COLUMNS = ("split", "dataset", "datasplit", "set", "subset", "partition", "fold", "usage", "phase")
_BOXES = frozenset({"xmin", "ymin", "xmax", "ymax", "bbox", "bboxx", "bboxy", "x1", "y1", "x2", "y2", "encodedpixels"})

_SAMPLE = 500


@dataclass(frozen=True)
class LabelRow:
    """A row: the photo as named in the file, its label (empty if it has none), and the split it names, if any."""

    photo: str
    label: str
    split: str = ""


@dataclass(frozen=True)
class LabelTable:
    """A label file: its rows, and the names of the columns that they were read from."""

    path: Path
    rows: tuple[LabelRow, ...]
    photo_column: str
    label_column: str
    split_column: str = ""


def read_rows(path: Path) -> tuple[list[str], list[list[str]]]:
    """Return the first row, and all others, filled to the width of the first. In a .jsonl file the keys come first.

    The delimiter (comma, semicolon, tab or |) is the one with which the first rows have equal widths. Raises BadInput.
    """
    with read_errors(BadInput, path, hint="check its name and permissions", code="TP2035"):
        content = read_bytes(path, MAX_BYTES)
    text = _decoded(content)
    if path.suffix.lower() == ".jsonl":
        return _json_rows(text, path)
    if "\0" in text:
        raise BadInput(f"{path} is not a text file", hint="save the table as CSV in UTF-8", code="TP2036")
    delimiter = _delimiter(text)
    rows: list[list[str]] = []
    try:
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
            if any(map(str.strip, row)):
                rows.append(row)
                _require_cells(path, len(rows), len(rows[0]))
    except csv.Error as error:
        raise BadInput(
            f"{path} is not a CSV file: {error}", hint="save the table as CSV in UTF-8", code="TP2037"
        ) from error
    if not rows:
        raise BadInput(
            f"{path} has no rows", hint="use a CSV file with a column of photos and a column of labels", code="TP2038"
        )
    width = max(len(rows[0]), 1)
    cells = [[cell.strip() for cell in (row + [""] * width)[:width]] for row in rows]
    return cells[0], cells[1:]


def _require_cells(path: Path, rows: int, columns: int) -> None:
    if rows * columns > MAX_CELLS:
        raise BadInput(
            f"{path} has at least {rows:,} rows of {columns:,} columns, which exceeds {MAX_CELLS:,} cells",
            hint="keep only the columns with photos and labels",
            code="TP2039",
        )


def table_from_file(path: Path, is_photo: Callable[[str], bool]) -> LabelTable:
    """Read a label file; `is_photo` returns whether a cell names an existing photo.

    Columns are recognised by name, the photos' column also by content. If the first row names a photo, there is no
    header. Raises BadInput if columns are not recognised, for several labels per photo, and for bounding boxes.
    """
    head, rows = read_rows(path)
    sample = rows[:_SAMPLE]
    named = [_plain(name) for name in head]
    if any(is_photo(cell) for cell in head) and not set(named) & {*_PHOTO_COLUMNS, *_LABEL_COLUMNS} - {""}:
        rows, sample = [head, *rows], [head, *sample]
        head = [f"column {number}" for number in range(1, len(head) + 1)]
        named = [""] * len(head)
    boxes = [name for name, plain in zip(head, named, strict=True) if plain in _BOXES]
    if boxes:
        raise BadInput(
            f"{path} has bounding boxes or masks ({', '.join(boxes)}), so it belongs to a detection data set",
            hint="use a file with one row and one label per photo: trtpoets trains classifiers",
            code="TP2040",
        )
    photo = _photo_column(named, sample, is_photo)
    if photo is None:
        raise BadInput(
            f"no column of {path} names existing photos; its columns: {_some(head)}",
            hint="add a column 'filename' with the photos' paths, relative to the label file",
            code="TP2041",
        )
    split = next((named.index(name) for name in _SPLIT_COLUMNS if name in named and named.index(name) != photo), None)
    others = [index for index in range(len(head)) if index not in (photo, split)]
    label = _label_column(named, others, sample)
    if label is not None:
        labelled = [LabelRow(row[photo], row[label], row[split] if split is not None else "") for row in rows]
        _refuse_several_labels(labelled, path)
        name = head[label]
    else:
        hot = _one_hot_columns(others, sample)
        if len(hot) < 2:
            raise BadInput(
                f"no column of {path} is recognised as labels; its columns: {_some(head)}",
                hint="rename that column to 'label'",
                code="TP2042",
            )
        labelled = [
            LabelRow(row[photo], _hot(row, hot, head, path), row[split] if split is not None else "") for row in rows
        ]
        name = f"{len(hot)} columns of 0 and 1"
    return LabelTable(path, tuple(labelled), head[photo], name, head[split] if split is not None else "")


def _photo_column(named: Sequence[str], sample: Sequence[Sequence[str]], is_photo: Callable[[str], bool]) -> int | None:
    """Return the column that names most photos; a known column name decides between equal columns."""
    best, most = None, 0.0
    for index, name in enumerate(named):
        photos = len({row[index] for row in sample if is_photo(row[index])})
        score = photos + (0.5 if name in _PHOTO_COLUMNS else 0)
        if photos and score > most:
            best, most = index, score
    return best


def _label_column(named: Sequence[str], others: Sequence[int], sample: Sequence[Sequence[str]]) -> int | None:
    """Return the column with the labels, by its name, or because no other column is left; None if unknown."""

    def useful(index: int) -> bool:
        return any(row[index] for row in sample)

    for name in _LABEL_COLUMNS:
        candidates = [index for index in others if named[index] == name and useful(index)]
        if candidates:
            return candidates[0]
    alike = [index for index in others if useful(index) and _LABEL_WORD.search(named[index])]
    if len(alike) == 1:
        return alike[0]
    left = [index for index in others if useful(index)]
    return left[0] if len(left) == 1 and len(others) == 1 else None


def _one_hot_columns(others: Sequence[int], sample: Sequence[Sequence[str]]) -> list[int]:
    return [index for index in others if sample and all(row[index] in _ZERO or row[index] in _ONE for row in sample)]


_ZERO = frozenset({"0", "0.0", "", "False", "false"})
_ONE = frozenset({"1", "1.0", "True", "true"})


def _hot(row: Sequence[str], columns: Sequence[int], head: Sequence[str], path: Path) -> str:
    ones = [head[index] for index in columns if row[index] in _ONE]
    if len(ones) > 1:
        raise BadInput(
            f"{path} gives a photo several labels ({_some(ones)}), so it is a multi-label data set",
            hint="keep the rows with one label: trtpoets trains classifiers with one label per photo",
            code="TP2043",
        )
    return ones[0] if ones else ""


def _refuse_several_labels(rows: Iterable[LabelRow], path: Path) -> None:
    labels = {row.label for row in rows}
    for label in sorted(labels):
        parts = [part.strip() for part in re.split(r"[|;,]", label)]
        if len(parts) > 1 and all(part in labels for part in parts):
            raise BadInput(
                f"{path} gives a photo several labels ({label!r}), so it is a multi-label data set",
                hint="keep the rows with one label: trtpoets trains classifiers with one label per photo",
                code="TP2044",
            )


def _json_rows(text: str, path: Path) -> tuple[list[str], list[list[str]]]:
    values: list[dict[str, object]] = []
    keys: dict[str, None] = {}
    for number, line in enumerate(io.StringIO(text), 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise BadInput(
                f"line {number} of {path} is not JSON: {error}", hint="write one object per line", code="TP2045"
            ) from error
        if not isinstance(value, dict):
            raise BadInput(
                f"line {number} of {path} is not a JSON object", hint="write one object per line", code="TP2046"
            )
        values.append(value)
        keys.update(dict.fromkeys(value))
        _require_cells(path, len(values), len(keys))
    head = list(keys)
    if not head:
        raise BadInput(
            f"{path} has no rows",
            hint='write one object per line: {"file_name": "1.jpg", "label": "rose"}',
            code="TP2047",
        )
    if "objects" in head:
        raise BadInput(
            f"{path} has objects with bounding boxes, so it belongs to a detection data set",
            hint="use a file with one label per photo: trtpoets trains classifiers",
            code="TP2048",
        )
    return head, [[_cell(value.get(key)) for key in head] for value in values]


def _cell(value: object) -> str:
    return "" if value is None else value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")  # the encoding of spreadsheets on Windows


def _delimiter(text: str) -> str:
    lines = [line for line in islice(io.StringIO(text), 50) if line.strip()]

    def fitness(delimiter: str) -> tuple[int, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter)]
        except csv.Error:
            return 0, 0
        return (sum(width == widths[0] for width in widths) if widths and widths[0] > 1 else 0), widths[0]

    return max((",", "\t", ";", "|"), key=fitness) if lines else ","


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _some(names: Sequence[str], most: int = 8) -> str:
    text = ", ".join(repr(name) for name in names[:most])
    return text + (f" and {len(names) - most} more" if len(names) > most else "")
