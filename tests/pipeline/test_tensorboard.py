"""TensorBoard over real trainings: it answers with the runs, their curves, graphs and histograms, and ends quietly."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest

from tests.support.errors import raises
from trtpoets.core.errors import BadInput, Busy, MissingArtefact, MissingDependency
from trtpoets.core.training import HeadConfig
from trtpoets.pipeline.tensorboard import tensorboard
from trtpoets.train.head import head_from_bottlenecks


def train(logs: Path, *rates: float) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(40) % 2
    features = (random.normal(0, 1, (40, 6)) + labels[:, None]).astype(np.float32)
    for rate in rates:
        config = HeadConfig(steps=20, eval_interval=10, batch_size=10, learning_rate=rate)
        head_from_bottlenecks(features, labels, features, labels, 2, config, logs)


def asked(url: str, path: str) -> Any:
    """What TensorBoard answers, once it has read the files."""
    deadline = time.monotonic() + 20
    while True:
        with urlopen(url + path) as answer:
            document = json.loads(answer.read())
        if document or time.monotonic() > deadline:
            return document
        time.sleep(0.1)


def test_learning_rates_side_by_side(tmp_path: Path) -> None:
    train(tmp_path / "flowers" / "logs", 0.01, 0.1)
    board = tensorboard("flowers", engines=tmp_path, port=0)
    assert len(board.runs) == 4
    assert sorted({run.partition("_adam-")[2].partition("/")[0] for run in board.runs}) == ["0.01", "0.1"]
    for plugin, tag in (("scalars", "cross_entropy"), ("histograms", "head/weights")):
        tags = asked(board.url, f"data/plugin/{plugin}/tags")
        assert set(tags) <= set(board.runs)
        assert any(tag in item for item in tags.values())
    graphs = asked(board.url, "data/plugin/graphs/info")
    assert any(run.endswith("/train") and item["run_graph"] for run, item in graphs.items())
    everything = tensorboard(engines=tmp_path, port=0)
    assert all(run.startswith("flowers/logs/") for run in everything.runs)


def test_what_it_needs_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with raises(MissingArtefact, "TP8039", "flowers") as caught:
        tensorboard("flowers", engines=tmp_path)
    assert caught.value.hint == f"trtpoets retrain PHOTOS --name flowers --force --engines {tmp_path}"
    with raises(MissingArtefact, "TP8039", "no run in", "was trained here"):
        tensorboard(engines=tmp_path)
    with raises(BadInput, "TP8038", "99999"):
        tensorboard("flowers", engines=tmp_path, port=99999)
    train(tmp_path / "flowers" / "logs", 0.01)
    with socket.create_server(("localhost", 0)) as taken, raises(Busy, "TP8040", "already in use"):
        tensorboard("flowers", engines=tmp_path, port=taken.getsockname()[1])
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with raises(MissingDependency, "TP1050", "tensorboard is needed") as missing:
        tensorboard("flowers", engines=tmp_path)
    assert missing.value.hint == "pip install 'trtpoets[train]'"


@pytest.mark.slow
def test_the_command_ends_with_ctrl_c(tmp_path: Path) -> None:
    train(tmp_path / "flowers" / "logs", 0.01)
    command = [sys.executable, "-m", "trtpoets", "tensorboard", "flowers", "--engines", str(tmp_path), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "2 curves at http://" in child.stdout.readline()
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=30)
    assert child.returncode == 0, errors
    assert "Traceback" not in errors
