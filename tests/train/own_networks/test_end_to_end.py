"""Networks with layers of trtpoets, from `--weights` to engines: as a user runs them, with random weights."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import onnx
import pytest

from tests.support.photos import photo_folder
from tests.support.torch_files import legacy_file
from tests.support.torch_networks import TorchNetwork, googlenet, mobilenet_v4, regnet
from trtpoets.core.workspace import Workspace

NETWORKS: dict[str, Callable[[], tuple[TorchNetwork, str]]] = {
    "googlenet": googlenet,
    "regnet_x_400mf": partial(regnet, "regnet_x_400mf"),
    "regnet_y_400mf": partial(regnet, "regnet_y_400mf"),
    "mobilenet_v4_conv_small": partial(mobilenet_v4, "mobilenet_v4_conv_small"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_engines_of_all_precisions_are_built(name: str, tmp_path: Path) -> None:
    """`retrain --backbone NAME --weights FILE`, `export`, `quantize`, `build` with TensorRT-RTX."""
    pytest.importorskip("tensorflow")
    pytest.importorskip("tensorrt_rtx")
    photos = photo_folder(tmp_path / "photos", dict.fromkeys(("ant", "bee", "cow"), 20), (96, 96))
    weights = tmp_path / "random.pth"
    weights.write_bytes(legacy_file(NETWORKS[name]()[0].tensors))
    for arguments in (
        ["retrain", photos, "--name", "net", "--backbone", name, "--weights", weights, "--steps", "100"],
        ["export", "net"],
        ["quantize", "net", "--photos", "8", "--method", "mse", "--max-float-layers", "0"],
        ["build", "net", "--flavour", "rtx", "--workspace", "256"],
    ):
        command = [sys.executable, "-m", "trtpoets", *map(str, arguments)]
        environment = {**os.environ, "TRTPOETS_CACHE": str(tmp_path / "cache")}
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    run = Workspace(tmp_path / "engines", "net")
    engines = sorted(path.name for path in run.folder.rglob("*.engine"))
    assert len(engines) == 3, engines
    int8 = onnx.load(run.folder / "int8.onnx")
    convolutions = [node for node in int8.graph.node if node.op_type == "Conv"]
    dequantised = {output for node in int8.graph.node if node.op_type == "DequantizeLinear" for output in node.output}
    # Those of squeeze-and-excitation, a third of a RegNetY, stay in floating point.
    assert sum(node.input[1] in dequantised for node in convolutions) > 0.6 * len(convolutions)
