"""config.pbtxt: what Triton is told about one model of a bundle, in protobuf's text format (message ModelConfig)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.bundles.measured import best_row, rows_of
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, BatchRange, Precision

if TYPE_CHECKING:
    from trtpoets.bundles.bundle_inputs import Parts
    from trtpoets.core.runner_id import RunnerId

WARM_UP = "photos"
"""The file, in a model's warmup/, with one golden photo as raw bytes. perf_analyzer finds it by the input's name."""

_ENGINES = "/tmp/engines"  # noqa: S108 - in Triton's own container, where nobody else is
"""Where ONNX Runtime keeps the engines that TensorRT builds for it, in the container."""

_WORKSPACE = 1 << 30

_QUEUE = 16
"""So many batches may wait; then requests are refused at once, instead of all of them being late."""

_DELAY_US, _LEAST_US, _MOST_US = 1000, 100, 5000
"""How long a photo waits for others to go with it: where nothing was measured, and the bounds where something was."""


@dataclass(frozen=True)
class Batching:
    """The batch sizes of a model: the largest it takes, the one that does most; and how long to wait for it, in µs."""

    largest: int
    best: int
    delay_us: int


def batching_from_parts(parts: Parts, runner: RunnerId, batch: BatchRange) -> Batching:
    """From what was measured of a runner; else what the engine is tuned for.

    A photo waits for half of the time that a batch of the smallest size takes.
    """
    row = best_row(parts, runner)
    if row is None or row["batch"] > batch.maximum:
        return Batching(batch.maximum, batch.optimum, _DELAY_US)
    first = min(rows_of(parts, runner), key=lambda each: int(each["batch"]))
    delay = round(1000 * first["p50_ms"] / 2)
    return Batching(batch.maximum, int(row["batch"]), min(max(delay, _LEAST_US), _MOST_US))


def tensorrt_config(parts: Parts, model: str, batching: Batching) -> str:
    """A TensorRT engine on each GPU, in two instances: one copies photos while the other computes."""
    return "\n".join([*_head(parts, model, "tensorrt", batching), _instances(2, "KIND_GPU"), _warm_up(parts, batching)])


def onnx_config(parts: Parts, model: str, precision: Precision, prefix: str, batching: Batching) -> str:
    """An ONNX file on each GPU, by the TensorRT that ONNX Runtime drives. `prefix` names its engines in the cache.

    The backend takes one precision and refuses parameters that it does not know (onnxruntime_backend, onnxruntime.cc:
    precision_mode INT8 sets trt_int8_enable alone), so an INT8 file's remainder is FP32 there.
    """
    parameters = {
        "precision_mode": precision.name,
        "max_workspace_size_bytes": _WORKSPACE,
        "trt_engine_cache_enable": 1,
        "trt_engine_cache_path": _ENGINES,
        "trt_engine_cache_prefix": prefix,
        "trt_profile_min_shapes": parts.shape(1),
        "trt_profile_opt_shapes": parts.shape(batching.best),
        "trt_profile_max_shapes": parts.shape(batching.largest),
    }
    lines = [f'      parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items()]
    # Level 2 is none: ONNX Runtime would round layers of the INT8 file that are in float on purpose.
    graph = ["  graph { level: 2 }"] if precision is Precision.INT8 else []
    optimization = [
        "optimization {",
        *graph,
        "  execution_accelerators {",
        '    gpu_execution_accelerator {\n      name: "tensorrt"',
        *lines,
        "    }\n  }\n}",
    ]
    head = _head(parts, model, "onnxruntime", batching)
    return "\n".join([*head, _instances(1, "KIND_GPU"), *optimization, _warm_up(parts, batching)])


def cpu_config(parts: Parts, model: str, batching: Batching) -> str:
    """An ONNX file on the CPU, with all cores for one instance."""
    head = _head(parts, model, "onnxruntime", batching)
    threads = 'parameters { key: "intra_op_thread_count" value { string_value: "0" } }\n'
    return "\n".join([*head, _instances(1, "KIND_CPU"), threads + _warm_up(parts, batching)])


def _head(parts: Parts, model: str, backend: str, batching: Batching) -> list[str]:
    preprocess = parts.spec.preprocess
    batches = [f"  max_queue_delay_microseconds: {batching.delay_us}"]
    if batching.best > 1:
        batches.insert(0, f"  preferred_batch_size: [ {batching.best} ]")
    return [
        f'name: "{model}"',
        f'backend: "{backend}"',
        f"max_batch_size: {batching.largest}",
        "input {",
        f'  name: "{INPUT_NAME}"\n  data_type: TYPE_UINT8\n  dims: [ {preprocess.height}, {preprocess.width}, 3 ]',
        "}\noutput {",
        f'  name: "{OUTPUT_NAME}"\n  data_type: TYPE_FP32\n  dims: [ {len(parts.spec.labels)} ]',
        '  label_filename: "labels.txt"\n}',
        "version_policy { latest { num_versions: 1 } }",
        "dynamic_batching {",
        *batches,
        f"  default_queue_policy {{ max_queue_size: {_QUEUE * batching.largest} }}\n}}",
    ]


def _instances(count: int, kind: str) -> str:
    return f"instance_group {{ count: {count} kind: {kind} }}"


def _warm_up(parts: Parts, batching: Batching) -> str:
    """A golden photo alone, in the best batch and in the largest, before the model counts as ready."""
    preprocess = parts.spec.preprocess
    dims = f"{preprocess.height}, {preprocess.width}, 3"
    value = f'data_type: TYPE_UINT8 dims: [ {dims} ] input_data_file: "{WARM_UP}"'
    return "".join(
        f'model_warmup {{\n  name: "batch_{size}"\n  batch_size: {size}\n'
        f'  inputs {{ key: "{INPUT_NAME}" value {{ {value} }} }}\n}}\n'
        for size in sorted({1, batching.best, batching.largest})
    )
