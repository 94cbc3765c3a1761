"""The identity of a runner, its name in reports and options, and the file names of engines.

Names are formatted only here and are never parsed. Two engines of the same library and precision differ by their
variant: the build options that are not defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Iterable, Mapping, Protocol

from trtpoets.core.types import BatchRange, Flavour, Int8Form, ModelSpec, Precision

DEFAULT_WORKSPACE_MIB = 1024
"""Default of the workspace memory limit for building an engine, in MiB."""

_WORD = re.compile(r"[a-z][a-z0-9-]*")


class Library(str, Enum):
    """The library that runs an artefact. For engines, the values are those of Flavour."""

    TENSORFLOW = "tensorflow"
    KERAS = "keras"
    ONNXRUNTIME = "onnxruntime"
    TFLITE = "tflite"
    TENSORRT = "tensorrt"
    RTX = "rtx"
    ORIGINAL = "original"
    FAKE = "fake"


ENGINES = (Library.RTX, Library.TENSORRT)
"""The libraries that run engines."""

WAYS: Mapping[Library, tuple[str, ...]] = {
    Library.TENSORFLOW: ("", "cpu", "xla", "xla-cpu"),
    Library.KERAS: ("predict",),
    Library.ONNXRUNTIME: ("", "cuda", "tensorrt", "as-written"),
    Library.TFLITE: ("", "own-kernels"),
    Library.TENSORRT: ("",),
    Library.RTX: ("",),
    Library.ORIGINAL: ("",),
    Library.FAKE: ("",),
}
"""The ways in which each library can run an artefact; "" is the default."""


@dataclass(frozen=True)
class RunnerId:
    """The identity of a runner. Different identities have different names.

    `precision` is None for the trained classifier. `way` is one of WAYS. `variant` is the result of `engine_variant`,
    empty for an engine that was built with the default options. `form` is the form of an INT8 ONNX file. Raises
    ValueError for an invalid way, variant or form.
    """

    library: Library
    precision: Precision | None = None
    way: str = ""
    variant: tuple[str, ...] = ()
    form: Int8Form = Int8Form.TENSORRT

    def __post_init__(self) -> None:
        if self.form is not Int8Form.TENSORRT and (self.library, self.precision) != _WITH_FORMS:
            raise ValueError(f"{self.library.value} runs no INT8 file of the form {self.form.value!r}")
        if self.way not in WAYS[self.library]:
            raise ValueError(f"{self.library.value} has no way {self.way!r}")
        if not all(_WORD.fullmatch(word) for word in self.variant):
            raise ValueError(f"the variant {self.variant!r} is not valid")

    @property
    def name(self) -> str:
        """Name in reports and for `--runner`: "tensorflow", "onnxruntime-int8-cpu", "rtx-fp16.sm86.batch1-8-16"."""
        precision = self.precision.value if self.precision else ""
        form = "" if self.form is Int8Form.TENSORRT else self.form.value
        # A word of a variant may contain "-", but never ".".
        return ".".join(["-".join(filter(None, (self.through, precision, form))), *self.variant])

    @property
    def through(self) -> str:
        """The library and the way, without precision and variant: "onnxruntime-cuda"."""
        return "-".join(filter(None, (self.library.value, self.way)))

    @property
    def file(self) -> str:
        """The name of the file that it runs, as it is or built into an engine; "" for the trained classifier."""
        if self.precision is None:
            return ""
        is_tflite = self.library is Library.TFLITE
        return f"{self.precision.value}.tflite" if is_tflite else onnx_file_name(self.precision, self.form)

    @property
    def is_engine(self) -> bool:
        """Whether it runs an engine of TensorRT or TensorRT-RTX."""
        return self.library in ENGINES

    @property
    def compared_only(self) -> bool:
        """Whether it runs the trained classifier in another way, only for comparison: it has no artefact of its own."""
        return self.library is Library.KERAS or (self.library is Library.TENSORFLOW and self.way != "")

    def __str__(self) -> str:
        return self.name

    def row(self) -> dict[str, Any]:
        """The fields of a JSON row about this runner: its name as "runner", and the parts of the name."""
        return {
            "runner": self.name,
            "library": self.library.value,
            "precision": self.precision.value if self.precision else None,
            "way": self.way,
            "variant": list(self.variant),
            **({} if self.form is Int8Form.TENSORRT else {"form": self.form.value}),
        }

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> RunnerId:
        """The runner that the fields of a JSON row are about. Raises KeyError, ValueError or TypeError.

        A row of an earlier version has the runner's name and no other fields: see `_EARLIER`.
        """
        if "library" not in row:
            return _EARLIER[row["runner"]]
        precision = None if row["precision"] is None else Precision(row["precision"])
        form = Int8Form(row.get("form", Int8Form.TENSORRT.value))
        return RunnerId(Library(row["library"]), precision, str(row["way"]), tuple(row["variant"]), form)


_WITH_FORMS = (Library.ONNXRUNTIME, Precision.INT8)
"""The library and the precision whose files have several forms."""


def runner_of_file(file: str, precision: Precision) -> RunnerId:
    """Return the runner of an ONNX or TFLite file of this name on a CPU."""
    if file.endswith(".tflite"):
        return RunnerId(Library.TFLITE, precision)
    cpu = file == onnx_file_name(precision, Int8Form.CPU)
    return RunnerId(Library.ONNXRUNTIME, precision, form=Int8Form.CPU if cpu else Int8Form.TENSORRT)


def onnx_file_name(precision: Precision, form: Int8Form = Int8Form.TENSORRT) -> str:
    """Return the name of an ONNX file: "fp32.onnx", "int8.cpu.onnx"."""
    return ".".join([precision.value, *([] if form is Int8Form.TENSORRT else [form.value]), "onnx"])


FAKE = RunnerId(Library.FAKE)
"""A runner without a network, for tests."""

TENSORFLOW = RunnerId(Library.TENSORFLOW)
"""The classifier as it was trained, or as TensorFlow runs the file that it was made from."""

ORIGINAL = RunnerId(Library.ORIGINAL)
"""The file of another program that the classifier was made from, run by ONNX Runtime or TFLite."""

INT8_ONNX = RunnerId(Library.ONNXRUNTIME, Precision.INT8)
"""int8.onnx in ONNX Runtime."""

INT8_FOR_CPUS = RunnerId(Library.ONNXRUNTIME, Precision.INT8, form=Int8Form.CPU)
"""int8.cpu.onnx in ONNX Runtime."""

INT8_TFLITE = RunnerId(Library.TFLITE, Precision.INT8)
"""int8.tflite in the TFLite interpreter."""


def baseline_of(spec: ModelSpec) -> RunnerId:
    """Return the runner of the classifier itself, with which all others are compared: TENSORFLOW or ORIGINAL."""
    return TENSORFLOW if spec.original is None or spec.original.format.is_tensorflow else ORIGINAL


def baseline_among(names: Iterable[str]) -> RunnerId:
    """Return the baseline of a document from the names of its runners; TENSORFLOW if none of them is a baseline."""
    return ORIGINAL if ORIGINAL.name in names else TENSORFLOW


def is_baseline(runner: RunnerId | str) -> bool:
    """Whether a runner, or the runner of that name, is a baseline: see `baseline_of`."""
    return str(runner) in (TENSORFLOW.name, ORIGINAL.name)


def baseline_text(runner: RunnerId | str) -> str:
    """Return how sentences name a runner that others are compared with: "TensorFlow", "the original file"."""
    return {TENSORFLOW.name: "TensorFlow", ORIGINAL.name: "the original file"}.get(str(runner), str(runner))


def _earlier() -> Iterable[RunnerId]:
    for library, ways in WAYS.items():
        for way in ways:
            yield RunnerId(library, None, way)
            yield from (RunnerId(library, precision, way) for precision in Precision)


_EARLIER = {runner.name: runner for runner in _earlier()}
"""Runners by their names in documents of earlier versions of trtpoets, whose rows have only the name."""


class EngineOptions(Protocol):
    """The build options of an engine: EngineConfig before it is built, EngineCard afterwards."""

    @property
    def flavour(self) -> Flavour:
        """The library that builds it."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities such as "sm86"; those that end in "+" are defaults."""

    @property
    def batch(self) -> BatchRange:
        """The batch sizes that it accepts."""

    @property
    def workspace_mib(self) -> int:
        """The workspace memory limit for building, in MiB."""

    @property
    def optimization_level(self) -> int | None:
        """0 to 5; None for the library's default."""

    @property
    def version_compatible(self) -> bool:
        """Whether it runs on later versions of the library."""

    @property
    def hardware_compatible(self) -> bool:
        """Whether it runs on other GPUs."""

    @property
    def dla_core(self) -> int | None:
        """The DLA core; None for the GPU."""


