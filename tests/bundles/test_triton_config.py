"""Triton's configuration of a model."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.bundle_inputs import measured
from tests.support.tiny import tiny_spec
from trtpoets.bundles.triton_config import Batching, batching_from_inputs, cpu_config, onnx_config, tensorrt_config
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.types import BatchRange, Precision

FP16 = RunnerId(Library.ONNXRUNTIME, Precision.FP16)


def inputs(content: dict[str, Any] | None = None) -> Any:
    return SimpleNamespace(measured=content, spec=tiny_spec(), shape=lambda batch: f"photos:{batch}x16x16x3")


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([], Batching(32, 8, 1000)),
        ([("onnxruntime-fp16", 1, 250.0, True), ("onnxruntime-fp16", 16, 900.0, True)], Batching(32, 16, 2000)),
        ([("onnxruntime-fp16", 1, 100_000.0, True)], Batching(32, 1, 100)),
        ([("onnxruntime-fp16", 1, 10.0, True)], Batching(32, 1, 5000)),
        ([("onnxruntime-fp16", 64, 900.0, True)], Batching(32, 8, 1000)),
    ],
)
def test_batching_follows_the_measurements_within_limits(rows: list[Any], expected: Batching) -> None:
    assert batching_from_inputs(inputs(measured(rows)), FP16, BatchRange(1, 8, 32)) == expected


def test_each_backend_has_its_instances() -> None:
    batching = Batching(32, 8, 500)
    engine = tensorrt_config(inputs(), "tiny_fp16", batching)
    assert 'name: "tiny_fp16"\nbackend: "tensorrt"\nmax_batch_size: 32' in engine
    assert "instance_group { count: 2 kind: KIND_GPU }" in engine
    assert "preferred_batch_size: [ 8 ]" in engine and "max_queue_delay_microseconds: 500" in engine
    assert "dims: [ 16, 16, 3 ]" in engine and "dims: [ 3 ]" in engine
    assert [f'name: "batch_{size}"' in engine for size in (1, 8, 32)] == [True] * 3
    cpu = cpu_config(inputs(), "tiny_cpu", Batching(4, 1, 500))
    assert "instance_group { count: 1 kind: KIND_CPU }" in cpu and "preferred_batch_size" not in cpu
    assert 'key: "intra_op_thread_count" value { string_value: "0" }' in cpu


@pytest.mark.parametrize(("precision", "level"), [(Precision.INT8, True), (Precision.FP16, False)])
def test_onnx_files_run_with_tensorrt_and_int8_is_not_quantised_again(precision: Precision, level: bool) -> None:
    text = onnx_config(inputs(), "tiny", precision, "prefix", Batching(32, 8, 500))
    assert ("graph { level: 2 }" in text) is level
    assert f'key: "precision_mode" value: "{precision.name}"' in text
    assert 'key: "trt_profile_opt_shapes" value: "photos:8x16x16x3"' in text
    for config in (text, cpu_config(inputs(), "m", Batching(1, 1, 1))):
        assert config.count("{") == config.count("}") and config.count("[") == config.count("]")
