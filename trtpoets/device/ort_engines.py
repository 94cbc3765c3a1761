"""The cache folder for engines that ONNX Runtime builds: one for each GPU and set of library versions.

ONNX Runtime identifies cached engines only by the network and the compute capability ("..._sm87.engine"), and fails if
TensorRT can't load one: "engine cache files must be invalidated if there are any changes to the model, ORT version,
TensorRT version or if the underlying hardware changes" (onnxruntime.ai, TensorRT execution provider, `trt_engine_cache_
enable`). All Jetson Orin modules are sm87.
"""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.optional import installed
from trtpoets.core.types import hash_of
from trtpoets.device.gpu import libcuda

_PACKAGES = (
    *("onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-cu12", "tensorrt-cu12-libs"),
    *("tensorrt-cu13", "tensorrt-cu13-libs"),
)


def engines_below(folder: Path) -> Path:
    """The subfolder of `folder` for this machine's GPU, driver (on a Jetson, the L4T release) and libraries."""
    gpus = libcuda.detect().gpus  # without a GPU, ONNX Runtime reports the problem itself
    gpu = list(gpus[0].identity) if gpus else []
    return folder / hash_of([gpu, libcuda.driver_version(), installed(_PACKAGES)])[:12]
