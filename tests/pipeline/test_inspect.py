"""`inspect`: TensorRT-RTX engines, generated TensorRT headers, ONNX files, cards, calibration caches."""

from __future__ import annotations

import json
import os
import random
import struct
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.fakes.engine import paper_engine
from tests.support.errors import raises
from tests.support.foreign_onnx import colour_classifier
from tests.support.fuzz_files import damaged_json
from tests.support.tiny import tiny_graph, tiny_onnx, tiny_spec
from trtpoets.adoption.contract_options import contract_options
from trtpoets.cli import main
from trtpoets.convert.int8.tensorrt_cache import CalibrationCache, text_of_cache
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, StorageFailed, TrtPoetsError
from trtpoets.core.files import read_json
from trtpoets.core.onnx_file import FORM_KEY, metadata_of
from trtpoets.core.types import BatchRange, Engine, Flavour, Int8Form, Precision, hash_of
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.engine import engine_from_onnx
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.build.plan_header import PlanHeader, read_plan_header, rtx_targets
from trtpoets.pipeline.adopt import AdoptConfig, adopt
from trtpoets.pipeline.inspect import CardFacts, EngineFacts
from trtpoets.reporting.tables.results import print_json, print_table

# Engines


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("engines") / "tiny"
    model = tiny_onnx(folder / "fp16.onnx", Precision.FP16)
    config = EngineConfig(Flavour.RTX, targets=("sm86", "sm120"), batch=BatchRange(1, 2, 4), workspace_mib=64)
    return engine_from_onnx(model, config, folder / "fp16.rtx.sm120.sm86.engine")


def changed(engine: Engine, folder: Path, change: Callable[[bytearray], object]) -> Path:
    """A copy of an engine after `change`, without its card."""
    content = bytearray(engine.path.read_bytes())
    change(content)
    path = folder / "changed.engine"
    path.write_bytes(content)
    return path


def engine_facts(path: Path) -> EngineFacts:
    """The facts that `inspect` returns for an engine."""
    facts = trtpoets.inspect(path).facts
    assert isinstance(facts, EngineFacts)
    return facts


def card_facts(path: Path) -> CardFacts:
    """The facts that `inspect` returns for a card."""
    facts = trtpoets.inspect(path).facts
    assert isinstance(facts, CardFacts)
    return facts


def test_a_real_engine(built: Engine) -> None:
    import tensorrt_rtx

    inspection = trtpoets.inspect(built.path)
    assert (inspection.kind, inspection.bytes, inspection.sha256) == (
        "engine",
        built.card.engine_bytes,
        built.card.engine_sha256,
    )
    assert isinstance(inspection.facts, EngineFacts)
    assert inspection.facts.header == PlanHeader(Flavour.RTX, tensorrt_rtx.__version__, ("sm86", "sm120"), True)
    assert inspection.facts.card == built.card and (inspection.facts.not_intact, inspection.facts.foreign) == ("", "")


@pytest.mark.parametrize(
    "targets",
    [(), pytest.param(("sm75",), marks=pytest.mark.slow), ("sm80", "sm86", "sm89", "sm120", "sm121")],
)
def test_targets_of_real_engines(tmp_path: Path, targets: tuple[str, ...]) -> None:
    pytest.importorskip("tensorrt_rtx")
    model = tiny_onnx(tmp_path / "tiny" / "fp16.onnx", Precision.FP16)
    out = tmp_path / "tiny" / "x.engine"
    engine_from_onnx(model, EngineConfig(Flavour.RTX, targets=targets, workspace_mib=64), out)
    assert rtx_targets(out) == (targets or ("sm80+",))


@pytest.mark.parametrize(
    ("change", "code", "value"),
    [
        (lambda plan: plan.clear(), "TP8020", ""),
        (lambda plan: plan.__delitem__(slice(40, None)), "TP4048", "40 bytes"),
        (lambda plan: plan.__delitem__(slice(80, None)), "TP4118", "80 bytes"),
        (lambda plan: plan.__delitem__(slice(-1, None)), "TP4118", "truncated"),
        (lambda plan: plan.extend(b"more"), "TP4136", "followed by 4"),
        (lambda plan: plan.__setitem__(0, 0), "TP4047", "b'\\x00trt'"),
        (lambda plan: plan.__setitem__(28, 0), "TP4117", "bytes 28 to 32"),
        (lambda plan: plan.__setitem__(8, 200), "TP4120", "sections: 200"),
        (lambda plan: plan.__setitem__(slice(72, 80), b"\xff" * 7 + b"\0"), "TP4122", "'ENGN'"),
        (lambda plan: plan.__setitem__(-1, 0), "TP4119", "last bytes"),
        (lambda plan: plan.__setitem__(slice(16, 24), struct.pack("<Q", 66)), "TP4136", "its 66 bytes"),
    ],
)
def test_a_damaged_engine(
    built: Engine, tmp_path: Path, change: Callable[[bytearray], object], code: str, value: str
) -> None:
    path = changed(built, tmp_path, change)
    with raises(BadArtefact, code, path, value) as caught:
        trtpoets.inspect(path)
    assert caught.value.hint


