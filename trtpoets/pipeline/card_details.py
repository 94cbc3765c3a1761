"""The details in the cards of artefacts, by stage. Fields with a default may be missing in older cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trtpoets.adoption.trial import Trial
from trtpoets.convert.fp16_remainder import RemainderNotes
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.quantize_int8 import Int8Notes
from trtpoets.convert.precision import Fp16Notes
from trtpoets.convert.tflite_int8 import TfliteNotes
from trtpoets.core.network_notes import Fidelity, Parity, WorstLayer
from trtpoets.core.serialization import OPTIONAL
from trtpoets.core.training import TrainingDetails
from trtpoets.core.types import EngineCard
from trtpoets.judge.advice import Recommended
from trtpoets.judge.head_notes import HeadNotes
from trtpoets.train.dataset import DatasetFile


@dataclass(frozen=True)
class ExportDetails:
    """The details of fp32.onnx. `made_from` identifies the classifier, `command` writes the file again.

    `rounded` is for an adopted integer network, which fp32.onnx does not round as: the parity of a variant that does.
    """

    opset: int
    parity: Parity
    made_from: str
    command: str = ""
    rounded: Parity | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class Fp16Details:
    """The details of fp16.onnx. `made_from` is the sha256 of fp32.onnx, `dataset` the hash of the dataset."""

    notes: Fp16Notes
    made_from: str
    dataset: str
    command: str = ""


@dataclass(frozen=True)
class Int8FileNotes(Int8Notes):
    """Int8Notes with what was measured on the file as it is shipped. `head` is None where no head was fitted.

    `islands` are the nodes that ONNX Runtime computes in float between the integer layers of int8.cpu.onnx;
    None for int8.onnx.
    """

    histograms: tuple[WorstLayer, ...] = ()
    head: HeadNotes | None = field(default=None, metadata=OPTIONAL)
    recommended: Recommended | None = None
    islands: tuple[str, ...] | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class CalibrationRecord(CalibrationConfig):
    """The calibration of int8.onnx. `method` is the method that was used, `asked` the requested one.

    `hash` is that of the ranges, `per_class` counts calibration photos, `trials` is as in Ranges.
    """

    asked: Method
    per_class: Mapping[str, int]
    hash: str
    trials: Mapping[str, Fidelity]


@dataclass(frozen=True)
class Int8Details:
    """The details of int8.onnx and int8.cpu.onnx.

    `made_from` is the sha256 of fp32.onnx, `dataset` the hash of the dataset.
    `calibration` is None for an adopted file that brings its own scales.
    """

    notes: Int8FileNotes
    calibration: CalibrationRecord | None
    config: Int8Config
    made_from: str
    dataset: str
    command: str = ""


@dataclass(frozen=True)
class HalfDetails:
    """The details of int8.half.onnx. `made_from` is the sha256 of int8.onnx."""

    made_from: str
    notes: RemainderNotes


@dataclass(frozen=True)
class TfliteFp32Details:
    """The details of fp32.tflite. `classifier` identifies the classifier that it was made from."""

    classifier: str
    parity: Parity


@dataclass(frozen=True)
class TfliteCalibration:
    """The number of calibration photos of TFLite's converter, and the seed that chose them."""

    photos: int
    seed: int


@dataclass(frozen=True)
class TfliteInt8Details:
    """The details of int8.tflite. `classifier` identifies the classifier, `dataset` is the hash of the dataset.

    `notes` say how it was quantised; None if TensorFlow's converter calibrated it. `calibrated` are the sha256 of the
    photos that it was calibrated with, those of the ranges of int8.onnx included. `head` are the notes on its last
    layer, refitted to its features; None if that was not tried.
    """

    classifier: str
    dataset: str
    calibration: TfliteCalibration
    notes: TfliteNotes | None = field(default=None, metadata=OPTIONAL)
    calibrated: tuple[str, ...] = ()
    recommended: Recommended | None = None
    head: HeadNotes | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True)
class ClassifierDetails:
    """The details of the classifier's folder. `dataset` is the hash of its training photos, None without training.

    `trial` is how the preprocessing of an adopted classifier was found; None without photos.
    """

    weights_id: str
    dataset: str | None
    command: str = ""
    trial: Trial | None = field(default=None, metadata=OPTIONAL)


DOCUMENTS: Mapping[str, type] = {
    "dataset.json": DatasetFile,
    "training.json": TrainingDetails,
    "classifier.json": ClassifierDetails,
    "fp32.onnx.json": ExportDetails,
    "fp16.onnx.json": Fp16Details,
    "int8.onnx.json": Int8Details,
    "int8.cpu.onnx.json": Int8Details,
    "int8.half.onnx.json": HalfDetails,
    "ranges.json": Ranges,
    "fp32.tflite.json": TfliteFp32Details,
    "int8.tflite.json": TfliteInt8Details,
    "engine.json": EngineCard,
}
"""The type of the details in each card of a run, by the card's name; "engine.json" stands for those of all engines."""