def engine_variant(options: EngineOptions) -> tuple[str, ...]:
    """The options of an engine that are not defaults, as words: ("sm86", "sm89", "batch1-8-16", "dla0").

    Different options give different words. A workspace of 0 MiB means that it is not known.
    """
    words: list[str] = []
    if options.flavour is Flavour.RTX:  # TensorRT builds for the GPU of the machine, so it has no chosen target
        words += sorted({target.lower() for target in options.targets if not target.endswith("+")})
    if options.batch != BatchRange():
        words.append(_batch(options.batch))
    if options.dla_core is not None:
        words.append(f"dla{options.dla_core}")
    if options.hardware_compatible:
        words.append("hardware-compatible")
    if options.version_compatible:
        words.append("version-compatible")
    if options.optimization_level is not None:
        words.append(f"level{options.optimization_level}")
    if options.workspace_mib not in (0, DEFAULT_WORKSPACE_MIB):
        words.append(f"workspace{options.workspace_mib}")
    return tuple(words)


def _batch(batch: BatchRange) -> str:
    sizes = (batch.minimum, batch.optimum, batch.maximum)
    return f"batch{sizes[0]}" if len(set(sizes)) == 1 else "batch{}-{}-{}".format(*sizes)


def engine_runner(options: EngineOptions, precision: Precision) -> RunnerId:
    """The runner of an engine."""
    return RunnerId(Library(options.flavour.value), precision, "", engine_variant(options))


def engine_file_name(stem: str, options: EngineOptions) -> str:
    """The file name of an engine: "fp16.rtx.engine", or "fp16.rtx.sm86.batch1.engine" with a variant.

    `stem` is that of its ONNX file. Engines with different options have different names.
    """
    return ".".join([stem, options.flavour.value, *engine_variant(options), "engine"])
