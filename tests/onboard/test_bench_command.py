"""The command bench of a bundle."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import board_bundle as paper
from tests.fakes.board_bundle import Board, as_json
from tests.support import tiny
from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import MissingArtefact
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Precision, Resize
from trtpoets.judge.bench import benchmark
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.bench.benchmark_file import read_benchmark
from trtpoets.onboard import bench_command
from trtpoets.onboard.installed_bundle import open_bundle
from trtpoets.onboard.result_lines import bench_lines


@pytest.mark.slow
def test_bench_as_in_a_workspace(board: Board, bundle: Path) -> None:
    assert board.run(bundle, "build").returncode == 0
    result = board.run(bundle, "bench", "tiny", "--batch", "1", "--seconds", "0.1", "--json", "--max-p99", "0.000001")
    assert result.returncode == 3, result.stderr
    assert "Error: " in result.stderr
    actual = as_json(result)
    rows = {row["runner"]: row for row in actual["measurements"]}
    assert rows["tensorrt-int8"]["p50_ms"] > 0
    assert rows[actual["baseline"]]["speedup"] in (1.0, None)
    assert actual["photos"] == 4
    saved = read_benchmark(bundle / "built" / "benchmark.json")
    assert to_json(saved) == actual
    assert re.search(r"^tensorrt-int8 +1 ", "\n".join(bench_lines(saved)), re.MULTILINE)


@pytest.mark.slow
def test_golden_photos_are_not_cropped_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The network of this bundle uses the centre of a photo, and a golden photo is already cropped."""
    whole = tiny_spec()
    spec = replace(whole, preprocess=replace(whole.preprocess, resize=Resize.CROP, crop_fraction=0.5))
    framed = tiny_photos(4)
    framed[:, 0] = 255
    monkeypatch.setattr(tiny, "tiny_spec", lambda: spec)
    monkeypatch.setattr(paper, "tiny_spec", lambda: spec)
    monkeypatch.setattr(paper, "tiny_photos", lambda *_: framed)
    bundle = open_bundle(paper.paper_bundle(tmp_path / "tiny-jetson", [Precision.FP32]))
    monkeypatch.setattr(bench_command, "installed", lambda _: {"onnxruntime": "1"})
    monkeypatch.setattr(
        benchmark, "_CHILD", (sys.executable, "-m", "tests.fakes.failing_runners", '{"fp32": "framed"}')
    )
    measured = bench_command.bench(bundle, BenchConfig(batches=(1,), min_seconds=0.1))
    assert measured.failures == ()
    assert len(measured.measurements) == 1


@pytest.mark.slow
def test_a_benchmark_beside_another_baseline_is_not_compared(here: Board, bundle: Path, tmp_path: Path) -> None:
    assert here.run(bundle, "build").returncode == 0
    (tmp_path / "old.json").write_text('{"measurements": [], "conditions": {}, "config": {}}')
    result = here.run(bundle, "bench", "--compare", str(tmp_path / "old.json"))
    assert result.returncode == 1
    assert "[TP7001]" in result.stderr and "baseline tensorflow" in result.stderr


def test_nothing_to_bench(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_command, "installed", lambda _: {})
    with raises(MissingArtefact, "TP7002"):
        bench_command.bench(open_bundle(bundle), BenchConfig())
