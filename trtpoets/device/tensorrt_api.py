"""Imports TensorRT 8.5, 8.6, 10.x, 11.x or TensorRT-RTX behind one interface and probes its features.

Features are probed, not derived from the version; enum members are looked up by name, because their values differ
between versions. `tests/device/test_tensorrt_bindings.py` checks every name with the real Python bindings. The builder
is used in `build/tensorrt_build.py`, the runtime in `tensorrt_session.py`; `tensorrt_messages.py` handles messages.
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
"""NumPy names of TensorRT's data types: `trt.nptype` fails with NumPy 1.24 up to 8.5.2, and lacks INT64 in 8.6."""


@dataclass(frozen=True)
class TensorRt:
    """An imported TensorRT library."""

    flavour: Flavour
    module: Any = field(repr=False, compare=False)
    version: str

    @property
    def title(self) -> str:
        """Name and version for messages: "TensorRT 10.3.0", "TensorRT-RTX 1.7.1.116"."""
        return f"{'TensorRT-RTX' if self.flavour is Flavour.RTX else 'TensorRT'} {self.version}"

    @property
    def strongly_typed(self) -> bool:
        """Whether strongly typed networks, which use the types of the ONNX file, are supported (not in 8.x)."""
        return "STRONGLY_TYPED" in self.module.NetworkDefinitionCreationFlag.__members__

    @property
    def targets(self) -> tuple[str, ...]:
        """Compute capabilities for which engines can be built without the GPU, such as "sm86"; () for TensorRT."""
        if not hasattr(self.module, "ComputeCapability"):
            return ()
        return tuple(name.lower() for name in self.module.ComputeCapability.__members__ if name.startswith("SM"))

    @property
    def has_monitor(self) -> bool:
        """Whether builds have a progress monitor, which can cancel them (9.1 and later)."""
        return hasattr(self.module, "IProgressMonitor")

    @property
    def has_optimization_level(self) -> bool:
        """Whether the builder has optimization levels (8.6 and later)."""
        return hasattr(self.module.IBuilderConfig, "builder_optimization_level")


def load_tensorrt(flavour: Flavour) -> TensorRt:
    """Import a TensorRT library. Raises MissingDependency if it is missing, can't be loaded or is too old."""
    name = _MODULES[flavour]
    try:
        with needs(flavour.value, reason=f"building or running {flavour.value} engines"):
            module = importlib.import_module(name)
    except MissingDependency as error:
        raise MissingDependency(
            error.message, hint=f"pip install 'trtpoets[{extra_here(flavour)}]'", code="TP4098"
        ) from error.__cause__
    except OSError as error:  # a native library of the Python package is missing
        raise MissingDependency(
            f"building or running {flavour.value} engines needs {name}, but it can't be loaded: {error}",
            hint=f"pip install 'trtpoets[{extra_here(flavour)}]'",
            code="TP4099",
        ) from error
    library = TensorRt(flavour, module, str(module.__version__))
    if not hasattr(getattr(module, "IExecutionContext", None), "set_tensor_address"):
        raise MissingDependency(
            f"{library.title} is too old: TensorRT 8.5 or later is needed (IExecutionContext.set_tensor_address)",
            hint="install TensorRT 8.5 or later; on a Jetson: JetPack 5.1 or later",
            code="TP4100",
        )
    return library


def numpy_type(kind: Any) -> str:
    """The NumPy name of a TensorRT DataType, such as "uint8"; its lower-case name if NumPy has no such type."""
    name = str(kind).rpartition(".")[2]
    return _NUMPY.get(name, name.lower())
