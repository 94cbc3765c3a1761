"""`bottlenecks` passes its options on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.cli.test_main import call_main
from tests.support.errors import raises
from trtpoets.core.errors import BadInput
from trtpoets.core.types import Resize
from trtpoets.pipeline.bottlenecks import ComputedBottlenecks
from trtpoets.pipeline.retrain import RetrainConfig
from trtpoets.pipeline.shards import Shard, ShardState
from trtpoets.pipeline.stage_options import require_unused


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    called: list[tuple[Any, ...]] = []

    def work(
        photos: Path, config: RetrainConfig, *, shard: Shard | None, progress: Any, workers: str
    ) -> ComputedBottlenecks:
        called.append((photos, config, shard, workers))
        return ComputedBottlenecks(config.backbone, shard, 1200, 1000, 2, 65.0, Path("cache"))

    def check(photos: Path, config: RetrainConfig, *, progress: Any) -> tuple[ShardState, ...]:
        called.append((photos, config))
        return (ShardState(1, 2, 600, 0), ShardState(2, 2, 602, 0))

    monkeypatch.setattr("trtpoets.pipeline.bottlenecks.bottlenecks", work)
    monkeypatch.setattr("trtpoets.pipeline.bottlenecks.check_shards", check)
    return called


def test_a_shard(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (
        "--backbone",
        "mobilenet_v2",
        "--resize",
        "crop",
        "--shard",
        "2/8",
        "--workers",
        "ray",
        "--labels",
        "a.csv",
    )
    call_main(monkeypatch, "bottlenecks", "photos", *words)
    ((photos, config, shard, workers),) = calls
    assert workers == "ray"
    assert (photos, shard, config.backbone) == (Path("photos"), Shard(2, 8), "mobilenet_v2")
    assert (config.resize, config.dataset.labels) == (Resize.CROP, "a.csv")
    text = " ".join(capsys.readouterr().out.split())
    assert "1,200 photos of shard 2/8" in text and "1,000 computed in 65" in text and "2 files" in text


def test_the_number_from_the_environment(calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "4")
    call_main(monkeypatch, "bottlenecks", "photos", "--shard", "auto/8")
    call_main(monkeypatch, "bottlenecks", "photos")
    assert [call[2] for call in calls] == [Shard(4, 8), None]


def test_the_check(
    calls: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call_main(monkeypatch, "bottlenecks", "photos", "--check")
    assert len(calls) == 1
    assert "2/2" in capsys.readouterr().out
    with raises(BadInput, "TP8037", "--shard"):
        require_unused("--check", {"--shard": "1/2"})
