"""Each interrupted command says what it keeps, and no more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cli.test_main import call_main
from trtpoets.cli import interruption
from trtpoets.cli.interruption import Kept

COMMANDS: list[tuple[str, str, Kept]] = [
    ("run.demo", "demo", interruption.STAGES),
    ("run.run", "run photos --name mine", interruption.STAGES),
    ("run.run", "run photos --name mine --force", interruption.STAGES.or_repeated(True)),
    ("retrain.retrain", "retrain photos --name mine", interruption.HEAD),
    ("retrain.retrain", "retrain photos --name mine --unfreeze 3", interruption.FINE_TUNING),
    ("sweep.sweep", "sweep photos --name mine", interruption.SWEEP),
    ("race.race", "race photos --name mine", interruption.RACE),
    ("bottlenecks.bottlenecks", "bottlenecks photos", interruption.FEATURES),
    ("bottlenecks.check_shards", "bottlenecks photos --check", interruption.NOTHING),
    ("pretrained.pretrained", "pretrained mobilenet_v2 --name mine", interruption.NOTHING),
    ("adopt.adopt", "adopt file.onnx --name mine", interruption.NOTHING),
    ("export.export", "export mine", interruption.NOTHING),
    ("quantize.quantize", "quantize mine", interruption.ONNX_FILES),
    ("quantize.quantize", "quantize mine --force", interruption.ONNX_FILES.or_repeated(True)),
    ("build.build", "build mine", interruption.BUILT),
    ("evaluate.evaluate", "evaluate mine", interruption.EVALUATION),
    ("bench.bench", "bench mine", interruption.NOTHING),
    ("bench_train.bench_train", "bench mine --train", interruption.NOTHING),
    ("bundle.bundle", "bundle mine --for triton", interruption.NOTHING),
    ("label.label_stream", "label mine photo.jpg", interruption.LABELS),
]


@pytest.mark.parametrize(("function", "words", "kept"), COMMANDS, ids=[words for _, words, _ in COMMANDS])
def test_an_interrupted_command_says_what_it_keeps(
    function: str, words: str, kept: Kept, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"trtpoets.pipeline.{function}", interrupt)
    assert call_main(monkeypatch, *words.split()) == 130
    assert capsys.readouterr().err == f"Error: interrupted; what is kept: {kept.what} [TP9001]\n  try: {kept.next}\n"


def test_a_sweep_keeps_features_and_no_heads() -> None:
    assert "not the trained heads" in interruption.SWEEP.what
    assert "again" in interruption.SWEEP.next


def test_a_command_with_force_does_not_continue() -> None:
    repeated = interruption.BUILT.or_repeated(True)
    assert "--force" in repeated.next and repeated.next != interruption.BUILT.next
    assert interruption.BUILT.or_repeated(False) == interruption.BUILT
