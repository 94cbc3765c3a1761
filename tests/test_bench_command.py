"""What `bench` does around the measuring: keeps it whatever happens, compares, knows the ways to run an artefact."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.test_benchmark import QUICK
from tests.test_compare import benchmark as measured
from tests.tiny import tiny_spec
from trtpoets.core.errors import BadArtefact, BadInput, Interrupted
from trtpoets.core.spec import Classifier, OnnxModel, Precision
from trtpoets.core.workspace import Workspace, open_card
from trtpoets.device.runners import Way
from trtpoets.judge.bench_config import BenchConfig, Scenario
from trtpoets.pipeline import judge
from trtpoets.pipeline.options import bench_config


class Measured:
    """Stands for a benchmark; counts how often one was made."""

    def __init__(self, incomplete: str = "") -> None:
        self.incomplete, self.made = incomplete, 0
        self.failures = ()

    def __call__(self, *_: Any) -> Measured:
        self.made += 1
        return self

    def to_dict(self) -> dict[str, Any]:
        return {**measured(self.made, 5.0), "incomplete": self.incomplete}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Measured:
    """A run without artefacts, and a benchmark that takes no time."""
    found = Measured()
    monkeypatch.setattr(judge, "benchmark_from_artefacts", found)
    monkeypatch.setattr(judge, "artefacts_in", lambda space: ())
    monkeypatch.setattr(judge, "photos_to_judge", lambda space: ())
    return found


def test_ctrl_c_leaves_a_benchmark_that_says_so(made: Measured, tmp_path: Path) -> None:
    made.incomplete = "at batch 1, in round 3 of 20"
    with pytest.raises(Interrupted, match="interrupted at batch 1, in round 3 of 20; what was measured") as caught:
        trtpoets.bench("flowers", QUICK, engines=tmp_path)
    assert caught.value.exit_code == 130
    space = Workspace(tmp_path, "flowers")
    kept = open_card(space.benchmark)
    assert kept is not None
    assert (kept["incomplete"], len(kept["measurements"])) == (made.incomplete, 2)
    made.incomplete = ""
    trtpoets.bench("flowers", QUICK, engines=tmp_path, force=False)
    trtpoets.bench("flowers", QUICK, engines=tmp_path, force=False)
    assert made.made == 2, "an incomplete one is measured again, a complete one is not"


def test_what_changed_since_an_older_one(made: Measured, tmp_path: Path) -> None:
    trtpoets.bench("flowers", QUICK, engines=tmp_path)
    older = Workspace(tmp_path, "flowers").benchmark
    found = trtpoets.bench("flowers", QUICK, compare=older, engines=tmp_path)
    assert [each["verdict"] for each in found["compared"]["changes"]] == ["same", "same"]
    assert open_card(older) == found
    (tmp_path / "other.json").write_text("{}")
    with pytest.raises(BadArtefact, match="is no benchmark"):
        trtpoets.bench("flowers", QUICK, compare=tmp_path / "other.json", engines=tmp_path)
    assert made.made == 2, "a file that can't be read is told before anything is measured"


def test_the_ways_to_run_what_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(judge, "gpu_providers", lambda: ["cuda"])
    artefacts = [Classifier(tmp_path, tiny_spec()), OnnxModel(tmp_path / "x.onnx", Precision.FP32, tiny_spec())]
    assert judge._ways(artefacts, QUICK) == {0: (Way.PLAIN,), 1: (Way.PLAIN, Way.CUDA)}
    more = judge._ways(artefacts, replace(QUICK, xla=True, keras=True, cpu=True))
    assert more[0] == (Way.PLAIN, Way.CPU, Way.XLA, Way.KERAS)


def test_options_become_a_configuration() -> None:
    assert bench_config(None, 2.0, 0) == BenchConfig()
    assert bench_config(None, 60.0, 0).max_seconds == 120.0
    assert bench_config(None, 2.0, 0, max_p99=5.0).min_count == 662
    assert bench_config(None, 2.0, 0, loadgen=True).scenario == "single-stream"
    server = bench_config([4], 2.0, 1, scenario=Scenario.SERVER, target_qps=100.0, max_p99=20.0)
    assert (server.batches, server.target_qps, server.max_p99_ms, server.threads) == ((4,), 100.0, 20.0, 1)
    with pytest.raises(BadInput, match="--target-qps 100 is a server's"):
        bench_config(None, 2.0, 0, target_qps=100.0)
