"""The documents of a run that a report is made of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fakes.engine import paper_engine
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import MissingArtefact
from trtpoets.core.files import sha256_of_file
from trtpoets.core.network_notes import Parity
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Precision, Skipped
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.pipeline.report_documents import report_documents

FP32, FP16, INT8 = Precision


def change(path: Path, **details: object) -> None:
    """Write the card of a file again, with more details."""
    seal_card(card_of(path), key="k", files=[path], details={**(open_card(card_of(path)) or {}), **details})


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact) as caught:
        report_documents(Workspace(tmp_path, "flowers"))
    assert caught.value.code == "TP8001"


def test_what_the_stages_wrote(tiny_space: Workspace) -> None:
    assert report_documents(tiny_space).skipped == ()
    evaluation = {name: value for name, value in (open_card(tiny_space.evaluation) or {}).items() if name != "judged"}
    seal_card(tiny_space.evaluation, key="k", files=[], details=evaluation)
    documents = report_documents(tiny_space)
    assert documents.spec == tiny_spec()
    assert documents.dataset is not None
    assert documents.dataset.folder is not None
    assert (documents.benchmark, documents.train_benchmark, documents.training, documents.parity) == (None,) * 4
    assert (documents.engines, documents.commands) == ((), {})
    assert [entry.what for entry in documents.skipped] == ["using evaluation.json"], "it does not say what was judged"
    assert documents.engines_folder == str(tiny_space.engines.absolute())


def test_notes_on_the_files(tiny_space: Workspace) -> None:
    parity = Parity(8, 1e-6, 1e-7, None, 8)
    change(tiny_space.onnx(FP32), opset=17, parity=to_json(parity))
    for precision in (FP16, INT8):  # their card names fp32.onnx, which did not change
        assert (open_card(card_of(tiny_space.onnx(precision))) or {}).get("made_from")
    documents = report_documents(tiny_space)
    assert documents.opset == 17
    assert (documents.parity, documents.rounded) == (parity, None)
    assert documents.quantisation.fp16 is None, "its card has no notes"
    int8 = documents.quantisation.int8
    assert int8 is not None
    assert int8.size == tiny_space.onnx(INT8).stat().st_size / tiny_space.onnx(FP32).stat().st_size
    assert documents.quantisation.int8_cpu is None


def test_results_of_other_files_are_left_out_and_listed(tiny_space: Workspace) -> None:
    seal_card(tiny_space.benchmark, key="that of other files", files=[], details={"measurements": []})
    change(tiny_space.onnx(FP16), made_from="an earlier fp32.onnx")
    documents = report_documents(tiny_space)
    assert (documents.evaluation, documents.benchmark) == (None, None)
    skipped = {entry.what: entry.why for entry in documents.skipped}
    assert skipped["using benchmark.json"] == f"it was measured on other files: {tiny_space.command('bench')}"
    assert skipped["using evaluation.json"] == f"it was measured on other files: {tiny_space.command('evaluate')}"
    assert any("fp16.onnx" in what for what in skipped)


def test_results_of_the_present_files_are_not_listed(tiny_space: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    skipped = Skipped("evaluating tensorrt-fp16", "there is no GPU")
    current: Any = SimpleNamespace(skipped=(skipped,))
    monkeypatch.setattr("trtpoets.pipeline.report_documents.evaluation_now", lambda *_: current)
    documents = report_documents(tiny_space)
    assert documents.evaluation is current
    assert documents.skipped == (skipped,)


def test_commands_are_listed_once_by_stage(tiny_space: Workspace) -> None:
    change(tiny_space.onnx(FP32), command="trtpoets export tiny")
    for precision in (FP16, INT8):
        change(tiny_space.onnx(precision), command="trtpoets quantize tiny")
    details = open_card(tiny_space.dataset) or {}
    seal_card(tiny_space.dataset, key="photos", files=[], details={**details, "command": "trtpoets retrain photos"})
    assert report_documents(tiny_space).commands == {
        "retrain": ("trtpoets retrain photos",),
        "export": ("trtpoets export tiny",),
        "quantize": ("trtpoets quantize tiny",),
    }


def test_engines_have_the_facts_of_their_cards(tiny_space: Workspace) -> None:
    engine = paper_engine(
        tiny_space.engines, onnx_sha256=sha256_of_file(tiny_space.onnx(FP16)), command="trtpoets build tiny"
    )
    documents = report_documents(tiny_space)
    (entry,) = documents.engines
    assert entry.file == engine.path.name
    assert (entry.sha256, entry.bytes, entry.seconds) == (
        engine.card.engine_sha256,
        engine.card.engine_bytes,
        engine.card.build_seconds,
    )
    assert (entry.runner.name, entry.flavour) == ("tensorrt-fp16.batch1-4-8", "tensorrt")
    assert documents.commands["build"] == ("trtpoets build tiny",)
