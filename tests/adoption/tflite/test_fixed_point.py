"""HARD_SWISH of 8-bit integers, compared with the interpreter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.tflite_files import TfliteFile
from trtpoets.adoption.tflite.fixed_point import hard_swish_table
from trtpoets.core.optional import loaded_interpreter

pytest.importorskip("ai_edge_litert")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_tables_are_those_of_the_interpreter(tmp_path: Path, dtype: str) -> None:
    random = np.random.default_rng(0)
    limits = np.iinfo(dtype)
    differ_from_rounding = 0
    for _ in range(20):
        source = float(np.float32(random.uniform(0.01, 0.12))), int(random.integers(limits.min, limits.max))
        target = float(np.float32(random.uniform(0.01, 0.08))), int(random.integers(limits.min, limits.max - 70))
        file = TfliteFile()
        file.inputs = [file.tensor("x", (1, 256), dtype, *source)]
        file.outputs = [file.tensor("y", (1, 256), dtype, *target)]
        file.operator("HARD_SWISH", file.inputs, file.outputs)
        interpreter = loaded_interpreter(file.write(tmp_path / "net.tflite").read_bytes(), 1, own_kernels=False)
        integers = np.arange(limits.min, limits.max + 1)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], integers[None].astype(dtype))
        interpreter.invoke()
        (expected,) = interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).astype(int) - target[1]
        table = hard_swish_table(source, target, (limits.min, limits.max))
        np.testing.assert_array_equal(table, expected)
        real = (integers - source[1]) * source[0]
        rounded = np.rint(real * np.clip(real + 3, 0, 6) / 6 / target[0])
        differ_from_rounding += (np.clip(rounded, limits.min - target[1], limits.max - target[1]) != expected).any()
    assert differ_from_rounding
