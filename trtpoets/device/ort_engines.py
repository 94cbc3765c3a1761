"""Where the engines that ONNX Runtime builds are kept: a folder for each GPU and each set of libraries.

ONNX Runtime tells cached engines apart by the network and the compute capability alone ("..._sm87.engine"), and fails
where TensorRT refuses one: "engine cache files must be invalidated if there are any changes to the model, ORT version,
TensorRT version or if the underlying hardware changes" (onnxruntime.ai, TensorRT execution provider, `trt_engine_cache_
enable`). All Jetson Orin modules are sm87.
"""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.errors import RunFailed
from trtpoets.core.optional import installed
from trtpoets.core.types import hash_of
from trtpoets.device.gpu import libcuda

_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-cu12-libs"),
    *("tensorrt-cu13", "tensorrt-cu13-libs"),
)


def engines_below(folder: Path) -> Path:
    """The folder below `folder` for this machine's GPU, driver (on a Jetson, the L4T release) and libraries."""
    try:
        gpu = list(libcuda.gpus()[0].identity)
    except RunFailed:  # ONNX Runtime has its own words for that
        gpu = []
    return folder / hash_of([gpu, libcuda.driver_version(), installed(_PACKAGES)])[:12]
