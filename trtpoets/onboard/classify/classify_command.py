"""Photos, folders, videos and cameras to answers, one line of JSON each, for as long as they come."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Callable, Iterable, Iterator, NamedTuple, Sequence, Union

import numpy as np

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import photo_to_array, pixels_to_array, usable_cores
from trtpoets.core.threads import map_ahead
from trtpoets.core.types import ModelSpec
from trtpoets.device.runners.base import Runner
from trtpoets.onboard.classify.sources import Kind, Source, photos_in
from trtpoets.onboard.classify.video import Frames


@dataclass(frozen=True)
class PhotoAnswer:
    """What a photo shows: labels with their scores, best first."""

    photo: str
    runner: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True)
class PhotoFailure:
    """Why a photo can't be used."""

    photo: str
    error: str


@dataclass(frozen=True)
class FrameAnswer:
    """What a frame shows. `frame` is its number, `dropped` counts the frames that came and went before it.

    `ms` is from its reading to its scores.
    """

    source: str
    frame: int
    dropped: int
    ms: float
    runner: str
    labels: tuple[str, ...]
    scores: tuple[float, ...]


Line = Union[PhotoAnswer, PhotoFailure, FrameAnswer]

Tell = Callable[[Line], None]
"""Takes one line: an object of JSON."""


@dataclass(frozen=True)
class ClassifyConfig:
    """What is told of each photo, and when to stop.

    The `top` labels whose score is at least `threshold` are told. Photo files are scored `batch` at a time, frames one
    by one. A camera that gives nothing for `patience` seconds is given up. `frames` 0 means as many as there are.
    """

    top: int = 1
    threshold: float = 0.0
    batch: int = 8
    patience: float = 30.0
    frames: int = 0

    def __post_init__(self) -> None:
        if self.top < 1 or self.batch < 1 or self.frames < 0:
            raise BadInput(
                f"the best {self.top} labels, {self.batch} photos at a time, {self.frames} frames",
                hint="give 1 or more; 0 frames means all",
                code="TP7006",
            )
        if not 0 <= self.threshold <= 1 or not self.patience > 0:
            raise BadInput(
                f"a threshold of {self.threshold:g}, {self.patience:g} seconds of patience",
                hint="scores are between 0 and 1, and time is above 0",
                code="TP7007",
            )


@dataclass
class Count:
    """How many photos and frames were answered, how many could not be, and how many frames were dropped."""

    answered: int = 0
    failed: int = 0
    dropped: int = 0


def classify(
    runner: Runner, sources: Sequence[Source], config: ClassifyConfig, tell: Tell, stop: threading.Event
) -> Count:
    """Answer every photo and frame of `sources` in turn through an entered runner, until `stop` is set.

    After a photo that can't be used the next one follows. Raises RunFailed for a camera that is gone,
    MissingDependency where there is no OpenCV for one, BadInput.
    """
    count = Count()
    for source in sources:
        if stop.is_set():
            break
        if source.kind in (Kind.PHOTO, Kind.FOLDER):
            _photos(runner, source, config, tell, stop, count)
        else:
            _frames(runner, source, config, tell, stop, count)
    return count


def _photos(
    runner: Runner, source: Source, config: ClassifyConfig, tell: Tell, stop: threading.Event, count: Count
) -> None:
    files = photos_in(source.path) if source.kind is Kind.FOLDER else iter([(source.path, None)])
    batch = config.batch if source.kind is Kind.FOLDER else 1
    # Decoding goes ahead of the engine, by a batch at most.
    decoded = map_ahead(lambda each: _decode(each, runner.spec), _places(runner, files, batch), usable_cores(), batch)
    try:
        for chunk in iter(lambda: list(islice(decoded, batch)), []):
            good = [place.row for place, error in chunk if error is None]
            rows = chunk[0][0].rows
            for target, row in enumerate(good):  # those that could be decoded, one after the other
                if target != row:
                    rows[target] = rows[row]
            scores = iter(runner.infer(rows[: len(good)]) if good else ())
            for (path, *_), error in chunk:
                if stop.is_set():
                    return
                if error is not None:
                    count.failed += 1
                    tell(PhotoFailure(str(path), error.message))
                else:
                    count.answered += 1
                    tell(PhotoAnswer(str(path), runner.name, *_best(runner, next(scores), config)))
    finally:
        decoded.close()


class _Place(NamedTuple):
    """A photo file, what is wrong with it already, and where its pixels go."""

    path: Path
    problem: BadPhoto | None
    rows: np.ndarray
    row: int


def _places(runner: Runner, files: Iterable[tuple[Path, BadPhoto | None]], batch: int) -> Iterator[_Place]:
    """Each file with its place in the runner's memory, a batch after the other."""
    rows = np.empty(0)
    for number, (path, problem) in enumerate(files):
        if number % batch == 0:
            rows = runner.input_buffer(batch)
        yield _Place(path, problem, rows, number % batch)


def _decode(place: _Place, spec: ModelSpec) -> tuple[_Place, BadPhoto | None]:
    """Decode a photo into its place; or why it can't be."""
    if place.problem is not None:
        return place, place.problem
    try:
        photo_to_array(place.path, spec.preprocess, place.rows[place.row])
    except BadPhoto as error:
        return place, error
    return place, None


def _frames(
    runner: Runner, source: Source, config: ClassifyConfig, tell: Tell, stop: threading.Event, count: Count
) -> None:
    with Frames(source, config.patience) as frames:
        for place, frame in enumerate(frames.until(stop), 1):
            photos = runner.input_buffer(1)
            pixels_to_array(frame.pixels, runner.spec.preprocess, photos[0])
            scores = runner.infer(photos)[0]
            took = 1000 * (time.monotonic() - frame.read_at)
            count.answered += 1
            best = _best(runner, scores, config)
            tell(FrameAnswer(source.name, frame.number, frames.dropped, round(took, 3), runner.name, *best))
            if place == config.frames:
                break
        count.dropped += frames.dropped


def _best(runner: Runner, scores: np.ndarray, config: ClassifyConfig) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The labels that are told, best first, and their scores."""
    best = [i for i in np.argsort(-scores, kind="stable")[: config.top] if scores[i] >= config.threshold]
    return tuple(runner.spec.labels[i] for i in best), tuple(float(scores[i]) for i in best)
