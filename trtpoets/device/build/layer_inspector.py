"""A finished engine asked by TensorRT's own inspector: in which arithmetic its layers run."""

from __future__ import annotations

from typing import Any

from trtpoets.core.types import LayerReport
from trtpoets.device.build.layer_types import report_from_inspector, untold
from trtpoets.device.build.tensorrt_config import BuildRequest
from trtpoets.device.tensorrt_api import TensorRt
from trtpoets.device.tensorrt_messages import NO_DRIVER


def inspect_engine(library: TensorRt, plan: Any, request: BuildRequest, logger: Any) -> LayerReport:
    """The layers of an engine that was just built here, from its serialised form `plan`.

    That takes loading it, which takes a GPU: an engine of TensorRT-RTX that is built without one says why its layers
    are not known. Whatever else goes wrong makes the layers unknown too: an engine is good without its report.
    """
    try:
        return _inspected(library, plan, request, logger)
    except Exception as error:  # noqa: BLE001 - of TensorRT's, any may come; the engine is built all the same
        if isinstance(error, TypeError) and NO_DRIVER in str(error):
            return untold("an engine's layers are told by a GPU that can run it, and CUDA does not start here")
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return untold(f"its inspector failed: {reason}")


def _inspected(library: TensorRt, plan: Any, request: BuildRequest, logger: Any) -> LayerReport:
    runtime = library.module.Runtime(logger)
    if request.version_compatible:
        runtime.engine_host_code_allowed = True  # it carries a runtime of its own
    if request.dla_core is not None:
        runtime.DLA_core = request.dla_core
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        return untold("an engine's layers are told by a GPU that can run it, and none is here")
    inspector = engine.create_engine_inspector()
    try:
        said = inspector.get_engine_information(library.module.LayerInformationFormat.JSON)
    finally:
        # Before its engine, which it does not keep alive in 8.5 (pyCore.cpp: no keep_alive on create_engine_inspector);
        # locals are freed in the order in which they were named.
        del inspector
    return report_from_inspector(said)
