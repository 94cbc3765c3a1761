"""A large file with few multiply-adds is adopted within the memory that is announced, and in about a minute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.adoption.onnx.networks import SIDE, Foreign, image, saved, scores
from trtpoets.adoption.sizes import needed_memory
from trtpoets.core.system_files import available_memory
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace

_MIB = 1 << 20

_PROGRAM = """
import json, resource, sys, trtpoets
from trtpoets.adoption.contract_options import contract_options
from trtpoets.pipeline.adopt import AdoptConfig

config = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))
trtpoets.adopt(sys.argv[1], "large", config=config, engines=sys.argv[2])
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"seconds": used.ru_utime + used.ru_stime, "bytes": 1024 * used.ru_maxrss}))
"""


@pytest.mark.slow
def test_a_file_of_350_mib(tmp_path: Path) -> None:
    features = 3 * SIDE * SIDE
    hidden = 350 * _MIB // 4 // features
    random = np.random.default_rng(0)
    net = Foreign()
    flat = net.op("Flatten", "input")
    first = net.op("Gemm", flat, net.number(0.02 * random.standard_normal((features, hidden), np.float32)))
    second = net.number(0.01 * random.standard_normal((hidden, 3), np.float32))
    net.op("Softmax", net.op("Gemm", net.op("Relu", first), second), outputs=["output"])
    path = saved(net.model([image()], [scores()]), tmp_path / "large.onnx")
    size = path.stat().st_size
    assert 349 * _MIB < size < 352 * _MIB
    if available_memory() < needed_memory(size):
        pytest.skip("too little memory is free")
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, str(path), str(tmp_path / "engines")],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    used = json.loads(done.stdout.splitlines()[-1])
    assert size < used["bytes"] < needed_memory(size)
    assert used["seconds"] < 90
    assert Workspace(tmp_path / "engines", "large").onnx(Precision.FP32).stat().st_size == pytest.approx(size, rel=0.01)