def test_a_file_that_ends_in_its_table_of_sections(built: Engine, tmp_path: Path) -> None:
    def cut(plan: bytearray) -> None:
        del plan[80:]
        plan[16:24] = struct.pack("<Q", 80)

    with raises(BadArtefact, "TP4121", "section table"):
        trtpoets.inspect(changed(built, tmp_path, cut))


def test_unknown_targets(built: Engine, tmp_path: Path) -> None:
    path = changed(built, tmp_path, lambda plan: plan.__setitem__(slice(32, 40), struct.pack("<Q", 1 << 40)))
    assert read_plan_header(path).targets == ()


def tensorrt_plan(path: Path, version: tuple[int, int, int, int], size: int | None = None, layout: int = 0) -> Path:
    """A header as `trtexec --getPlanVersionOnly` reads it; no such engine could be built here."""
    header = struct.pack("<4sIQQ4B", b"ftrt", layout, 2, 500 if size is None else size, *version)
    path.write_bytes(header.ljust(500, b"\0"))
    return path


@pytest.mark.parametrize("version", [(8, 6, 1, 6), (10, 3, 0, 30), (11, 4, 1, 2)])
def test_an_engine_of_tensorrt(tmp_path: Path, version: tuple[int, int, int, int]) -> None:
    facts = engine_facts(tensorrt_plan(tmp_path / "x.plan", version))
    assert facts.header == PlanHeader(Flavour.TENSORRT, ".".join(map(str, version)), (), True)
    assert facts.not_intact == "it has no card" and facts.foreign
    assert read_plan_header(tensorrt_plan(tmp_path / "x.plan", version, size=7)).whole is None, "not known to be a size"


def test_an_unknown_layout(tmp_path: Path) -> None:
    with raises(BadArtefact, "TP4116", "not 3"):
        read_plan_header(tensorrt_plan(tmp_path / "x.plan", (12, 0, 0, 0), layout=3))


def test_an_engine_of_tensorrt_8_5(tmp_path: Path) -> None:
    (tmp_path / "x.engine").write_bytes(b"ptrt" + bytes(500))
    with raises(BadArtefact, "TP4047", tmp_path / "x.engine", "TensorRT 8.6", "b'ptrt'") as caught:
        trtpoets.inspect(tmp_path / "x.engine")
    assert "those before 8.6 can't be identified" in caught.value.hint


def test_cards_that_do_not_match_the_engine(built: Engine, tmp_path: Path) -> None:
    path = tmp_path / built.path.name
    path.write_bytes(built.path.read_bytes())
    seal_card(card_of(path), key="k", files=[path], details=asdict(built.card))
    assert engine_facts(path).card is not None
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    facts = engine_facts(path)
    assert facts.card is None and facts.not_intact.endswith(": the file was changed") and facts.foreign
    card_of(path).write_text(card_of(path).read_text().replace("fp16", "int8"))
    assert "its seal does not match its content" in engine_facts(path).not_intact


# ONNX


@pytest.mark.parametrize("content", [b"\x08\x08 not a network", tiny_graph().SerializeToString()[:300]])
def test_a_damaged_onnx_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with raises(BadArtefact, "TP3007", tmp_path / "x.onnx"):
        trtpoets.inspect(tmp_path / "x.onnx")


# Cards, models, caches


