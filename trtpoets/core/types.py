"""Types that several stages share: frozen dataclasses and enums with their JSON."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact
from trtpoets.core.long_lists import canonical_chunks
from trtpoets.core.original import Original
from trtpoets.core.serialization import OPTIONAL, parsed, to_json

PHOTOS_RULE = 1
"""Version of the decoding in `images.py`. Increase it when a change may affect any pixel."""
FULL_WHITE = 65535
"""The 16-bit value of white unless the training photos determine another."""

LARGEST_SIDE = 4096
"""Largest height or width of a network's input in pixels."""

INPUT_NAME = "photos"
"""Name of a graph's input: uint8 (N, H, W, 3), RGB."""

OUTPUT_NAME = "scores"
"""Name of a graph's output: float32 (N, C); each row sums to 1."""


class Precision(str, Enum):
    """The precision of a graph. A property of the ONNX file."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


class Int8Form(str, Enum):
    """The form of an INT8 ONNX file, by the runtime that fuses it to integer operators: TensorRT, or ONNX Runtime."""

    TENSORRT = "tensorrt"
    CPU = "cpu"


class Flavour(str, Enum):
    """The library that builds and runs an engine."""

    TENSORRT = "tensorrt"
    RTX = "rtx"


class Split(str, Enum):
    """What a photo is used for."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Resize(str, Enum):
    """How a photo of any shape is resized to the network's input."""

    STRETCH = "stretch"
    CROP = "crop"
    LETTERBOX = "letterbox"


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces, no NaN."""
    return "".join(canonical_chunks(value))


def hash_of(value: Any) -> str:
    """sha256 (hex) of a JSON value, which may contain LongLists."""
    digest = hashlib.sha256()
    for chunk in canonical_chunks(value):
        digest.update(chunk.encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


@dataclass(frozen=True)
class Preprocess:
    """The preprocessing from a photo file to the input of the backbone.

    Outside the graph (`images.py`): decode, orientation, RGB, resize to uint8 (height, width, 3). `Resize.CROP` keeps
    the centre: the largest box with the aspect ratio of the input, with its sides multiplied by `crop_fraction`.
    `Resize.LETTERBOX` keeps the whole photo and its aspect ratio, with black borders. In photos with 16 bits a sample,
    the value `white` becomes 255; 8-bit samples are unchanged.
    Inside the graph: `x * scale + offset`, channel by channel, x in 0..255.
    """

    height: int
    width: int
    scale: tuple[float, float, float]
    offset: tuple[float, float, float]
    resize: Resize = Resize.STRETCH
    crop_fraction: float = 1.0
    white: int = FULL_WHITE

    @property
    def hash(self) -> str:
        """sha256 of everything that determines the pixels, including the version of the decoding."""
        values = {"rule": PHOTOS_RULE, **asdict(self)}
        if self.white == FULL_WHITE:
            del values["white"]  # files of versions without this field have the hash without it
        return hash_of(values)


@dataclass(frozen=True)
class ModelSpec:
    """The description of a classifier, stored as model.json and in each ONNX file.

    `labels[i]` is the label of score i. `weights_id` identifies the backbone's weights: a sha256 or a published name.
    `original` describes the file of another program that `adopt` made it from; None for a classifier of trtpoets.
    """

    name: str
    backbone: str
    preprocess: Preprocess
    labels: tuple[str, ...]
    weights_id: str
    original: Original | None = field(default=None, metadata=OPTIONAL)

    def to_json(self) -> str:
        """The text of model.json, with the hash of the preprocessing for every later stage to check."""
        return json.dumps({**to_json(self), "preprocess_hash": self.preprocess.hash}, indent=2, ensure_ascii=False)

    @staticmethod
    def from_json(text: str, source: str) -> ModelSpec:
        """Read what `to_json` wrote. `source` names the file in errors. Raises BadArtefact."""
        try:
            value = json.loads(text)
            claimed = value["preprocess_hash"]
            spec = parsed(ModelSpec, value)
            check_preprocess(spec.preprocess)
        except (ValueError, KeyError, TypeError) as error:
            raise BadArtefact(
                f"{source} is not a model.json of trtpoets: {type(error).__name__}: {error}",
                hint="run the stage that wrote it again, with --force",
                code="TP1094",
            ) from error
        if claimed != spec.preprocess.hash:
            raise BadArtefact(
                f"{source} has the preprocessing hash {str(claimed)[:12]}, but the preprocessing in it has the hash "
                f"{spec.preprocess.hash[:12]}: it was edited, or written by another version of trtpoets",
                hint="train again, or use the version of trtpoets that wrote it",
                code="TP1095",
            )
        return spec


def check_side(value: object) -> int:
    """A height or width in pixels as a file tells it, checked before anything is allocated by it. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"height and width must be 1 to {LARGEST_SIDE:,} pixels, not {value!r}")
    return value


