"""A bundle on the device: its files are checked before they are used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.fakes.board_bundle import Board, paper_bundle
from tests.support.build_records import record_of
from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.types import Precision
from trtpoets.onboard.installed_bundle import check_bundle_name, engine_in, open_bundle, runner_in


def test_every_file_is_checked(bundle: Path) -> None:
    whole = open_bundle(bundle)
    for name in [*whole.manifest.files, "manifest.json"]:
        path = bundle / name
        content = path.read_bytes()
        place = len(content) // 2
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with raises(BadArtefact, "TP1033", path) if name != "manifest.json" else pytest.raises(BadArtefact):
            open_bundle(bundle)
        path.write_bytes(content)
    open_bundle(bundle)


@pytest.mark.parametrize(
    "command",
    [
        *("build", "classify"),
        *(pytest.param(command, marks=pytest.mark.slow) for command in ("selftest", "bench", "install")),
    ],
)
def test_every_command_checks_the_manifest(here: Board, bundle: Path, command: str) -> None:
    (bundle / "labels.txt").write_text("something else\n")
    result = here.run(bundle, command, *(["photo.jpg"] if command == "classify" else []))
    assert result.returncode == 1
    assert "labels.txt" in result.stderr and "[TP1033]" in result.stderr


@pytest.mark.parametrize("name", ["runtime/trtpoets/onboard/commands.py", "manifest.json"])
def test_a_runtime_that_is_damaged_is_not_started(board: Board, bundle: Path, name: str) -> None:
    (bundle / name).write_text("{ no Python, and no JSON")
    result = board.run(bundle, "selftest")
    assert result.returncode == 1
    assert result.stderr == f"Error: {bundle / name} was changed or damaged\n  try: copy the bundle here again\n"


@pytest.mark.slow
def test_an_engine_of_another_bundle_is_not_run(here: Board, bundle: Path) -> None:
    assert here.run(bundle, "build").returncode == 0
    engine_in(open_bundle(bundle))
    engine = bundle / "built" / "int8.tensorrt.engine"
    engine.write_bytes(engine.read_bytes() + b"x")
    result = here.run(bundle, "selftest")
    assert str(engine) in result.stderr and "[TP4013]" in result.stderr
    assert "trtpoets build built" not in result.stderr
    record = record_of(bundle)
    (bundle / "built" / "build.json").write_text(json.dumps({**record, "bundle": "0" * 64}))
    with raises(MissingArtefact, "TP7028", bundle / "built"):
        engine_in(open_bundle(bundle))
    (bundle / "built" / "build.json").write_text(json.dumps({**record, "engine": "../int8.tensorrt.engine"}))
    with raises(BadArtefact, "TP7029", bundle / "built" / "build.json"):
        engine_in(open_bundle(bundle))
    (bundle / "built" / "build.json").write_text("[]")
    with raises(BadArtefact, "TP7027", bundle / "built" / "build.json"):
        engine_in(open_bundle(bundle))
    assert here.run(bundle, "build").returncode == 0  # a new build repairs all of this
    assert here.run(bundle, "selftest").returncode == 0


def test_names_and_precisions_that_are_not_there(bundle: Path, tmp_path: Path) -> None:
    result = open_bundle(bundle)
    check_bundle_name(result, None)
    check_bundle_name(result, "tiny")
    with raises(BadInput, "TP7025", "tiny", "flowers") as wrong:
        check_bundle_name(result, "flowers")
    assert wrong.value.hint == "give tiny, or leave the name out"
    only = open_bundle(paper_bundle(tmp_path / "small" / "tiny-jetson", [Precision.FP16]))
    with raises(BadInput, "TP7022", "int8"):
        runner_in(only, "onnxruntime", Precision.INT8)
    with raises(MissingArtefact, "TP7026"):
        runner_in(only)
    with raises(MissingArtefact, "TP1027"):
        open_bundle(tmp_path)