def test_a_card(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.onnx"):
        (tmp_path / name).write_bytes(b"1")
    card = tmp_path / "card.json"
    seal_card(card, key="k", files=[tmp_path / "a.onnx", tmp_path / "b.onnx"], details={"note": "x"})
    facts = card_facts(card)
    assert (facts.key, facts.files, facts.details) == ("k", {"a.onnx": "intact", "b.onnx": "intact"}, {"note": "x"})
    (tmp_path / "a.onnx").write_bytes(b"2")
    (tmp_path / "b.onnx").unlink()
    assert card_facts(card).files == {"a.onnx": "changed", "b.onnx": "missing"}
    card.write_text(card.read_text().replace('"x"', '"y"'))
    with raises(BadArtefact, "TP1099"):
        trtpoets.inspect(card)


@pytest.mark.parametrize(
    ("text", "code", "value"),
    [
        ("{", "TP1013", "line 1 column 2"),
        ("{}", "TP8022", ""),
        ('{"seal": 1}', "TP1098", ""),
        ('{"seal": 1, "key": NaN, "files": {}, "details": {}}', "TP1013", "NaN"),
        ('{"seal": 1, "key": 1e999, "files": {}, "details": {}}', "TP1013", "1e999"),
        ('{"a":' * 100_000, "TP1013", ""),
        ('{"preprocess_hash": 1}', "TP1094", "name"),
    ],
)
def test_json_of_an_unknown_kind(tmp_path: Path, text: str, code: str, value: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with raises(BadArtefact, code, tmp_path / "x.json", value):
        trtpoets.inspect(tmp_path / "x.json")


def test_a_sealed_card_without_files(tmp_path: Path) -> None:
    value: dict[str, Any] = {"key": "k", "files": ["a"], "details": {}}
    (tmp_path / "x.json").write_text(json.dumps({**value, "seal": hash_of(value)}))
    with raises(BadArtefact, "TP1100"):
        trtpoets.inspect(tmp_path / "x.json")


def test_a_model_and_a_cache(tmp_path: Path) -> None:
    (tmp_path / "any.json").write_text(tiny_spec().to_json())
    inspection = trtpoets.inspect(tmp_path / "any.json")
    assert (inspection.kind, inspection.facts) == ("model", tiny_spec())
    cache = CalibrationCache("10.3.0", "EntropyCalibration2", {"photos": 0.5, "a: b:0": 0.25})
    (tmp_path / "x").write_text(text_of_cache(cache))
    inspection = trtpoets.inspect(tmp_path / "x")
    assert (inspection.kind, inspection.facts) == ("calibration-cache", cache)
    (tmp_path / "x").write_text("TRT-100300-EntropyCalibration2\nphotos: xyz\n")
    with raises(BadArtefact, "TP3041", "line 2 is 'photos: xyz'"):
        trtpoets.inspect(tmp_path / "x")


def test_files_of_unknown_kinds(tmp_path: Path) -> None:
    with raises(MissingArtefact, "TP8017"):
        trtpoets.inspect(tmp_path / "none")
    with raises(BadInput, "TP8019"):
        trtpoets.inspect(tmp_path)
    (tmp_path / "noise").write_bytes(b"\xff\xd9\xff\xe0 and so on")
    with raises(BadArtefact, "TP8021", "b'\\xff\\xd9"):
        trtpoets.inspect(tmp_path / "noise")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.engine").write_bytes(b"vtrt")

    def refuse(*given: Any, **options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with raises(StorageFailed, "TP8018", "x.engine", "Permission denied"):
        trtpoets.inspect(tmp_path / "x.engine")


def test_damaged_files_raise_only_trtpoets_errors(built: Engine, tmp_path: Path) -> None:
    """300 mutations of an engine, a card, a cache and a model, seeded. ONNX files have a fuzz test of their own."""
    generator = random.Random(5)
    card = card_of(built.path).read_bytes()
    cache = text_of_cache(CalibrationCache("8.5.2", "EntropyCalibration2", {f"t{i}": 0.1 for i in range(9)})).encode()
    sources = {"x.engine": built.path.read_bytes()[:4096], "x.json": card, "x.cache": cache}
    sources["model.json"] = tiny_spec().to_json().encode()
    for round_ in range(300):
        name, content = list(sources.items())[round_ % len(sources)]
        mutated = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            at = generator.randrange(len(mutated))
            if generator.random() < 0.2:
                del mutated[at:]
                mutated += b"{"
            else:
                mutated[at] = generator.randrange(256)
        (tmp_path / name).write_bytes(mutated)
        try:
            trtpoets.inspect(tmp_path / name)
        except TrtPoetsError as error:
            assert error.message and error.hint, (round_, name)


def test_invalid_sealed_cards_raise_only_trtpoets_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """300 cards with one value changed and a seal that is right: who writes cards can seal them."""
    engine = tensorrt_plan(tmp_path / "x.engine", (10, 3, 0, 30))
    details = json.loads(json.dumps(asdict(paper_engine(tmp_path).card)))
    seal_card(card_of(engine), key="k", files=[engine], details=details)
    whole = {name: value for name, value in read_json(card_of(engine)).items() if name != "seal"}
    intact = 0
    for seed in range(300):
        generator = random.Random(seed)
        value = {**whole, "details": damaged_json(generator, details)} if seed % 2 else damaged_json(generator, whole)
        value = {**value, "seal": hash_of(value)} if isinstance(value, dict) else value
        card_of(engine).write_text(json.dumps(value))
        for path in (engine, card_of(engine)):
            try:
                inspection = trtpoets.inspect(path)
            except TrtPoetsError as error:
                assert error.message, seed
            else:
                intact += isinstance(inspection.facts, EngineFacts) and inspection.facts.card is not None
                print_table("inspection", inspection)
    capsys.readouterr()
    assert 0 < intact < 300, "some changes are harmless, not all"


# On the terminal


def test_tables_and_json(built: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "x.cache"
    cache.write_text(text_of_cache(CalibrationCache("10.3.0", "MinMaxCalibration", {f"t{i}": 0.5 for i in range(40)})))
    (tmp_path / "model.json").write_text(tiny_spec().to_json())
    onnx_file = tiny_onnx(tmp_path / "int8.onnx", Precision.INT8).path
    expected = {
        built.path: (
            "TensorRT-RTX",
            "Ampere (sm86) and Blackwell (sm120)",
            "intact: the file is the one that its card",
            "made by you on this machine",
            "1 to 4, tuned for 2",
        ),
        card_of(built.path): (f"{built.path.name}: intact", "made by you on this machine", "tensorrt_version"),
        onnx_file: ("42,360 per photo", "uint8 (N, 16, 16, 3)", "2 and 2", "QuantizeLinear"),
        cache: ("TensorRT 10.3.0", "63.5", "… and 20 more"),
        tmp_path / "model.json": ("ant, bee, cow", "16×16, stretch"),
        tensorrt_plan(tmp_path / "x.plan", (10, 3, 0, 30)): (
            "TensorRT 10.3.0.30",
            "may have been made by someone else",
        ),
    }
    for path, texts in expected.items():
        inspection = trtpoets.inspect(path)
        print_table("inspection", inspection)
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= 80
        assert inspection.sha256 in shown
        plain = " ".join(shown.split())
        assert all(text in plain for text in texts), shown
        print_json(inspection)
        document = json.loads(capsys.readouterr().out)
        assert (document["kind"], document["path"], document["bytes"]) == (
            inspection.kind,
            str(path),
            path.stat().st_size,
        )


def test_the_form_of_int8(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def shown(path: Path) -> str:
        print_table("inspection", trtpoets.inspect(path))
        return " ".join(capsys.readouterr().out.split())

    path = tiny_onnx(tmp_path / "int8.onnx", Precision.INT8).path
    assert "TensorRT, which fuses its Q/DQ pairs to integer layers" in shown(path)
    assert "in float between INT8" not in shown(path)
    import onnx

    model = onnx.load(path)
    onnx.helper.set_model_props(model, {**metadata_of(model), FORM_KEY: Int8Form.CPU.value})
    path = tmp_path / "int8.cpu.onnx"
    onnx.save(model, path)
    assert "ONNX Runtime on CPUs, which fuses its layers to integer operators" in shown(path)
    assert "in float between INT8" not in shown(path), "nothing is run to find out"
    for islands, text in (([], "in float between INT8 none"), (["norm", "gate"], "2 operators: norm, gate")):
        seal_card(card_of(path), key="k", files=[path], details={"notes": {"islands": islands}})
        assert text in shown(path)
    card_of(path).write_text("{}")
    assert "in float between INT8" not in shown(path)
    assert "fuses its" not in shown(tiny_onnx(tmp_path / "fp16.onnx", Precision.FP16).path)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.engine").write_bytes(b"")
    monkeypatch.setattr("sys.argv", ["trtpoets", "inspect", str(tmp_path / "x.engine")])
    with pytest.raises(SystemExit) as caught:
        main.main()
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"Error: {tmp_path}/x.engine is empty [TP8020]\n  try: create or copy it again\n"


def test_a_folder_is_described_by_the_one_classifier_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    model = colour_classifier(folder / "net.onnx")
    description = trtpoets.inspect(folder)
    assert (description.path, description.kind) == (model, "onnx")
    config = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))
    adopt(model, "x", config=config, engines=tmp_path / "engines")
    run = tmp_path / "engines" / "x"
    assert trtpoets.inspect(run).path == run / "classifier" / "model.json"
    colour_classifier(folder / "other.onnx")
    with raises(BadInput, "TP8019") as caught:
        trtpoets.inspect(folder)
    assert caught.value.code == "TP8019"
