"""One adapter over TensorRT 8.5, 8.6, 10.x, 11.x and TensorRT-RTX: which library, and what it can do.

What a library can do is probed, never read off its version; enum members are looked up by name, since their numbers
differ between versions. `tests/device/test_tensorrt_bindings.py` checks every name against the real Python bindings.
`tensorrt_build.py` has the builder's side, `tensorrt_session.py` the runtime's, `tensorrt_messages.py` what
libraries say.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from trtpoets.core.errors import MissingDependency
from trtpoets.core.optional import needs
from trtpoets.core.types import Flavour
from trtpoets.device.gpu.cuda_wheels import extra_here

_MODULES = {Flavour.TENSORRT: "tensorrt", Flavour.RTX: "tensorrt_rtx"}

_NUMPY = {
    "FLOAT": "float32",
    "HALF": "float16",
    "INT8": "int8",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
    "BOOL": "bool",
}
"""TensorRT's data types in numpy's words: its own table breaks with numpy 1.24 up to 8.5.2, and lacks INT64 in 8.6."""


@dataclass(frozen=True)
class TensorRt:
    """One TensorRT library that imports here."""

    flavour: Flavour
    module: Any = field(repr=False, compare=False)
    version: str

    @property
    def title(self) -> str:
        """As errors call it: "TensorRT 10.3.0", "TensorRT-RTX 1.7.1.116"."""
        return f"{'TensorRT-RTX' if self.flavour is Flavour.RTX else 'TensorRT'} {self.version}"

    @property
    def strongly_typed(self) -> bool:
        """Whether networks compute in the types of the ONNX file; otherwise the builder is told by flags (8.x)."""
        return "STRONGLY_TYPED" in self.module.NetworkDefinitionCreationFlag.__members__

    @property
    def targets(self) -> tuple[str, ...]:
        """The compute capabilities that engines can be built for without the GPU, as "sm86"; none for TensorRT."""
        if not hasattr(self.module, "ComputeCapability"):
            return ()
        return tuple(name.lower() for name in self.module.ComputeCapability.__members__ if name.startswith("SM"))

    @property
    def has_monitor(self) -> bool:
        """Whether a build can be watched and cancelled (9.1 and later)."""
        return hasattr(self.module, "IProgressMonitor")

    @property
    def has_optimization_level(self) -> bool:
        """Whether the builder's effort can be chosen (8.6 and later)."""
        return hasattr(self.module.IBuilderConfig, "builder_optimization_level")


def load_tensorrt(flavour: Flavour) -> TensorRt:
    """Import a TensorRT library. Raises MissingDependency with its reason, where it is not there or is too old."""
    name = _MODULES[flavour]
    try:
        with needs(flavour.value, reason=f"building or running {flavour.value} engines"):
            module = importlib.import_module(name)
    except MissingDependency as error:
        raise MissingDependency(
            error.message, hint=f"pip install 'trtpoets[{extra_here(flavour)}]'", code="TP4098"
        ) from error.__cause__
    except OSError as error:  # the Python package is there, one of its native libraries is not
        raise MissingDependency(
            f"building or running {flavour.value} engines needs {name}, and it does not load here: {error}",
            hint=f"pip install 'trtpoets[{extra_here(flavour)}]'",
            code="TP4099",
        ) from error
    library = TensorRt(flavour, module, str(module.__version__))
    if not hasattr(getattr(module, "IExecutionContext", None), "set_tensor_address"):
        raise MissingDependency(
            f"{library.title} is too old: it can't be told by name where tensors lie, as 8.5 and later can",
            hint="install TensorRT 8.5 or later; on a Jetson that is JetPack 5.1 or later",
            code="TP4100",
        )
    return library


def numpy_type(kind: Any) -> str:
    """A TensorRT DataType as numpy calls it: "uint8" of UINT8, "int64" of INT64; types that numpy lacks as "bf16"."""
    name = str(kind).rpartition(".")[2]
    return _NUMPY.get(name, name.lower())
