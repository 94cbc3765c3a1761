"""Photos as small pictures inside the page: bounded in number and in bytes."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

_log = logging.getLogger(__name__)

_SIDE = 160
_QUALITY = 76
_THUMBNAIL = Preprocess(_SIDE, _SIDE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), Resize.CROP)
_TILES = 12
_BUDGET = 1_200_000
"""Bytes of all pictures of a page together, as base64."""


@dataclass
class _Pictures:
    """Turns photos into data URIs while the budget lasts. 16-bit photos are shown with the classifier's white.

    `changed` are photos that are not shown, because their files are no longer what was judged.
    """

    photos: Mapping[str, Photo]
    left: int
    white: int
    known: dict[str, str] = field(default_factory=dict)
    changed: list[Photo] = field(default_factory=list)

    def uri(self, path: str) -> str:
        """The photo as a data URI; empty where the photo is gone, damaged, not of this run, or the page is full."""
        if path not in self.known:
            photo = self.photos.get(path)
            self.known[path] = self._made(photo) if photo else ""
        return self.known[path]

    def _made(self, photo: Photo) -> str:
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
class Galleries:
    """Sections of tiles for the page: what INT8 changed, None where nothing, and all others in order."""

    int8: Mapping[str, Any] | None
    others: Sequence[Mapping[str, Any]]


def galleries_from_report(report: Mapping[str, Any], photos: Mapping[str, Photo]) -> Galleries:
    """Answers that changed, INT8's apart where the page has a section on it; sure mistakes; right answers.

    A photo whose file was changed since is not shown: a warning counts these and names one.
    """
    preprocess = (report["spec"] or {}).get("preprocess") or {}
    white = int(preprocess.get("white", FULL_WHITE))
    pictures = _Pictures(photos, _BUDGET, white)
    samples = report["samples"]
    changed = {runner: changes for runner, changes in samples["changed"].items() if changes}
    narrow = _int8_runner(report, changed) if report["quantisation"].get("int8") else ""
    int8 = _changed_by_int8(report, narrow, changed.pop(narrow), pictures) if narrow else None
    every = [(runner, change) for runner, changes in changed.items() for change in changes]
    mistakes, right = samples["mistakes"], samples["right"]
    found = [
        {
            "title": "Answers that changed on the way",
            "note": _changes(report, changed),
            "tiles": [_changed(runner, change, pictures) for runner, change in every[:_TILES]],
        },
        {
            "title": "Its surest mistakes",
            "note": "Wrong answers, the surest first: a wrong label in the folder shows up here too.",
            "tiles": [_answered(answer, pictures) for answer in mistakes[:_TILES]],
        },
        {
            "title": "Right answers",
            "note": "Some of each class, as they come.",
            "tiles": [_answered(answer, pictures) for answer in right[:_TILES]],
        },
    ]
    if pictures.changed:
        space = Workspace(Path(report["engines_folder"] or DEFAULT_ENGINES), report["name"])
        _log.warning(
            "%s of the page were changed since they were judged, %s for one, and are not shown; to see what to do: %s",
            many(len(pictures.changed), "photo"),
            pictures.changed[0].path,
            space.command("evaluate", "--force"),
        )
    return Galleries(int8, [each for each in found if each["tiles"]])


def _int8_runner(report: Mapping[str, Any], changed: Iterable[str]) -> str:
    """The INT8 runner whose changes are shown: an engine where one ran, as that is what ships; else the ONNX file's."""
    known = [runner_named(report, name) for name in changed]
    runners = [each for each in known if each.precision is Precision.INT8 and each.library is not Library.TFLITE]
    return next((each.name for each in sorted(runners, key=lambda each: not each.is_engine)), "")


def _changed_by_int8(
    report: Mapping[str, Any], runner: str, changes: Sequence[Mapping[str, Any]], pictures: _Pictures
) -> dict[str, Any]:
    compared, photos = report["comparison"][runner], report["test_photos"]
    lost, won = compared["only_reference"], compared["only_runner"]
    shown_of_all = f" The first {_TILES} are shown." if len(changes) > _TILES else ""
    return {
        "title": "Answers that INT8 changed",
        "note": f"{runner} answers {photos - compared['agreed']:,} of {many(photos, 'test photo')} otherwise than "
        f"TensorFlow in FP32: {many(lost, 'right answer')} lost, {won:,} won.{shown_of_all}",
        "tiles": [_beside(change, pictures) for change in changes[:_TILES]],
    }


def _beside(change: Mapping[str, Any], pictures: _Pictures) -> dict[str, Any]:
    """A tile with FP32's answer and INT8's, each with its score."""
    label, before, after = (shown(change[word]) for word in ("label", "reference", "predicted"))
    after_said = {
        "said": f"INT8: {after} {percent(change['score'], 0)}",
        "right": change["label"] == change["predicted"],
    }
    return {
        "picture": pictures.uri(change["path"]),
        "alt": f"a photo of {label}, which FP32 calls {before} and INT8 calls {after}",
        "right": change["label"] == change["reference"],
        "said": f"FP32: {before} {percent(change['reference_score'], 0)}",
        "also": after_said,
        "lines": _lines([f"is {label}"], change["path"], pictures),
    }


def _changes(report: Mapping[str, Any], runners: Iterable[str]) -> str:
    photos = report["test_photos"]
    counts = {runner: photos - report["comparison"][runner]["agreed"] for runner in runners}
    told = joined([f"{runner} {count:,}" for runner, count in counts.items()])
    return f"Of {many(photos, 'photo')}, these runners answer otherwise than TensorFlow: {told}."


def _answered(answer: Mapping[str, Any], pictures: _Pictures) -> dict[str, Any]:
    label, predicted = shown(answer["label"]), shown(answer["predicted"])
    right = answer["label"] == answer["predicted"]
    return {
        "picture": pictures.uri(answer["path"]),
        "alt": f"a photo of {label}" if right else f"a photo of {label}, taken for {predicted}",
        "right": right,
        "said": f"{predicted} {percent(answer['score'], 0)}",
        "lines": _lines([] if right else [f"is {label}"], answer["path"], pictures),
    }


def _changed(runner: str, change: Mapping[str, Any], pictures: _Pictures) -> dict[str, Any]:
    label, before, after = (shown(change[word]) for word in ("label", "reference", "predicted"))
    lines = [f"TensorFlow: {before} {percent(change['reference_score'], 0)}", f"is {label}", runner]
    return {
        "picture": pictures.uri(change["path"]),
        "alt": f"a photo of {label}, which TensorFlow calls {before} and {runner} calls {after}",
        "right": change["label"] == change["predicted"],
        "said": f"{after} {percent(change['score'], 0)}",
        "lines": _lines(lines, change["path"], pictures),
    }


def _lines(lines: Iterable[str], path: str, pictures: _Pictures) -> list[str]:
    """Without a picture, the file's name has to do, with its folder."""
    return [*lines, *([] if pictures.uri(path) else ["/".join(shown(path).split("/")[-2:])])]


def _jpeg(photo: Photo, white: int) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(photo_to_array(photo, replace(_THUMBNAIL, white=white))).save(
        out, "JPEG", quality=_QUALITY, optimize=True
    )
    return out.getvalue()
