"""The details that each stage keeps in the card of what it made. Fields with a default are missing in older cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trtpoets.adopt.trial import Trial
from trtpoets.convert.fp16_remainder import RemainderNotes
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges
from trtpoets.convert.int8.fidelity import Fidelity
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.quantize_int8 import Int8Notes
from trtpoets.convert.int8.range_histograms import WorstLayer
from trtpoets.convert.parity import Parity
from trtpoets.convert.precision import Fp16Notes
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.types import EngineCard, Precision
from trtpoets.judge.gate import Gate
from trtpoets.judge.head_notes import HeadNotes
from trtpoets.train.dataset import DatasetFile
from trtpoets.train.head import Training


@dataclass(frozen=True)
class ExportDetails:
    """Of fp32.onnx. `made_from` identifies the classifier, `command` writes the file again.

    `rounded` is for an adopted integer network, which fp32.onnx does not round as: the parity of a variant that does.
    """

    opset: int
    parity: Parity
    made_from: str
    command: str = ""
    rounded: Parity | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Fp16Details:
    """Of fp16.onnx. `made_from` is the sha256 of fp32.onnx, `dataset` the hash of the dataset."""

    notes: Fp16Notes
    made_from: str
    dataset: str
    command: str = ""


@dataclass(frozen=True)
class Advice:
    """The precision to ship, and why."""

    precision: Precision
    why: str


@dataclass(frozen=True)
class Recommended(Advice):
    """Advice as far as `photos` validation photos tell, and the gate that it comes from."""

    photos: int = 0
    gate: Gate | None = None


@dataclass(frozen=True)
class Int8FileNotes(Int8Notes):
    """Int8Notes with what was measured on the file as it is shipped. `head` is None where no head was fitted."""

    histograms: tuple[WorstLayer, ...] = ()
    head: HeadNotes | None = field(default=None, metadata=OPTIONAL)
    recommended: Recommended | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord(CalibrationConfig):
    """The calibration of int8.onnx. `method` is the one that was chosen, `asked` the one that was asked for.

    `hash` is that of the ranges, `per_class` counts calibration photos, `trials` is as in Ranges.
    """

    asked: Method
    per_class: Mapping[str, int]
    hash: str
    trials: Mapping[str, Fidelity]


@dataclass(frozen=True)
class Int8Details:
    """Of int8.onnx. `made_from` is the sha256 of fp32.onnx, `dataset` the hash of the dataset."""

    notes: Int8FileNotes
    calibration: CalibrationRecord
    config: Int8Config
    made_from: str
    dataset: str
    command: str = ""


@dataclass(frozen=True)
class HalfDetails:
    """Of int8.half.onnx. `made_from` is the sha256 of int8.onnx."""

    made_from: str
    notes: RemainderNotes


@dataclass(frozen=True)
class TfliteFp32Details:
    """Of fp32.tflite. `classifier` identifies the classifier that it was made from."""

    classifier: str
    parity: Parity


@dataclass(frozen=True)
class TfliteCalibration:
    """How many photos TFLite's converter calibrated with, and the seed that chose them."""

    photos: int
    seed: int


@dataclass(frozen=True)
class Judged:
    """The gate of a file on so many validation photos; None where there are none."""

    photos: int
    gate: Gate | None


@dataclass(frozen=True)
class TfliteInt8Details:
    """Of int8.tflite. `classifier` identifies the classifier that it was made from, `dataset` is the dataset's hash."""

    classifier: str
    dataset: str
    calibration: TfliteCalibration
    judged: Judged


@dataclass(frozen=True)
class ClassifierDetails:
    """Of the classifier's folder. `dataset` is the hash of the photos that it was trained on, None for none of them.

    `trial` is how the preprocessing of an adopted classifier was found; None without photos.
    """

    weights_id: str
    dataset: str | None
    command: str = ""
    trial: Trial | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Accuracy:
    """Accuracy on test photos with its 95 % interval, copies counted as groups; None where there are none."""

    test_photos: int
    test_groups: int
    test_accuracy: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True, kw_only=True)
class CopiesDetails:
    """How many families of near-copies there are, and what the accuracy would be, or is, without keeping them together.

    What does not apply is None, and left out of training.json.
    """

    families: int | None = field(default=None, metadata=OPTIONAL)
    families_photos: int | None = field(default=None, metadata=OPTIONAL)
    together: Accuracy | None = field(default=None, metadata=OPTIONAL)
    families_across_splits: int | None = field(default=None, metadata=OPTIONAL)
    without_copies: Accuracy | None = field(default=None, metadata=OPTIONAL)
    as_it_stands: Accuracy | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class _OnTestPhotos(Training):
    """A training, and its accuracy on the test photos."""

    test_accuracy: float | None = None
    test_photos: int = 0
    test_groups: int | None = field(default=None, metadata=OPTIONAL)
    test_accuracy_low: float | None = None
    test_accuracy_high: float | None = None


@dataclass(frozen=True, kw_only=True)
class TrainingDetails(CopiesDetails, _OnTestPhotos):
    """Of training.json: the training, the accuracy on the test photos, what near-copies make of it."""

    command: str | None = field(default=None, metadata=OPTIONAL)


DOCUMENTS: Mapping[str, type] = {
    "dataset.json": DatasetFile,
    "training.json": TrainingDetails,
    "classifier.json": ClassifierDetails,
    "fp32.onnx.json": ExportDetails,
    "fp16.onnx.json": Fp16Details,
    "int8.onnx.json": Int8Details,
    "int8.half.onnx.json": HalfDetails,
    "ranges.json": Ranges,
    "fp32.tflite.json": TfliteFp32Details,
    "int8.tflite.json": TfliteInt8Details,
    "engine.json": EngineCard,
}
"""The type of the details in each card of a run, by the card's name; "engine.json" stands for those of all engines."""
