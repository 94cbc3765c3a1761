"""The nouns that several stages share. Frozen values and their JSON, nothing that acts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact
from trtpoets.core.serialization import parsed, to_json

PHOTOS_RULE = 1
"""Version of the rule by which `images.py` turns a file into pixels. Raise it when any pixel may change."""
FULL_WHITE = 65535
"""The 16-bit value that is white where the training photos did not decide another."""

LARGEST_SIDE = 4096
"""Pixels of the largest height or width that a network may take."""

INPUT_NAME = "photos"
"""Name of a graph's input: uint8 (N, H, W, 3), RGB."""

OUTPUT_NAME = "scores"
"""Name of a graph's output: float32 (N, C), rows summing to 1."""


class Precision(str, Enum):
    """The arithmetic that a graph asks for. A property of the ONNX file."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


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
    """How a photo of any shape becomes the network's input."""

    STRETCH = "stretch"
    CROP = "crop"


def canonical_json(value: Any) -> str:
    """JSON that is the same for equal values: sorted keys, no spaces, no NaN."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def hash_of(value: Any) -> str:
    """sha256 (hex) of a JSON value."""
    return hashlib.sha256(canonical_json(value).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Preprocess:
    """From a photo file to the numbers that the backbone sees.

    Outside the graph (`images.py`): decode, orientation, RGB, resize to uint8 (height, width, 3). With `Resize.CROP`
    the middle is kept: the largest box of the input's shape, times `crop_fraction` of its side. Where photos have 16
    bits a sample, the value `white` becomes 255; 8-bit samples stay as they are.
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
        """sha256 of everything that decides the pixels, the version of the decoding rule included."""
        values = {"rule": PHOTOS_RULE, **asdict(self)}
        if self.white == FULL_WHITE:
            del values["white"]  # files from before there was another white have the hash without it
        return hash_of(values)


@dataclass(frozen=True)
class ModelSpec:
    """What a classifier answers to, kept as model.json and inside each ONNX file.

    `labels[i]` names score i. `weights_id` tells the backbone's weights from any others: a sha256, or a published name.
    """

    name: str
    backbone: str
    preprocess: Preprocess
    labels: tuple[str, ...]
    weights_id: str

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
                f"{source} says its photos are prepared by rule {str(claimed)[:12]}, but what it describes is "
                f"{spec.preprocess.hash[:12]}: it was edited, or written by another version of trtpoets",
                hint="train again, or use the version of trtpoets that wrote it",
                code="TP1095",
            )
        return spec


def check_side(value: object) -> int:
    """A height or width in pixels as a file tells it, checked before anything is allocated by it. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LARGEST_SIDE:
        raise ValueError(f"a side of {value!r} pixels, and 1 to {LARGEST_SIDE:,} were expected")
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
    """One usable photo: where it is, what it shows, what it is for, and the sha256 of its bytes.

    `levels` is the value of its 16-bit samples that it suggests for white, 0 for 8-bit samples.
    """

    path: Path
    label: str
    split: Split
    sha256: str
    levels: int = 0


@dataclass(frozen=True)
class Classifier:
    """A trained network on disk: `folder` holds classifier.keras, saved_model/ and model.json.

    `foreign` is why it is not known to be made here by this user; empty where it is, or the user trusts it. TensorFlow
    runs what is in it, so a foreign one is described and never loaded.
    """

    folder: Path
    spec: ModelSpec
    foreign: str = ""

    @property
    def saved_model(self) -> Path:
        """The SavedModel, whose `serve` signature takes `photos` and gives `scores`."""
        return self.folder / "saved_model"


@dataclass(frozen=True)
class OnnxModel:
    """An ONNX file whose graph takes `photos` and gives `scores`, in one precision."""

    path: Path
    precision: Precision
    spec: ModelSpec


@dataclass(frozen=True)
class TfliteModel:
    """A TFLite file whose graph takes one photo, uint8 (1, H, W, 3), and gives its `scores`; FP32 or INT8."""

    path: Path
    precision: Precision
    spec: ModelSpec


@dataclass(frozen=True)
class BatchRange:
    """The batch sizes that an engine takes, and the one it is tuned for."""

    minimum: int = 1
    optimum: int = 8
    maximum: int = 32


@dataclass(frozen=True)
class LayerReport:
    """In which arithmetic TensorRT runs each computing layer of an engine, as "int8", "fp16" or "fp32".

    `counts` and `shares` (0 to 1) sum them up. Where the library does not tell, all are empty and `why_not` says why.
    """

    layers: Mapping[str, str]
    counts: Mapping[str, int]
    shares: Mapping[str, float]
    why_not: str = ""


@dataclass(frozen=True)
class EngineCard:
    """What an engine is and where it may run. Checked before an engine is deserialised.

    `targets` are the compute capabilities that it was built for, as "sm86"; "sm80+" stands for Ampere and later.
    `gpu` and `compute_capability` are those of the machine that built it; None when it has none. A `version_compatible`
    engine also runs on other versions of its TensorRT; a `hardware_compatible` one on other GPUs, as `targets` says.
    `multiprocessors`, `memory_gib` and `board` (a Jetson's model) tell GPUs of one name apart: None is unknown, as in
    cards of earlier versions.
    `dla_core` is the accelerator that it was built for, None for the GPU. None for `optimization_level` and `layers`
    means the library's own level, and an engine built before layers were told. `command` builds it again. `typing` is
    "strongly typed", or as "weakly typed, INT8 and FP16 allowed"; `notes` doubt what was built.
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
    """A serialised engine; its card lies beside it as `<path>.json`.

    Without a card (not `vouched`) it was made up from the file, which does not tell the batch sizes. `foreign` is as in
    Classifier: TensorRT runs what is in an engine.
    """

    path: Path
    card: EngineCard
    vouched: bool = True
    foreign: str = ""


@dataclass(frozen=True)
class Skipped:
    """Something that was not done, and the reason."""

    what: str
    why: str