def check_preprocess(preprocess: Preprocess) -> None:
    """Raise ValueError for numbers of a file that no preprocessing has."""
    check_side(preprocess.height)
    check_side(preprocess.width)
    if not 0.01 <= preprocess.crop_fraction <= 1:
        raise ValueError(f"crop_fraction is {preprocess.crop_fraction}, and 0.01 to 1 was expected")
    if preprocess.white < 1:
        raise ValueError(f"white is {preprocess.white}, and at least 1 was expected")


@dataclass(frozen=True)
class Photo:
    """One usable photo: path, label, split, and the sha256 of the file.

    `levels` is the value that its 16-bit samples suggest for white; 0 for 8-bit samples.
    """

    path: Path
    label: str
    split: Split
    sha256: str
    levels: int = 0


@dataclass(frozen=True)
class Classifier:
    """A trained classifier on disk: `folder` contains classifier.keras, saved_model/ and model.json.

    `foreign` says why there is no proof that this user made it on this machine; empty if there is, or if the user
    trusts it. TensorFlow can run code in it, so a foreign one is only described and never loaded.
    """

    folder: Path
    spec: ModelSpec
    foreign: str = ""

    @property
    def saved_model(self) -> Path:
        """The SavedModel, whose `serve` signature has the input `photos` and the output `scores`."""
        return self.folder / "saved_model"

    @property
    def original(self) -> Path | None:
        """The file of another program that it was made from: the baseline where TensorFlow does not run it."""
        original = self.spec.original
        return None if original is None else self.folder / "original" / original.file


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file whose graph has the input `photos` and the output `scores`, in one precision.

    `form` is the form of an INT8 file; that of other files is TENSORRT, as every runtime runs them.
    """

    path: Path
    precision: Precision
    spec: ModelSpec
    form: Int8Form = Int8Form.TENSORRT

    @property
    def has_pairs(self) -> bool:
        """Whether it is INT8 in TensorRT's form: with Q/DQ pairs, which TensorRT computes in integers."""
        return self.precision is Precision.INT8 and self.form is Int8Form.TENSORRT


@dataclass(frozen=True)
class TfliteModel:
    """A TFLite file whose graph computes the `scores` of one photo, uint8 (1, H, W, 3); FP32 or INT8."""

    path: Path
    precision: Precision
    spec: ModelSpec


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes of an engine's optimization profile: minimum, optimum and maximum."""

    minimum: int = 1
    optimum: int = 8
    maximum: int = 32


@dataclass(frozen=True)
class LayerReport:
    """The precision in which TensorRT runs each computing layer of an engine: "int8", "fp16" or "fp32".

    `counts` and `shares` (0 to 1) are per precision. If the library does not report the layers, all are empty and
    `why_not` says why.
    """

    layers: Mapping[str, str]
    counts: Mapping[str, int]
    shares: Mapping[str, float]
    why_not: str = ""


@dataclass(frozen=True)
class EngineCard:
    """The card of an engine: how it was built and where it may run. Checked before an engine is deserialised.

    `targets` are the compute capabilities that it was built for, such as "sm86"; "sm80+" means Ampere and later.
    `gpu` and `compute_capability` are those of the machine that built it; None if it has no GPU. A `version_compatible`
    engine also runs with other versions of its library; a `hardware_compatible` one on the GPUs in `targets`.
    `multiprocessors`, `memory_gib` and `board` (a Jetson's model) distinguish GPUs of the same name; None if unknown,
    as in cards of earlier versions. `dla_core` is the DLA core that it was built for, None for the GPU.
    `optimization_level` is None for the library's default, `layers` None in cards of earlier versions. `command` is the
    command that builds it again. `typing` is "strongly typed", or for example "weakly typed, INT8 and FP16 allowed";
    `notes` are warnings about the build.
    """

    flavour: Flavour
    precision: Precision
    tensorrt_version: str
    cuda_version: str | None
    driver_version: str | None
    gpu: str | None
    compute_capability: str | None
    targets: tuple[str, ...]
    platform: str
    batch: BatchRange
    workspace_mib: int
    onnx_sha256: str
    calibration_hash: str | None
    preprocess_hash: str
    engine_sha256: str
    engine_bytes: int
    build_seconds: float
    spec: ModelSpec
    optimization_level: int | None = None
    version_compatible: bool = False
    hardware_compatible: bool = False
    dla_core: int | None = None
    multiprocessors: int | None = None
    memory_gib: int | None = None
    board: str | None = None
    layers: LayerReport | None = None
    command: str = ""
    typing: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Engine:
    """A serialised engine; its card is the file `<path>.json`.

    If the engine has no card, `has_card` is False and `card` was derived from the engine file, which does not contain
    the batch sizes. `foreign` is as in Classifier: an engine can run code when TensorRT loads it.
    """

    path: Path
    card: EngineCard
    has_card: bool = True
    foreign: str = ""


@dataclass(frozen=True)
class Skipped:
    """Something that was not done, and the reason."""

    what: str
    why: str
