"""The `classify` command: classifies photos, folders, videos and cameras, with one line of JSON for each result."""

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

Report = Callable[[Line], None]
"""Called with each result, an object of JSON."""


@dataclass(frozen=True)
class ClassifyConfig:
    """The options of `classify`.

    The `top` labels with a score of at least `threshold` are reported. Photo files run in batches of `batch`, frames
    one by one. A camera without a frame for `patience` seconds is given up. `frames` is the number of frames after
    which to stop; 0 means no limit.
    """

    top: int = 1
    threshold: float = 0.0
    batch: int = 8
    patience: float = 30.0
    frames: int = 0

    def __post_init__(self) -> None:
        if self.top < 1 or self.batch < 1 or self.frames < 0:
            raise BadInput(
                f"top and batch must be at least 1, and frames at least 0, not {self.top}, {self.batch}, {self.frames}",
                hint="give for example --top 1 --batch 8 --frames 0",
                code="TP7006",
            )
        if not 0 <= self.threshold <= 1 or not self.patience > 0:
            raise BadInput(
                f"the threshold must be 0 to 1, not {self.threshold:g}, and patience above 0, not {self.patience:g}",
                hint="give for example --threshold 0.5 --patience 30",
                code="TP7007",
            )


@dataclass
class Count:
    """The number of classified photos and frames, of failed photos, and of dropped frames."""

    classified: int = 0
    failed: int = 0
    dropped: int = 0


def classify(
    runner: Runner, sources: Sequence[Source], config: ClassifyConfig, report: Report, stop: threading.Event
) -> Count:
    """Classify all photos and frames of `sources` in order with an entered runner, until `stop` is set.

    After a photo that can't be used the next one follows. Raises RunFailed for a camera that is gone,
    MissingDependency where there is no OpenCV for one, BadInput.
    """
    count = Count()
    for source in sources:
        if stop.is_set():
            break
        if source.kind in (Kind.PHOTO, Kind.FOLDER):
            _photos(runner, source, config, report, stop, count)
        else:
            _frames(runner, source, config, report, stop, count)
    return count


def _photos(
    runner: Runner, source: Source, config: ClassifyConfig, report: Report, stop: threading.Event, count: Count
) -> None:
    files = photos_in(source.path) if source.kind is Kind.FOLDER else iter([(source.path, None)])
    batch = config.batch if source.kind is Kind.FOLDER else 1
    # Photos are decoded at most one batch ahead of the engine.
    decoded = map_ahead(lambda place: _decode(place, runner.spec), _places(runner, files, batch), usable_cores(), batch)
    try:
        for chunk in iter(lambda: list(islice(decoded, batch)), []):
            good = [place.row for place, error in chunk if error is None]
            rows = chunk[0][0].rows
            for target, row in enumerate(good):  # move the decoded photos to the first rows
                if target != row:
                    rows[target] = rows[row]
            scores = iter(runner.infer(rows[: len(good)]) if good else ())
            for (path, *_), error in chunk:
                if stop.is_set():
                    return
                if error is not None:
                    count.failed += 1
                    report(PhotoFailure(str(path), error.message))
                else:
                    count.classified += 1
                    report(PhotoAnswer(str(path), runner.name, *_best(runner, next(scores), config)))
    finally:
        decoded.close()


class _Place(NamedTuple):
    """A photo file, its problem if it has one, and the row of the array for its pixels."""

    path: Path
    problem: BadPhoto | None
    rows: np.ndarray
    row: int


def _places(runner: Runner, files: Iterable[tuple[Path, BadPhoto | None]], batch: int) -> Iterator[_Place]:
    """Yield each file with its row in the runner's input buffer, one buffer per batch."""
    rows = np.empty(0)
    for number, (path, problem) in enumerate(files):
        if number % batch == 0:
            rows = runner.input_buffer(batch)
        yield _Place(path, problem, rows, number % batch)


def _decode(place: _Place, spec: ModelSpec) -> tuple[_Place, BadPhoto | None]:
    """Decode a photo into its row; returns the error if that fails."""
    if place.problem is not None:
        return place, place.problem
    try:
        photo_to_array(place.path, spec.preprocess, place.rows[place.row])
    except BadPhoto as error:
        return place, error
    return place, None


def _frames(
    runner: Runner, source: Source, config: ClassifyConfig, report: Report, stop: threading.Event, count: Count
) -> None:
    with Frames(source, config.patience) as frames:
        for count_of_frames, frame in enumerate(frames.until(stop), 1):
            photos = runner.input_buffer(1)
            pixels_to_array(frame.pixels, runner.spec.preprocess, photos[0])
            scores = runner.infer(photos)[0]
            elapsed_ms = 1000 * (time.monotonic() - frame.read_at)
            count.classified += 1
            best = _best(runner, scores, config)
            report(FrameAnswer(source.name, frame.number, frames.dropped, round(elapsed_ms, 3), runner.name, *best))
            if count_of_frames == config.frames:
                break
        count.dropped += frames.dropped


def _best(runner: Runner, scores: np.ndarray, config: ClassifyConfig) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The labels that are printed, best first, and their scores."""
    best = [i for i in np.argsort(-scores, kind="stable")[: config.top] if scores[i] >= config.threshold]
    return tuple(runner.spec.labels[i] for i in best), tuple(float(scores[i]) for i in best)
