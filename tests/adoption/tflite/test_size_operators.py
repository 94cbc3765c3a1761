"""RESIZE, TILE and PACK, compared with the interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tflite_networks import Network, check, random_values, real_answers
from trtpoets.adoption.tflite import network_from_tflite
from trtpoets.adoption.tflite.to_onnx import session_of

pytest.importorskip("ai_edge_litert")
pytestmark = pytest.mark.usefixtures("sound_files")


@pytest.mark.parametrize("int8", [False, True], ids=["float", "int8"])
@pytest.mark.parametrize("kind", ["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"])
@pytest.mark.parametrize(("corners", "centres"), [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("size", [(16, 12), (5, 7)], ids=["larger", "smaller"])
def test_resizing(tmp_path: Path, kind: str, corners: bool, centres: bool, size: tuple[int, int], int8: bool) -> None:
    network = Network(int8=int8)
    table = "ResizeBilinearOptions" if kind == "RESIZE_BILINEAR" else "ResizeNearestNeighborOptions"
    values = {"alignCorners": corners, "halfPixelCenters": centres}
    current = network.add(kind, [network.start, network.constant(list(size))], (1, *size, 4), table, **values)
    if not int8 or kind == "RESIZE_NEAREST_NEIGHBOR":
        check(network.finish(current), tmp_path / "net.tflite", 1e-4)
        return
    # The interpreter interpolates integers with weights of few bits: single integers differ by one step.
    network.finish(current).write(tmp_path / "net.tflite")
    rounded, _ = network_from_tflite(tmp_path / "net.tflite")
    values_ = random_values(12)
    expected = real_answers(tmp_path / "net.tflite", values_)
    assert abs(session_of(rounded)(values_) - expected).max() < 0.1 * max(1, expected.std())


def test_tiles_and_packs(tmp_path: Path) -> None:
    network = Network()
    current = network.add("TILE", [network.start, network.constant([1, 1, 2, 1])], (1, 8, 16, 4))
    mean = network.add("MEAN", [current, network.constant([1])], (1, 16, 4), "ReducerOptions", keepDims=False)
    largest = network.add("REDUCE_MAX", [current, network.constant([1])], (1, 16, 4), "ReducerOptions", keepDims=False)
    current = network.add("PACK", [mean, largest], (1, 16, 2, 4), "PackOptions", axis=2, valuesCount=2)
    check(network.finish(current), tmp_path / "net.tflite")
