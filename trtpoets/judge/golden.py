"""Golden photos: a few preprocessed test photos, and the scores of each precision on the machine that made the bundle.

They are part of a bundle. If the scores on a device differ, it has another network, another preprocessing, or a library
that computes other values. The pixels are stored after decoding and resizing, as BMP, so that they do not depend on the
device's decoder, and the same pixels always give the same file.
"""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Iterable, Mapping, Sequence

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import read_json, write_bytes, write_json
from trtpoets.core.images import bytes_to_array, photo_to_array
from trtpoets.core.reading import read_bytes, read_errors
from trtpoets.core.serialization import OPTIONAL, parsed, to_json
from trtpoets.core.types import Int8Form, ModelSpec, Photo, Precision, Preprocess, check_side
from trtpoets.device.runners.base import Runner

COUNT = 12
"""The number of photos in a bundle, unless there are fewer."""

INDEX = "golden.json"

_FORMAT = 1

_MIN_TOLERANCE = {Precision.FP32: 5e-3, Precision.FP16: 5e-3, Precision.INT8: 2e-2}
"""Differences of a score that are always allowed, by precision."""

_MAX_TOLERANCE = 0.5
"""The largest tolerance."""

_TIMES = 3.0
"""The tolerance as a multiple of the measured difference, as other libraries round in other places."""

_COPY_AGAIN = "copy the bundle here again"

_HEADER_BYTES = 1 << 10
"""An upper limit of the size of a BMP without its pixels."""


@dataclass(frozen=True, eq=False)
class GoldenPhoto:
    """A preprocessed photo: `pixels` is uint8 (H, W, 3), `label` its true label.

    `file` is its name in the folder, `sha256` that of the file, `source` that of the photo it was made from.
    """

    file: str
    label: str
    sha256: str
    source: str
    pixels: np.ndarray = field(repr=False)


@dataclass(frozen=True, eq=False)
class Expected:
    """The expected scores of a precision, float32 (photos, C), their absolute `tolerance`, and the `reason` for it."""

    scores: np.ndarray = field(repr=False)
    tolerance: float
    reason: str


@dataclass(frozen=True, eq=False)
class Golden:
    """The golden photos, and the expected scores of each precision ("fp32", "fp16", "int8").

    `cpu_form` are those of int8.cpu.onnx, None without that file.
    """

    photos: tuple[GoldenPhoto, ...]
    expected: Mapping[str, Expected]
    cpu_form: Expected | None = None

    def expected_of(self, precision: Precision, form: Int8Form = Int8Form.TENSORRT) -> Expected | None:
        """Return the expected scores of a file; None if there are none."""
        return self.cpu_form if form is Int8Form.CPU else self.expected.get(precision.value)

    @property
    def pixels(self) -> np.ndarray:
        """All photos as one batch: uint8 (photos, H, W, 3)."""
        return np.stack([photo.pixels for photo in self.photos])


@dataclass(frozen=True)
class Verdict:
    """The difference between scores and the expected scores.

    `max_difference` is of any score of any photo, `worst` the file of that photo. `same_answers` of `photos` have the
    same highest score; near ties may change within the tolerance, so a changed answer alone is not a failure.
    """

    precision: Precision
    passed: bool
    max_difference: float
    tolerance: float
    worst: str
    same_answers: int
    photos: int
    reason: str


def golden_photos(photos: Iterable[Photo], preprocess: Preprocess, count: int = COUNT) -> tuple[GoldenPhoto, ...]:
    """Choose `count` of the test photos, in turn from each label, and preprocess them.

    The choice depends on the photos' hashes alone. Raises BadInput where there are none, BadPhoto.
    """
    rows: dict[str, list[Photo]] = {}
    for photo in sorted(photos, key=lambda photo: (photo.label, photo.sha256)):
        rows.setdefault(photo.label, []).append(photo)
    if not rows:
        raise BadInput(
            "there are no test photos for the golden check of a bundle",
            hint="add photos, and train again",
            code="TP5043",
        )
    longest = max(len(row) for row in rows.values())
    turns = [row[place] for place in range(longest) for row in rows.values() if place < len(row)]
    return tuple(_prepared(photo, number, preprocess) for number, photo in enumerate(turns[:count]))


