"""Reads the precision of each layer of a new engine with TensorRT's engine inspector."""

from __future__ import annotations

from typing import Any

from trtpoets.core.errors import first_line
from trtpoets.core.types import LayerReport
from trtpoets.device.build.layer_types import report_from_inspector, unknown_layers
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import NO_DRIVER


def inspect_engine(library: TensorRt, plan: Any, request: BuildRequest, logger: Any) -> LayerReport:
    """The layers of an engine that was just built, from its serialised form `plan`.

    The engine is loaded for that, which needs a GPU: for an engine of TensorRT-RTX built without one, the report gives
    the reason why its layers are unknown. The same holds for any other error: the engine is valid without a report.
    """
    try:
        return _inspected(library, plan, request, logger)
    except Exception as error:  # noqa: BLE001 - TensorRT raises exceptions of any class; the engine is built anyway
        if isinstance(error, TypeError) and NO_DRIVER in str(error):
            return unknown_layers("inspecting the layers needs a GPU that can run the engine, but CUDA does not start")
        reason = first_line(error)
        return unknown_layers(f"the engine inspector failed: {reason}")


def _inspected(library: TensorRt, plan: Any, request: BuildRequest, logger: Any) -> LayerReport:
    runtime = library.module.Runtime(logger)
    if request.version_compatible:
        runtime.engine_host_code_allowed = True  # the engine contains its own runtime
    if request.dla_core is not None:
        runtime.DLA_core = request.dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return unknown_layers("inspecting the layers needs a GPU that can run the engine, but there is none")
    inspector = engine.create_engine_inspector()
    try:
        information = inspector.get_engine_information(library.module.LayerInformationFormat.JSON)
    finally:
        # Free it before its engine, which it does not keep alive in 8.5 (pyCore.cpp, create_engine_inspector):
        # without `del`, locals are freed in the order of their first assignment.
        del inspector
    return report_from_inspector(information)
