"""How the CPU waits for the GPU."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.support.errors import raises
from tests.support.photos import make_photo
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import RunFailed
from trtpoets.core.files import sha256_of_file
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.judge.bench import bench_child
from trtpoets.judge.bench.bench_child import description_from_artefact
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.onboard import commands


@pytest.mark.parametrize("cuda", [10020, 12060])
@pytest.mark.parametrize("wait", [Wait.SPIN, Wait.BLOCKING])
def test_the_wait_mode_is_set_before_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait: Wait, cuda: int
) -> None:
    gpu = FakeGpu(tiny_spec(), cuda=cuda)
    gpu.install(monkeypatch)
    gpu.wait_flags = 16  # another flag, which stays
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path), wait=wait) as runner:
        flags = {Wait.SPIN: 17, Wait.BLOCKING: 20}[wait]
        assert gpu.journal[:3] == [f"wait flags {flags}", "init", "retain"]
        assert runner.waits is wait
    with nothing_left(gpu), TensorRtRunner(paper_engine(tmp_path)) as runner:
        assert runner.waits is wait, "None leaves it as it is"
    with raises(RunFailed, "TP4079"):
        _ = runner.waits


@pytest.mark.parametrize(("cuda", "mode"), [(10020, Wait.AUTO), (11000, Wait.SPIN)])
def test_a_context_that_is_there_already(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, cuda: int, mode: Wait
) -> None:
    """Before CUDA 11 its flags can't be changed; the mode in effect is reported."""
    gpu = FakeGpu(tiny_spec(), cuda=cuda)
    gpu.install(monkeypatch)
    gpu.retain()
    with caplog.at_level(logging.INFO), TensorRtRunner(paper_engine(tmp_path), wait=Wait.SPIN) as runner:
        assert runner.waits is mode
    assert ("CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE" in caplog.text) is (mode is Wait.AUTO)
    gpu.let_go()


def test_benchmarks_spin_and_cameras_block(monkeypatch: pytest.MonkeyPatch) -> None:
    class Asked(Exception):
        pass

    def runner_in(*given: Any) -> Any:
        raise Asked(*given)

    assert bench_child._OPENER.keywords["wait"] is Wait.SPIN  # type: ignore[attr-defined]
    monkeypatch.setattr(commands, "bundle_here", lambda: "bundle")
    monkeypatch.setattr(commands, "runner_in", runner_in)
    with pytest.raises(Asked) as caught:
        commands.run(["classify", "camera"])
    assert caught.value.args == ("bundle", "engine", None, Wait.BLOCKING)


@pytest.mark.parametrize("wait", [None, Wait.SPIN])
def test_a_child_says_how_it_waits_and_what_it_can_have_under_way(
    gpu: FakeGpu, tmp_path: Path, wait: Wait | None
) -> None:
    make_photo(0, 0).save(tmp_path / "photo.png")
    photo, collected = tmp_path / "photo.png", []
    request = {
        "artefact": description_from_artefact(paper_engine(tmp_path)),
        "way": "plain",
        "photos": [[str(photo), sha256_of_file(photo)]],
        "prepared": False,
        "config": asdict(BenchConfig()),
        "energy": False,
        "bus_id": None,
    }
    opener = partial(open_runner, wait=wait)
    bench_child._serve(StringIO(json.dumps(request) + "\n"), opener, lambda **reply: collected.append(reply))
    (loaded,) = collected
    assert (loaded["waits"], loaded["slots"]) == ("spin" if wait else "auto", 2)
