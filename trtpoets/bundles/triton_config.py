"""Generates config.pbtxt, the Triton configuration of a model, in protobuf text format (message ModelConfig)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from trtpoets.bundles.measured import best_row, rows_of
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, BatchRange, Precision

if TYPE_CHECKING:
    from trtpoets.bundles.bundle_inputs import BundleInputs
    from trtpoets.core.runner_id import RunnerId

WARM_UP = "photos"
"""The file in a model's warmup/ folder with one golden photo as raw bytes. perf_analyzer needs the input's name."""

_ENGINES = "/tmp/engines"  # noqa: S108 - in Triton's container, which has no other users
"""The folder in the container where ONNX Runtime caches TensorRT engines."""

_WORKSPACE = 1 << 30

_QUEUE = 16
"""Maximum queue length in batches. When the queue is full, requests are rejected at once instead of all being late."""

_DELAY_US, _MIN_DELAY_US, _MAX_DELAY_US = 1000, 100, 5000
"""Queue delay for dynamic batching, in µs: without measurements, and its limits with measurements."""


@dataclass(frozen=True)
class Batching:
    """The batching of a model: its largest batch size, its fastest one, and the queue delay in µs."""

    largest: int
    best: int
    delay_us: int


def batching_from_inputs(inputs: BundleInputs, runner: RunnerId, batch: BatchRange) -> Batching:
    """Return the batching from the measurements of a runner, or from the engine's batch range without measurements.

    The queue delay is half of the median latency of the smallest batch.
    """
    row = best_row(inputs, runner)
    if row is None or row["batch"] > batch.maximum:
        return Batching(batch.maximum, batch.optimum, _DELAY_US)
    smallest = min(rows_of(inputs, runner), key=lambda row: int(row["batch"]))
    delay = round(1000 * smallest["p50_ms"] / 2)
    return Batching(batch.maximum, int(row["batch"]), min(max(delay, _MIN_DELAY_US), _MAX_DELAY_US))


def tensorrt_config(inputs: BundleInputs, model: str, batching: Batching) -> str:
    """Return the configuration of a TensorRT engine on each GPU, with two instances to overlap copy and compute."""
    return "\n".join(
        [*_head(inputs, model, "tensorrt", batching), _instances(2, "KIND_GPU"), _warm_up(inputs, batching)]
    )


def onnx_config(inputs: BundleInputs, model: str, precision: Precision, prefix: str, batching: Batching) -> str:
    """Return the configuration of an ONNX file on each GPU, with the TensorRT execution provider of ONNX Runtime.

    `prefix` names its engines in the cache. The backend supports a single precision mode and rejects unknown parameters
    (onnxruntime_backend, onnxruntime.cc: precision_mode INT8 only sets trt_int8_enable), so the layers of int8.onnx
    that are not quantised run in FP32.
    """
    parameters = {
        "precision_mode": precision.name,
        "max_workspace_size_bytes": _WORKSPACE,
        "trt_engine_cache_enable": 1,
        "trt_engine_cache_path": _ENGINES,
        "trt_engine_cache_prefix": prefix,
        "trt_profile_min_shapes": inputs.shape(1),
        "trt_profile_opt_shapes": inputs.shape(batching.best),
        "trt_profile_max_shapes": inputs.shape(batching.largest),
    }
    lines = [f'      parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items()]
    # Level 2 disables graph optimisations, which would quantise layers of int8.onnx that are float on purpose.
    graph = ["  graph { level: 2 }"] if precision is Precision.INT8 else []
    optimization = [
        "optimization {",
        *graph,
        "  execution_accelerators {",
        '    gpu_execution_accelerator {\n      name: "tensorrt"',
        *lines,
        "    }\n  }\n}",
    ]
    head = _head(inputs, model, "onnxruntime", batching)
    return "\n".join([*head, _instances(1, "KIND_GPU"), *optimization, _warm_up(inputs, batching)])


def cpu_config(inputs: BundleInputs, model: str, batching: Batching) -> str:
    """Return the configuration of an ONNX file on the CPU, with one instance that uses all cores."""
    head = _head(inputs, model, "onnxruntime", batching)
    threads = 'parameters { key: "intra_op_thread_count" value { string_value: "0" } }\n'
    return "\n".join([*head, _instances(1, "KIND_CPU"), threads + _warm_up(inputs, batching)])


def _head(inputs: BundleInputs, model: str, backend: str, batching: Batching) -> list[str]:
    preprocess = inputs.spec.preprocess
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
        f'  name: "{OUTPUT_NAME}"\n  data_type: TYPE_FP32\n  dims: [ {len(inputs.spec.labels)} ]',
        '  label_filename: "labels.txt"\n}',
        "version_policy { latest { num_versions: 1 } }",
        "dynamic_batching {",
        *batches,
        f"  default_queue_policy {{ max_queue_size: {_QUEUE * batching.largest} }}\n}}",
    ]


def _instances(count: int, kind: str) -> str:
    return f"instance_group {{ count: {count} kind: {kind} }}"


def _warm_up(inputs: BundleInputs, batching: Batching) -> str:
    """Return the warm-up of a model: a golden photo with batch size 1, the fastest and the largest one."""
    preprocess = inputs.spec.preprocess
    dims = f"{preprocess.height}, {preprocess.width}, 3"
    value = f'data_type: TYPE_UINT8 dims: [ {dims} ] input_data_file: "{WARM_UP}"'
    return "".join(
        f'model_warmup {{\n  name: "batch_{size}"\n  batch_size: {size}\n'
        f'  inputs {{ key: "{INPUT_NAME}" value {{ {value} }} }}\n}}\n'
        for size in sorted({1, batching.best, batching.largest})
    )
