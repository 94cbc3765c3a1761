"""Options of ONNX Runtime's execution providers, shared by the runners that `bench` measures and by bundles.

Names and values are those of ONNX Runtime (onnxruntime.ai/docs/execution-providers/TensorRT-ExecutionProvider.html and
CUDA-ExecutionProvider.html; the strings in libonnxruntime_providers_tensorrt.so of onnxruntime-gpu 1.31). Reasons:

- `trt_int8_enable`: a network with Q/DQ pairs can't be built without it ("Int8 precision has been set for a layer or
  layer output, but int8 is not configured in the builder", github.com/microsoft/onnxruntime/issues/13381);
- `trt_fp16_enable`: without it TensorRT computes in FP32, whatever the types in the file;
- `trt_profile_*_shapes`: with them the engine is built or read from the cache when the session is opened. Without
  them it is built inside the first `run` of each new batch size (tensorrt_execution_provider.cc: "Otherwise engine will
  be handled at inference time");
- `trt_engine_cache_*`: a cached engine is found by its name, which contains the hash of the file. ONNX Runtime compares
  the profiles of a cached engine with the requested ones, and rebuilds it if they differ.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

from trtpoets.core.errors import StorageFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.core.own_files import open_folder
from trtpoets.core.paths import cache_root
from trtpoets.core.shell_commands import quote
from trtpoets.core.storage import storage_errors
from trtpoets.core.types import INPUT_NAME, BatchRange, ModelSpec, OnnxModel, Precision

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
"""ONNX Runtime's names of its execution providers."""

PROVIDERS = {"cpu": CPU, "cuda": CUDA, "tensorrt": TENSORRT}
"""Execution providers by the values of --provider."""

Providers = List[Tuple[str, Dict[str, Any]]]
"""(name, options) of each provider in the order of preference: nodes that one does not support run on the next."""

_FLAGS = {Precision.FP32: (), Precision.FP16: ("fp16",), Precision.INT8: ("int8", "fp16")}
"""Precisions that the builder may use, as for our engines: ONNX Runtime 1.20 to 1.31 builds weakly typed networks."""

_WORKSPACE = 1 << 30


def providers_of(provider: str, model: OnnxModel, batch: BatchRange, engines: str) -> Providers:
    """The providers of a session: `provider`, followed by those that run the nodes it does not support.

    `batch` is the range of batch sizes of the TensorRT engine, `engines` the folder in which it is cached.
    """
    cpu: Providers = [(CPU, {})]
    cuda: Providers = [(CUDA, {"device_id": 0, "cudnn_conv_algo_search": "EXHAUSTIVE"})]
    if provider == CPU:
        return cpu
    if provider == CUDA:
        return [*cuda, *cpu]
    return [(TENSORRT, tensorrt_options(model, batch, engines)), *cuda, *cpu]


def tensorrt_options(model: OnnxModel, batch: BatchRange, engines: str) -> dict[str, object]:
    """The options of the TensorRT provider for one network."""
    sizes = {"min": batch.minimum, "opt": batch.optimum, "max": batch.maximum}
    shapes = {f"trt_profile_{word}_shapes": shape_text(model.spec, size) for word, size in sizes.items()}
    return {
        "device_id": 0,
        **{f"trt_{flag}_enable": True for flag in _FLAGS[model.precision]},
        **shapes,
        "trt_max_workspace_size": _WORKSPACE,
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": engines,
        "trt_engine_cache_prefix": f"{model.precision.value}_{sha256_of_file(model.path)[:12]}",
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": engines,
    }


def shape_text(spec: ModelSpec, batch: int) -> str:
    """The input shape for a batch size in the form of trtexec and ONNX Runtime: "photos:8x224x224x3"."""
    return f"{INPUT_NAME}:{batch}x{spec.preprocess.height}x{spec.preprocess.width}x3"


def batch_range_for(batches: Sequence[int]) -> BatchRange:
    """The batch range of an engine for the batch sizes `batches`: the default range, extended if it is too small.

    The optimum is the default one if it is in `batches` or `batches` is empty, else the largest of `batches`.
    """
    default = BatchRange()
    optimum = max(batches) if batches and default.optimum not in batches else default.optimum
    return BatchRange(default.minimum, optimum, max(default.maximum, *batches, 1))


def engine_cache_folder() -> Path:
    """The private folder in which ONNX Runtime caches engines; it is created if it does not exist.

    Engines are code, and ONNX Runtime opens any file with the right name. Raises StorageFailed if the folder belongs to
    another user or others may write to it.
    """
    folder = cache_root() / "onnxruntime-tensorrt"
    with storage_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    require_private(folder)
    return folder


def require_private(folder: Path) -> None:
    """Raise StorageFailed unless `folder` belongs to this user and no other user may write to it."""
    handle = open_folder(folder)
    try:
        status = os.fstat(handle)
    finally:
        os.close(handle)
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise StorageFailed(
            f"another user may write to {folder}, whose engines are run as code",
            hint=f"rm -r {quote(folder)}",
            code="TP1072",
        )