def golden_from_runners(
    photos: Sequence[GoldenPhoto],
    runners: Mapping[Precision, Runner],
    others: Mapping[Precision, Runner] | None = None,
) -> Golden:
    """Compute the expected scores with the runner of each precision, FP32 included. Each runner is entered here.

    `others` compute a precision in another way: their difference from the first determines the tolerance. Raises what
    runners raise.
    """
    pixels = np.stack([photo.pixels for photo in photos])
    scores = _scores(runners, pixels)
    elsewhere = _scores(others or {}, pixels)
    return Golden(tuple(photos), {p.value: _expected(p, scores, elsewhere) for p in scores})


def expected_of_int8(photos: Sequence[GoldenPhoto], runner: Runner, other: Runner) -> Expected:
    """Return the expected scores of another INT8 file. `other` computes it in another way, as in `golden_from_runners`.

    Raises what runners raise.
    """
    pixels = np.stack([photo.pixels for photo in photos])
    scores, elsewhere = (_scores({Precision.INT8: item}, pixels) for item in (runner, other))
    return _expected(Precision.INT8, scores, elsewhere)


def _scores(runners: Mapping[Precision, Runner], pixels: np.ndarray) -> dict[Precision, np.ndarray]:
    scores = {}
    for precision, runner in runners.items():
        with runner:
            scores[precision] = runner.infer(pixels)
    return scores


@dataclass(frozen=True)
class _PhotoRow:
    """A photo in golden.json, as in GoldenPhoto."""

    file: str
    label: str
    sha256: str
    source: str


@dataclass(frozen=True)
class _ExpectedRow:
    """The expected scores of a precision in golden.json, as in Expected."""

    tolerance: float
    reason: str
    scores: tuple[tuple[float, ...], ...]


@dataclass(frozen=True)
class _Document:
    """The content of golden.json; `height` and `width` are in pixels. `cpu_form` is for int8.cpu.onnx."""

    format: int
    height: int
    width: int
    photos: tuple[_PhotoRow, ...]
    expected: Mapping[Precision, _ExpectedRow]
    cpu_form: _ExpectedRow | None = field(default=None, metadata=OPTIONAL)


def write_golden(golden: Golden, folder: Path) -> None:
    """Write golden.json and the photos into `folder`. Raises StorageFailed."""
    for photo in golden.photos:
        write_bytes(folder / photo.file, _bmp(photo.pixels))
    height, width = golden.photos[0].pixels.shape[:2]
    document = _Document(
        format=_FORMAT,
        height=height,
        width=width,
        photos=tuple(_PhotoRow(photo.file, photo.label, photo.sha256, photo.source) for photo in golden.photos),
        expected={Precision(precision): _row_of(expected) for precision, expected in golden.expected.items()},
        cpu_form=None if golden.cpu_form is None else _row_of(golden.cpu_form),
    )
    write_json(folder / INDEX, to_json(document))


def _row_of(expected: Expected) -> _ExpectedRow:
    # The shortest decimal number that is read as the same float32.
    scores = tuple(tuple(float(str(score)) for score in row) for row in expected.scores)
    return _ExpectedRow(tolerance=expected.tolerance, reason=expected.reason, scores=scores)


