"""Which runner it is: a value, formatted here alone and parsed nowhere; and the file names of engines, made likewise.

Two engines of one library and precision differ by their variant: what they were built with beyond the defaults.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Iterable, Mapping, Protocol

from trtpoets.core.types import BatchRange, Flavour, Precision

USUAL_WORKSPACE_MIB = 1024
"""The memory that TensorRT may use for building, in MiB, unless another is given."""

_WORD = re.compile(r"[a-z][a-z0-9-]*")


class Library(str, Enum):
    """The library that runs an artefact. The values of engines' libraries are those of Flavour."""

    TENSORFLOW = "tensorflow"
    KERAS = "keras"
    ONNXRUNTIME = "onnxruntime"
    TFLITE = "tflite"
    TENSORRT = "tensorrt"
    RTX = "rtx"
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
    Library.FAKE: ("",),
}
"""The ways in which each library can run an artefact; "" is the usual one."""


@dataclass(frozen=True)
class RunnerId:
    """The identity of a runner. Different identities have different names.

    `precision` is None for the trained classifier, which has no other. `way` is one of WAYS. `variant` has the words of
    `engine_variant`, none for an engine that was built with the defaults. ValueError for another way or word.
    """

    library: Library
    precision: Precision | None = None
    way: str = ""
    variant: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.way not in WAYS[self.library]:
            raise ValueError(f"{self.library.value} has no way {self.way!r}")
        if not all(_WORD.fullmatch(word) for word in self.variant):
            raise ValueError(f"a variant of {self.variant!r}")

    @property
    def name(self) -> str:
        """As reports and `--runner` call it: "tensorflow", "onnxruntime-cuda-int8", "rtx-fp16.sm86.batch1-8-16"."""
        precision = self.precision.value if self.precision else ""
        # Within a word of a variant there may be "-", but never ".".
        return ".".join(["-".join(filter(None, (self.through, precision))), *self.variant])

    @property
    def through(self) -> str:
        """The library and the way, without what is run: "onnxruntime-cuda"."""
        return "-".join(filter(None, (self.library.value, self.way)))

    @property
    def is_engine(self) -> bool:
        """Whether it runs an engine of TensorRT or TensorRT-RTX."""
        return self.library in ENGINES

    @property
    def compared_only(self) -> bool:
        """Whether it is another way to run the classifier, measured for comparison: it has no artefact of its own."""
        return self.library is Library.KERAS or (self.library is Library.TENSORFLOW and self.way != "")

    def __str__(self) -> str:
        return self.name

    def row(self) -> dict[str, Any]:
        """The fields of a JSON row about this runner: its name as "runner", and what the name is made of."""
        return {
            "runner": self.name,
            "library": self.library.value,
            "precision": self.precision.value if self.precision else None,
            "way": self.way,
            "variant": list(self.variant),
        }

    @staticmethod
    def from_row(row: Mapping[str, Any]) -> RunnerId:
        """The runner that the fields of a JSON row are about. Raises KeyError, ValueError or TypeError.

        A row of an earlier version has the runner's name and no other fields: see `_EARLIER`.
        """
        if "library" not in row:
            return _EARLIER[row["runner"]]
        precision = None if row["precision"] is None else Precision(row["precision"])
        return RunnerId(Library(row["library"]), precision, str(row["way"]), tuple(row["variant"]))


FAKE = RunnerId(Library.FAKE)
"""A runner without a network, for tests."""

TENSORFLOW = RunnerId(Library.TENSORFLOW)
"""The classifier as it was trained."""


def _earlier() -> Iterable[RunnerId]:
    for library, ways in WAYS.items():
        for way in ways:
            yield RunnerId(library, None, way)
            yield from (RunnerId(library, precision, way) for precision in Precision)


_EARLIER = {each.name: each for each in _earlier()}
"""Runners by their names in documents of trtpoets before there were other fields: it had no variants."""


class EngineOptions(Protocol):
    """What decides an engine beside its ONNX file: EngineConfig before it is built, EngineCard afterwards."""

    @property
    def flavour(self) -> Flavour:
        """The library that builds it."""

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities as "sm86"; those that end in "+" were not chosen."""

    @property
    def batch(self) -> BatchRange:
        """The batch sizes that it takes."""

    @property
    def workspace_mib(self) -> int:
        """The memory for building, MiB."""

    @property
    def optimization_level(self) -> int | None:
        """0 to 5; None for the library's own."""

    @property
    def version_compatible(self) -> bool:
        """Whether it runs on later versions."""

    @property
    def hardware_compatible(self) -> bool:
        """Whether it runs on other GPUs."""

    @property
    def dla_core(self) -> int | None:
        """The DLA core; None for the GPU."""


def engine_variant(options: EngineOptions) -> tuple[str, ...]:
    """What an engine has beyond the defaults, as words: ("sm86", "sm89", "batch1-8-16", "dla0"); () for none.

    Different options give different words. A workspace of 0 MiB stands for one that is not known.
    """
    words: list[str] = []
    if options.flavour is Flavour.RTX:  # TensorRT builds for the GPU that it finds: nobody chose its target
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
    if options.workspace_mib not in (0, USUAL_WORKSPACE_MIB):
        words.append(f"workspace{options.workspace_mib}")
    return tuple(words)


def _batch(batch: BatchRange) -> str:
    sizes = (batch.minimum, batch.optimum, batch.maximum)
    return f"batch{sizes[0]}" if len(set(sizes)) == 1 else "batch{}-{}-{}".format(*sizes)


def engine_runner(options: EngineOptions, precision: Precision) -> RunnerId:
    """The runner of an engine."""
    return RunnerId(Library(options.flavour.value), precision, "", engine_variant(options))


def engine_file_name(stem: str, options: EngineOptions) -> str:
    """The file name of an engine: "fp16.rtx.engine", or "fp16.rtx.sm86.batch1.engine" for one of that variant.

    `stem` is that of its ONNX file. Engines of different options lie side by side.
    """
    return ".".join([stem, options.flavour.value, *engine_variant(options), "engine"])
