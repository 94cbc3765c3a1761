"""One adapter over TensorRT 8.5, 8.6, 10.x, 11.x and TensorRT-RTX: which library, and what it can do.

What a library can do is probed, never read off its version; enum members are looked up by name, since their numbers
differ between versions. `tensorrt_build.py` has the builder's side, `tensorrt_session.py` the runtime's,
`tensorrt_messages.py` what libraries say.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any, Mapping

from trtpoets.core.errors import MissingDependency
from trtpoets.core.optional import needs
from trtpoets.core.spec import Flavour

_MODULES = {Flavour.TENSORRT: "tensorrt", Flavour.RTX: "tensorrt_rtx"}

REQUIRED: Mapping[str, tuple[str, ...]] = {
    "Builder": (
        "create_network",
        "create_builder_config",
        "create_optimization_profile",
        "is_network_supported",
        "build_serialized_network",
        "num_DLA_cores",
    ),
    "IBuilderConfig": (
        "set_memory_pool_limit",
        "add_optimization_profile",
        "set_flag",
        "profiling_verbosity",
        "create_timing_cache",
        "set_timing_cache",
        "default_device_type",
        "DLA_core",
    ),
    "BuilderFlag": ("GPU_FALLBACK",),
    "ITimingCache": ("serialize",),
    "ProfilingVerbosity": ("DETAILED",),
    "DeviceType": ("DLA",),
    "INetworkDefinition": ("num_inputs", "num_outputs", "get_input", "get_output"),
    "IOptimizationProfile": ("set_shape",),
    "ITensor": ("name", "shape"),
    "OnnxParser": ("parse", "num_errors", "get_error"),
    "ParserError": ("desc",),
    "MemoryPoolType": ("WORKSPACE",),
    "DataType": ("UINT8", "FLOAT"),
    "ILogger": ("log", "INTERNAL_ERROR", "ERROR", "WARNING"),
    "Runtime": ("deserialize_cuda_engine", "DLA_core"),
    "EngineInspector": ("get_engine_information",),
    "LayerInformationFormat": ("JSON",),
    "ICudaEngine": (
        "create_engine_inspector",
        "num_io_tensors",
        "get_tensor_name",
        "get_tensor_dtype",
        "get_tensor_profile_shape",
        "create_execution_context",
    ),
    "IExecutionContext": ("set_input_shape", "get_tensor_shape", "set_tensor_address", "execute_async_v3"),
}
"""What is used of every library, whatever its version."""

PROBED: Mapping[str, tuple[str, ...]] = {
    "NetworkDefinitionCreationFlag": ("EXPLICIT_BATCH", "STRONGLY_TYPED"),
    "BuilderFlag": ("FP16", "INT8", "VERSION_COMPATIBLE"),
    "HardwareCompatibilityLevel": ("AMPERE_PLUS",),
    "Builder": ("platform_has_fast_fp16", "platform_has_fast_int8"),
    "IBuilderConfig": (
        "builder_optimization_level",
        "hardware_compatibility_level",
        "progress_monitor",
        "num_compute_capabilities",
        "set_compute_capability",
    ),
    "Runtime": ("engine_host_code_allowed",),
    "IProgressMonitor": ("phase_start", "step_complete", "phase_finish"),
    "ParserError": ("node_name", "node_operator"),
    "ICudaEngine": ("create_runtime_config",),
    "IRuntimeConfig": ("cuda_graph_strategy", "create_runtime_cache", "set_runtime_cache"),
    "IRuntimeCache": ("serialize", "deserialize"),
    "CudaGraphStrategy": ("WHOLE_GRAPH_CAPTURE",),
}
"""What is used only of libraries that have it."""


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
    """Import a TensorRT library. Raises MissingDependency with its reason and how to install it."""
    name = _MODULES[flavour]
    try:
        with needs(flavour.value, reason=f"building or running {flavour.value} engines"):
            module = importlib.import_module(name)
    except OSError as error:  # the Python package is there, one of its native libraries is not
        raise MissingDependency(
            f"building or running {flavour.value} engines needs {name}, and it does not load here: {error}",
            hint=f"pip install 'trtpoets[{flavour.value}]'",
        ) from error
    return TensorRt(flavour, module, str(module.__version__))