def read_golden(folder: Path, spec: ModelSpec | None = None) -> Golden:
    """Read the folder that `write_golden` wrote, and check that it belongs to the model with this `spec`.

    Raises MissingArtefact, or BadArtefact that names the file.
    """
    path = folder / INDEX
    value = read_json(path)
    try:
        document = parsed(_Document, value)
        size = Preprocess(check_side(document.height), check_side(document.width), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
        if spec is not None and (size.height, size.width) != (spec.preprocess.height, spec.preprocess.width):
            raise ValueError(
                f"its photos have {size.height} x {size.width} pixels, and the model takes "
                f"{spec.preprocess.height} x {spec.preprocess.width}"
            )
        photos = tuple(_read_photo(folder, entry, size) for entry in document.photos)
        expected = {precision.value: _read_expected(row) for precision, row in document.expected.items()}
        cpu_form = None if document.cpu_form is None else _read_expected(document.cpu_form)
        entries = [*expected.values(), *([] if cpu_form is None else [cpu_form])]
        if not photos or any(entry.scores.shape[0] != len(photos) for entry in entries):
            raise ValueError(f"its scores are not those of {len(photos)} photos")
        if spec is not None and any(entry.scores.shape[1] != len(spec.labels) for entry in entries):
            raise ValueError(f"its scores are not those of {len(spec.labels)} classes")
    except ValueError as error:
        raise BadArtefact(f"{path} is damaged: {error}", hint=_COPY_AGAIN, code="TP5044") from error
    return Golden(photos, expected, cpu_form)


def check_scores_against(
    golden: Golden, precision: Precision, scores: np.ndarray, form: Int8Form = Int8Form.TENSORRT
) -> Verdict:
    """Compare scores, float32 (photos, C), with the expected ones of a precision, and for INT8 of a form.

    Raises BadArtefact, BadInput.
    """
    expected = golden.expected_of(precision, form)
    if expected is None:
        precisions = ", ".join(golden.expected)
        raise BadArtefact(
            f"the golden photos have scores of {precisions}, not of {precision.value}", hint=_COPY_AGAIN, code="TP5045"
        )
    if scores.shape != expected.scores.shape:
        raise BadInput(
            f"scores must have the shape {expected.scores.shape}, not {scores.shape}",
            hint="score all golden photos",
            code="TP5046",
        )
    # A difference that is not a number becomes the largest float32, as JSON has no NaN.
    gaps = np.nan_to_num(np.abs(scores - expected.scores).max(axis=1), nan=np.finfo(np.float32).max)
    worst = int(gaps.argmax())
    return Verdict(
        precision=precision,
        passed=bool(gaps[worst] <= expected.tolerance),
        max_difference=float(gaps[worst]),
        tolerance=expected.tolerance,
        worst=golden.photos[worst].file,
        same_answers=int((scores.argmax(axis=1) == expected.scores.argmax(axis=1)).sum()),
        photos=len(golden.photos),
        reason=expected.reason,
    )


def _expected(
    precision: Precision, scores: Mapping[Precision, np.ndarray], others: Mapping[Precision, np.ndarray]
) -> Expected:
    least = _MIN_TOLERANCE[precision]
    if precision in others:
        moved, what = _gap(scores[precision], others[precision]), "computed in another way here, they move"
    elif Precision.FP16 in scores and precision is not Precision.INT8:
        moved, what = _gap(scores[Precision.FP16], scores[Precision.FP32]), "FP16 moves FP32's scores"
        if precision is Precision.FP32:
            what = f"TensorRT may multiply in TF32, which rounds as FP16 does; {what}"
    else:
        moved, what = _gap(scores[precision], scores[Precision.FP32]), "it moves FP32's scores"
    tolerance = min(max(least, float(f"{_TIMES * moved:.3g}")), _MAX_TOLERANCE)
    reason = (
        f"{what} by up to {moved:.2g}; {_TIMES:g} times that is allowed, {least:g} at least, {_MAX_TOLERANCE:g} at most"
    )
    return Expected(scores[precision], tolerance, reason)


def _gap(some: np.ndarray, others: np.ndarray) -> float:
    return float(np.abs(some - others).max())


def _prepared(photo: Photo, number: int, preprocess: Preprocess) -> GoldenPhoto:
    pixels = photo_to_array(photo, preprocess)
    sha256 = hashlib.sha256(_bmp(pixels)).hexdigest()
    return GoldenPhoto(f"{number:03}.bmp", photo.label, sha256, photo.sha256, pixels)


def _bmp(pixels: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="BMP")
    return stream.getvalue()


def _read_photo(folder: Path, entry: _PhotoRow, size: Preprocess) -> GoldenPhoto:
    file = entry.file
    if Path(file).name != file:
        raise ValueError(f"{file!r} is not a file name")
    path = folder / file
    with read_errors(BadArtefact, path, hint=_COPY_AGAIN, code="TP5047"):
        content = read_bytes(path, size.height * size.width * 3 + 4 * size.height + _HEADER_BYTES)
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise BadArtefact(
            f"{path} was changed or damaged: its sha256 is not that of {INDEX}", hint=_COPY_AGAIN, code="TP5048"
        )
    pixels = bytes_to_array(content, size, str(path))
    return GoldenPhoto(file, entry.label, entry.sha256, entry.source, pixels)


def _read_expected(row: _ExpectedRow) -> Expected:
    scores = np.array(row.scores, dtype=np.float32)
    if scores.ndim != 2 or not np.isfinite(scores).all() or not 0 < row.tolerance < 1:
        raise ValueError("its scores must be finite numbers, and its tolerance between 0 and 1")
    return Expected(scores, row.tolerance, row.reason)
