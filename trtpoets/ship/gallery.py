"""Photos as small pictures inside the page: bounded in number and in bytes."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import BadPhoto
from trtpoets.core.images import photo_to_array
from trtpoets.core.spec import Preprocess, Resize
from trtpoets.ship.words import joined, many, percent, shown

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from trtpoets.core.spec import Photo

_SIDE = 160
_QUALITY = 76
_THUMBNAIL = Preprocess(_SIDE, _SIDE, (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), Resize.CROP)
_TILES = 12
_BUDGET = 1_200_000
"""Bytes of all pictures of a page together, as base64."""


@dataclass
class _Pictures:
    """Turns photos into data URIs while the budget lasts."""

    photos: Mapping[str, Photo]
    left: int
    known: dict[str, str] = field(default_factory=dict)

    def uri(self, path: str) -> str:
        """The photo as a data URI; empty where the photo is gone, damaged, not of this run, or the page is full."""
        if path not in self.known:
            photo = self.photos.get(path)
            self.known[path] = self._made(photo) if photo else ""
        return self.known[path]

    def _made(self, photo: Photo) -> str:
        try:
            content = _jpeg(photo)
        except BadPhoto:
            return ""
        uri = f"data:image/jpeg;base64,{base64.b64encode(content).decode()}"
        if len(uri) > self.left:
            return ""
        self.left -= len(uri)
        return uri


def galleries_from_report(report: Mapping[str, Any], photos: Mapping[str, Photo]) -> list[dict[str, Any]]:
    """Sections of tiles for the page: answers that changed, sure mistakes, right answers of every class."""
    pictures = _Pictures(photos, _BUDGET)
    samples = report["samples"]
    changed = [(runner, change) for runner, changes in samples["changed"].items() for change in changes]
    mistakes, right = samples["mistakes"], samples["right"]
    found = [
        {
            "title": "Answers that changed on the way",
            "note": _changes(report),
            "tiles": [_changed(runner, change, pictures) for runner, change in changed[:_TILES]],
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
    return [each for each in found if each["tiles"]]


def _changes(report: Mapping[str, Any]) -> str:
    photos = report["test_photos"]
    counts = {runner: photos - compared["agreed"] for runner, compared in report["comparison"].items()}
    told = joined([f"{runner} {count:,}" for runner, count in counts.items() if count])
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


def _jpeg(photo: Photo) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(photo_to_array(photo.path, _THUMBNAIL)).save(out, "JPEG", quality=_QUALITY, optimize=True)
    return out.getvalue()
