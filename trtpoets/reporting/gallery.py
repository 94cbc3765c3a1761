"""The photos of the page as thumbnails, limited in number and bytes."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadPhoto, PhotoChanged
from trtpoets.core.formatting import joined, many, percent, shown
from trtpoets.core.images import photo_to_array
from trtpoets.core.runner_id import Library
from trtpoets.core.shell_commands import DEFAULT_ENGINES
from trtpoets.core.types import FULL_WHITE, Precision, Preprocess, Resize
from trtpoets.core.workspace import Workspace
from trtpoets.reporting.verdict import runner_named

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trtpoets.core.types import Photo
    from trtpoets.judge.evaluation import ChangedAnswer, EvaluatedPhoto
    from trtpoets.reporting.model import Report

_log = logging.getLogger(__name__)

_SIDE = 160
_QUALITY = 76
_THUMBNAIL = Preprocess(_SIDE, _SIDE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), Resize.CROP)
_TILES = 12
_BUDGET = 1_200_000
"""The most bytes of all thumbnails of a page together, as base64."""


@dataclass
class _Pictures:
    """Turns photos into data URIs while the budget lasts. 16-bit photos are shown with the classifier's white.

    `changed` are photos that are not shown, because their files changed since the evaluation.
    """

    photos: Mapping[str, Photo]
    left: int
    white: int
    uris: dict[str, str] = field(default_factory=dict)
    changed: list[Photo] = field(default_factory=list)

    def uri(self, path: str) -> str:
        """Return the photo as a data URI; "" if it is missing, damaged, not of this run, or the budget is used up."""
        if path not in self.uris:
            photo = self.photos.get(path)
            self.uris[path] = self._new_uri(photo) if photo else ""
        return self.uris[path]

    def _new_uri(self, photo: Photo) -> str:
        try:
            content = _jpeg(photo, self.white)
        except PhotoChanged:
            self.changed.append(photo)
            return ""
        except BadPhoto:
            return ""
        uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
        if len(uri) > self.left:
            return ""
        self.left -= len(uri)
        return uri


@dataclass(frozen=True)
class TileAnswer:
    """An answer as text, and whether it is right."""

    text: str
    right: bool


@dataclass(frozen=True)
class Tile:
    """A photo with one answer, or two of them. `picture` is a data URI, empty where the photo is not shown."""

    picture: str
    alt: str
    right: bool
    answer: str
    lines: Sequence[str]
    also: TileAnswer | None = None


@dataclass(frozen=True)
class Gallery:
    """Tiles under a title."""

    title: str
    note: str
    tiles: Sequence[Tile]


@dataclass(frozen=True)
class Galleries:
    """The galleries of the page: the answers that INT8 changes, None without any, and all others in order."""

    int8: Gallery | None
    others: Sequence[Gallery]


def galleries_from_report(report: Report, photos: Mapping[str, Photo]) -> Galleries:
    """Return the galleries: changed answers (INT8's apart, for its section), mistakes with a high score, right answers.

    A photo whose file was changed since is not shown: a warning counts these and names one.
    """
    white = report.spec.preprocess.white if report.spec else FULL_WHITE
    pictures = _Pictures(photos, _BUDGET, white)
    samples = report.samples
    changed = {runner: changes for runner, changes in samples.changed.items() if changes}
    narrow = _int8_runner(report, changed) if report.quantisation.int8 else ""
    int8 = _changed_by_int8(report, narrow, changed.pop(narrow), pictures) if narrow else None
    every = [(runner, change) for runner, changes in changed.items() for change in changes]
    galleries = [
        Gallery(
            "Changed answers",
            _changes(report, changed),
            [_changed(runner, change, pictures) for runner, change in every[:_TILES]],
        ),
        Gallery(
            "Mistakes with the highest scores",
            "Wrong answers by falling score. They may also show wrong labels in the folder.",
            [_answered(answer, pictures) for answer in samples.mistakes[:_TILES]],
        ),
        Gallery(
            "Right answers",
            "Some photos of each class.",
            [_answered(answer, pictures) for answer in samples.right[:_TILES]],
        ),
    ]
    if pictures.changed:
        space = Workspace(Path(report.engines_folder or DEFAULT_ENGINES), report.name)
        _log.warning(
            "%s of the page changed after they were evaluated, for example %s, and are not shown; evaluate again: %s",
            many(len(pictures.changed), "photo"),
            pictures.changed[0].path,
            space.command("evaluate", "--force"),
        )
    return Galleries(int8, [gallery for gallery in galleries if gallery.tiles])


def _int8_runner(report: Report, changed: Iterable[str]) -> str:
    """Return the INT8 runner whose changes are shown: an engine if one ran, as it is deployed; else the ONNX file."""
    candidates = [runner_named(report, name) for name in changed]
    runners = [
        runner for runner in candidates if runner.precision is Precision.INT8 and runner.library is not Library.TFLITE
    ]
    return next((runner.name for runner in sorted(runners, key=lambda runner: not runner.is_engine)), "")


def _changed_by_int8(report: Report, runner: str, changes: Sequence[ChangedAnswer], pictures: _Pictures) -> Gallery:
    compared, photos = report.comparison[runner], report.test_photos
    lost, won = compared.only_reference, compared.only_runner
    shown_of_all = f" The first {_TILES} are shown." if len(changes) > _TILES else ""
    return Gallery(
        "Answers that INT8 changed",
        f"{runner} answers {photos - compared.agreed:,} of {many(photos, 'test photo')} differently from "
        f"TensorFlow in FP32: {many(lost, 'right answer')} lost, {won:,} won.{shown_of_all}",
        [_beside(change, pictures) for change in changes[:_TILES]],
    )


def _beside(change: ChangedAnswer, pictures: _Pictures) -> Tile:
    """A tile with the answers of FP32 and INT8, each with its score."""
    label, before, after = map(shown, (change.label, change.reference, change.predicted))
    return Tile(
        picture=pictures.uri(change.path),
        alt=f"a photo of {label}, which FP32 calls {before} and INT8 calls {after}",
        right=change.label == change.reference,
        answer=f"FP32: {before} {percent(change.reference_score, 0)}",
        also=TileAnswer(f"INT8: {after} {percent(change.score, 0)}", change.label == change.predicted),
        lines=_lines([f"is {label}"], change.path, pictures),
    )


def _changes(report: Report, runners: Iterable[str]) -> str:
    photos = report.test_photos
    counts = [f"{runner} {photos - report.comparison[runner].agreed:,}" for runner in runners]
    return f"Of {many(photos, 'photo')}, these runners differ from TensorFlow: {joined(counts)}."


def _answered(answer: EvaluatedPhoto, pictures: _Pictures) -> Tile:
    label, predicted = shown(answer.label), shown(answer.predicted)
    right = answer.label == answer.predicted
    return Tile(
        picture=pictures.uri(answer.path),
        alt=f"a photo of {label}" if right else f"a photo of {label}, taken for {predicted}",
        right=right,
        answer=f"{predicted} {percent(answer.score, 0)}",
        lines=_lines([] if right else [f"is {label}"], answer.path, pictures),
    )


def _changed(runner: str, change: ChangedAnswer, pictures: _Pictures) -> Tile:
    label, before, after = map(shown, (change.label, change.reference, change.predicted))
    lines = [f"TensorFlow: {before} {percent(change.reference_score, 0)}", f"is {label}", runner]
    return Tile(
        picture=pictures.uri(change.path),
        alt=f"a photo of {label}, which TensorFlow calls {before} and {runner} calls {after}",
        right=change.label == change.predicted,
        answer=f"{after} {percent(change.score, 0)}",
        lines=_lines(lines, change.path, pictures),
    )


def _lines(lines: Iterable[str], path: str, pictures: _Pictures) -> list[str]:
    """Return the lines of a tile; with the file's name and folder if there is no thumbnail."""
    return [*lines, *([] if pictures.uri(path) else ["/".join(shown(path).split("/")[-2:])])]


def _jpeg(photo: Photo, white: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(photo_to_array(photo, replace(_THUMBNAIL, white=white))).save(
        out, "JPEG", quality=_QUALITY, optimize=True
    )
    return out.getvalue()
