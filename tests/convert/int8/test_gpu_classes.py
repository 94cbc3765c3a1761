"""The GPUs for which times are estimated: one for each Jetson module, in the order of their speed."""

from __future__ import annotations

import pytest

from trtpoets.convert.int8.gpu_classes import GPU_CLASSES
from trtpoets.convert.int8.layer_costs import LayerShape, layer_seconds
from trtpoets.device.capability import fast_types_of
from trtpoets.device.jetson.jetpack import BOARDS, CHIPS


def test_each_module_is_in_the_table() -> None:
    assert set(GPU_CLASSES) == {board.name for board in BOARDS} | {"t4"}
    assert all(gpu.batch == 1 for gpu in GPU_CLASSES.values())
    assert all(GPU_CLASSES[board.name].name == board.title for board in BOARDS)


@pytest.mark.parametrize("board", BOARDS, ids=lambda board: str(board.name))
def test_int8_is_faster_only_where_the_gpu_computes_it_fast(board: object) -> None:
    own = next(item for item in BOARDS if item is board)
    gpu = GPU_CLASSES[own.name]
    fast = fast_types_of(CHIPS[own.chip].compute_capability)
    assert (gpu.tensor[1] > gpu.tensor[2]) == fast.int8
    assert (gpu.vector[1] > gpu.vector[2]) == fast.int8


def test_newer_modules_are_faster() -> None:
    layer = LayerShape(work=100_000_000, read=200_000, written=200_000, weights=1_000_000)
    order = ("nano", "tx1", "tx2", "xavier-nx", "orin-nano", "orin-nx", "agx-orin", "agx-thor")
    seconds = [layer_seconds(layer, GPU_CLASSES[name], width=2, read_width=2, written_width=2) for name in order]
    assert seconds == sorted(seconds, reverse=True)
