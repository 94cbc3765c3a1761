"""What a Jetson gets: by JetPack and board, with files that its TensorRT reads and commands that a person can run."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import trtpoets
from tests.fakes.board_bundle import PYTHONS
from tests.support.bundle_inputs import tiny_parts
from tests.support.bundle_run import bundle_run
from tests.support.errors import raises
from tests.support.precisions import FP16, FP32, INT8
from tests.support.tiny import tiny_onnx, tiny_photos
from trtpoets.bundles.bundle_inputs import BundleInputs
from trtpoets.bundles.jetson_bundle import jetson_files, next_on_a_jetson
from trtpoets.bundles.pack import BundleResult
from trtpoets.convert.opset_downgrade import onnx_for_older
from trtpoets.core.errors import BadInput, ConversionFailed
from trtpoets.core.manifest import Target, check_manifest, write_manifest
from trtpoets.core.onnx_file import check_onnx, open_session, opset_of
from trtpoets.core.types import OnnxModel, Precision
from trtpoets.device.jetson.jetpack import BOARDS, CHIPS, JETPACKS, JetPack
from trtpoets.device.jetson.jetson_names import find_board, find_jetpack
from trtpoets.pipeline.jetson_files import jetson_named, models_for, notes_on, system_of


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trtpoets.core.files.os.fsync", lambda _: None)


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> BundleInputs:
    return tiny_parts(tmp_path_factory.mktemp("parts"))


# Which Jetson


def test_every_board_has_a_chip_and_a_jetpack() -> None:
    for board in BOARDS:
        chip = CHIPS[board.chip]
        assert any(board.chip in jetpack.chips for jetpack in JETPACKS)
        assert chip.dla or not board.dla
        assert find_board(board.name) == board


def test_what_is_not_known_names_what_is() -> None:
    with raises(BadInput, "TP4070", "'5.3'", "4.6", "5.1.2", "7.2.2"):
        find_jetpack("5.3")
    with raises(BadInput, "TP4071", "nano, tx1", "agx-thor", "'nona'"):
        find_board("nona")
    with raises(BadInput, "TP4073", "6.2", "Jetson AGX Thor") as caught:
        jetson_named("6.2", "agx-thor")
    assert caught.value.hint == "use one of JetPack 7.0, 7.1, 7.2, 7.2.1, 7.2.2"


@pytest.mark.parametrize(
    ("jetpack", "board", "precision", "why"),
    [
        ("4.6.1", "nano", INT8, "compute capability 5.3 has no fast INT8"),
        ("", "tx2", INT8, "compute capability 6.2 has no fast INT8"),
        ("4.6.1", "xavier-nx", INT8, ""),
        ("4.6.1", "", INT8, ""),  # it may be a Xavier
        ("5.1.2", "orin-nano", INT8, ""),
        ("", "nano", FP16, ""),
        ("", "", INT8, ""),
    ],
)
def test_what_pays_on_no_chip_is_useless(jetpack: str, board: str, precision: Precision, why: str) -> None:
    assert jetson_named(jetpack, board).useless(precision).startswith(why or "")
    assert bool(jetson_named(jetpack, board).useless(precision)) == bool(why)


def test_a_board_that_is_too_old_for_the_runtime_has_its_last_jetpack() -> None:
    assert jetson_named("", "nano").jetpack == find_jetpack("4.6.6")
    assert jetson_named("", "xavier-nx").jetpack is None  # JetPack 5.1 is for it too
    assert jetson_named("4.6.1", "xavier-nx").jetpack == find_jetpack("4.6.1")


@pytest.mark.parametrize(
    ("jetpack", "board", "dla"),
    [("5.1.2", "orin-nx", True), ("5.1.2", "orin-nano", False), ("7.2", "agx-orin", False), ("", "orin-nx", False)],
)
def test_a_dla_needs_a_board_and_a_tensorrt_with_it(jetpack: str, board: str, dla: bool, parts: BundleInputs) -> None:
    system = system_of(jetson_named(jetpack, board))
    assert system.dla is dla


@pytest.mark.parametrize(
    ("jetpack", "version"), [("", "10.3.0"), ("5.1.2", "8.5.2"), ("7.2", "10.16.2"), ("7.2.2", "")]
)
def test_a_calibration_cache_is_for_the_tensorrt_that_reads_it(jetpack: str, version: str) -> None:
    assert jetson_named(jetpack, "").cache_for == version


# Files for older TensorRTs


def scores_of(model: OnnxModel, photos: np.ndarray) -> np.ndarray:
    (scores,) = open_session(model.path).run(["scores"], {"photos": photos})
    return np.asarray(scores)


@pytest.mark.parametrize("precision", Precision)
def test_an_older_file_scores_the_same(precision: Precision, tmp_path: Path) -> None:
    model, photos = tiny_onnx(tmp_path / "new.onnx", precision), tiny_photos(5)
    old = onnx_for_older(model, tmp_path / "old.onnx", opset=13, float_photos=True)
    proto = check_onnx(old.path)
    assert opset_of(proto) == 13
    assert proto.ir_version == 7
    assert proto.metadata_props == check_onnx(model.path).metadata_props
    assert np.array_equal(scores_of(old, photos.astype(np.float32)), scores_of(model, photos))
    with pytest.raises(Exception, match=r"tensor\(float\)"):
        scores_of(old, photos)


def test_a_file_that_is_old_enough_keeps_its_operator_set(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "new.onnx")
    old = onnx_for_older(model, tmp_path / "old.onnx", opset=20)
    assert opset_of(check_onnx(old.path)) == 17
    assert np.array_equal(scores_of(old, tiny_photos(2)), scores_of(model, tiny_photos(2)))


def test_a_rewritten_file_is_held_against_the_golden_scores(parts: BundleInputs, tmp_path: Path) -> None:
    jetson = jetson_named("4.6.1", "xavier-nx")
    result = models_for(jetson, parts.models, parts.golden, tmp_path)
    assert {model.path.parent for model in result} == {tmp_path}
    assert any("opset 13 instead of 17" in note for note in notes_on(jetson, parts.models, result))
    moved = replace(parts.golden.expected["int8"], scores=parts.golden.expected["int8"].scores[:, ::-1])
    golden = replace(parts.golden, expected={**parts.golden.expected, "int8": moved})
    with pytest.raises(ConversionFailed):
        models_for(jetson, parts.models, golden, tmp_path)


def test_files_that_it_reads_are_left_as_they_are(parts: BundleInputs, tmp_path: Path) -> None:
    for jetpack in ("", "5.1.2", "7.2.2"):
        jetson = jetson_named(jetpack, "")
        assert models_for(jetson, parts.models, parts.golden, tmp_path) == parts.models
        assert notes_on(jetson, parts.models, parts.models) == []
    assert list(tmp_path.iterdir()) == []


# The bundle


def bundled(folder: Path, jetpack: str, board: str, opset: int = 17, **options: Any) -> BundleResult:
    space = bundle_run(folder, opset=opset)
    return trtpoets.bundle("tiny", Target.JETSON, jetpack=jetpack, board=board, engines=space.engines, **options)


def test_a_bundle_for_a_jetpack_that_reads_an_earlier_operator_set(tmp_path: Path) -> None:
    result = bundled(tmp_path, "5.1.2", "orin-nano", opset=18)
    assert (result.manifest.jetpack, result.manifest.board) == ("5.1.2", "orin-nano")
    assert result.warnings == (
        "opset 17 instead of 18, the latest that TensorRT 8.5.2 supports; the scores are the same",
    )
    for precision in Precision:
        proto = check_onnx(result.folder / f"{precision.value}.onnx")
        assert opset_of(proto) == 17
        assert proto.graph.input[0].type.tensor_type.elem_type == 2  # uint8: 8.5 reads it
    readme = (result.folder / "README.md").read_text()
    assert "JetPack 5.1.2 (Ubuntu 20.04, Python 3.8, CUDA 11.4, TensorRT 8.5.2) on a Jetson Orin Nano" in readme
    assert "> opset 17 instead of 18" in readme
    assert "8502" in (result.folder / "int8.cache").read_text().splitlines()[0]


def test_jetpack_4_6_is_for_trtexec_and_says_so(tmp_path: Path) -> None:
    result = bundled(tmp_path, "4.6.1", "xavier-nx")
    assert any(
        "older than 8.5: the bundle is for trtexec, without the Python runtime" in warning
        for warning in result.warnings
    )
    assert not (result.folder / "runtime").exists()
    assert not (result.folder / "build").exists()
    readme = (result.folder / "README.md").read_text()
    lines = [line for line in readme.splitlines() if line.startswith("/usr/src/tensorrt/bin/trtexec")]
    assert lines[0] == (
        "/usr/src/tensorrt/bin/trtexec --onnx=int8.onnx --int8 --fp16 --minShapes=photos:1x16x16x3 "
        "--optShapes=photos:8x16x16x3 --maxShapes=photos:32x16x16x3 --workspace=1024 --saveEngine=built/int8.engine"
    )
    assert lines[3].endswith("--shapes=photos:1x16x16x3 --loadInputs=photos:golden/000.f32 --dumpOutput")
    first = np.fromfile(result.folder / "golden" / "000.f32", np.float32).reshape(1, 16, 16, 3)
    for precision in Precision:
        path = result.folder / f"{precision.value}.onnx"
        scores = scores_of(OnnxModel(path, precision, None), first)[0]  # type: ignore[arg-type]
        (row,) = re.findall(rf"\| {precision.value} \| (.*) \|", readme)
        results = [float(cell) for cell in row.split(" | ")]
        assert results[:3] == pytest.approx(sorted(scores, reverse=True), abs=1e-4)
    assert f"| engine | {' | '.join(np.array(['ant', 'bee', 'cow'])[np.argsort(-scores)])} | tolerance |" in readme


def test_int8_is_left_out_for_a_nano(tmp_path: Path) -> None:
    result = bundled(tmp_path, "", "nano")
    assert result.manifest.order == (FP16, FP32)
    assert (result.manifest.jetpack, result.manifest.board) == ("4.6.6", "nano")
    assert result.warnings[0].startswith("int8 is left out: compute capability 5.3 has no fast INT8")
    assert not (result.folder / "int8.onnx").exists()
    with raises(BadInput, "TP8013", "compute capability"):
        bundled(tmp_path / "again", "", "nano", precisions=[INT8])


def test_trtexec_may_be_asked_for_one_precision(tmp_path: Path) -> None:
    result = bundled(tmp_path, "4.6.1", "xavier-nx", precisions=[FP16])
    assert result.manifest.order == (FP16,)
    assert re.search(r"\| fp16 \| 0\.\d{4} ", (result.folder / "README.md").read_text())


def test_an_unnamed_jetpack_reads_what_the_oldest_reads(tmp_path: Path) -> None:
    """TensorRT 8.5 of JetPack 5.1 supports opsets up to 17 and misreads later ones."""
    result = bundled(tmp_path, "", "", opset=18)
    assert all(opset_of(check_onnx(result.folder / f"{item.value}.onnx")) == 17 for item in Precision)
    note = "opset 17 instead of 18, the latest that every TensorRT from 8.5.2 on supports; the scores are the same"
    assert note in result.warnings


@pytest.mark.parametrize("pack", JETPACKS, ids=[jetpack.version for jetpack in JETPACKS])
def test_a_readme_for_every_jetpack(pack: JetPack, parts: BundleInputs, tmp_path: Path) -> None:
    jetson_files(parts, tmp_path, system_of(jetson_named(pack.version, "")), ("mind the gap",))
    readme = (tmp_path / "README.md").read_text()
    assert not re.search(r"@\w", readme)
    assert f"JetPack {pack.version} (Ubuntu {pack.ubuntu}" in readme
    assert "> mind the gap" in readme
    lines = [line for line in readme.splitlines() if "--saveEngine" in line]
    assert len(lines) == len(Precision)
    major = int(pack.tensorrt.split(".")[0])
    assert ["--int8 --fp16" in line for line in lines] == [major <= 10, False, False]
    assert ["--stronglyTyped" in line for line in lines] == [False, major == 10, major == 10]
    assert ("./install" in readme) == pack.runs_trtpoets == (tmp_path / "runtime").is_dir()


def test_without_a_jetpack_there_are_commands_for_both_kinds_of_tensorrt(parts: BundleInputs, tmp_path: Path) -> None:
    jetson_files(parts, tmp_path)
    readme = (tmp_path / "README.md").read_text()
    assert "JetPack 5.1 or later (TensorRT 8.5 or later)" in readme
    assert readme.count("--saveEngine=built/int8.engine") == 2


@pytest.mark.parametrize(("board", "mentioned"), [("orin-nx", True), ("orin-nano", False)])
def test_the_readme_mentions_the_dla_of_a_board(
    board: str, mentioned: bool, parts: BundleInputs, tmp_path: Path
) -> None:
    jetson_files(parts, tmp_path, system_of(jetson_named("5.1.2", board)))
    assert ("./build --dla 0 --precision fp16 --batch 1" in (tmp_path / "README.md").read_text()) is mentioned


def test_names_and_labels_can_not_break_the_readme_or_a_shell(parts: BundleInputs, tmp_path: Path) -> None:
    spec = replace(parts.spec, name="a b's $(reboot)", labels=("x|y", "two\nlines", "@name"))
    system = system_of(jetson_named("4.6.1", ""))
    jetson_files(replace(parts, spec=spec), tmp_path, system)
    readme = (tmp_path / "README.md").read_text()
    assert r"x\|y" in readme
    assert "two lines" in readme
    unpack = next(line for line in readme.splitlines() if line.startswith("tar"))
    commands = next_on_a_jetson(spec.name, tmp_path / "x y.tar", system_of(jetson_named("", "")))
    for command in (unpack, *commands):
        split = ["sh", "-c", f"set -- {command.replace('|', ' ').replace('&&', ' ')}; printf '%s\\n' \"$@\""]
        words = subprocess.run(split, capture_output=True, text=True, check=True).stdout
        assert "reboot" in words or "x y" in words


# The commands


@pytest.fixture(params=PYTHONS)
def path_with_python(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A PATH on which python3 is the one to test with."""
    programs = tmp_path / "bin"
    programs.mkdir()
    # A link would hide the environment that it belongs to.
    (programs / "python3").write_text(f'#!/bin/sh\nexec "{request.param}" "$@"\n')
    (programs / "python3").chmod(0o755)
    return f"{programs}:{os.environ['PATH']}"


@pytest.mark.slow  # starts four programs
def test_commands_find_their_runtime_from_anywhere(parts: BundleInputs, path_with_python: str, tmp_path: Path) -> None:
    folder = tmp_path / "a folder's $name"
    folder.mkdir()
    jetson_files(parts, folder)
    write_manifest(folder, name="tiny", target="jetson", version="0.1.0", model="0" * 64, order=parts.order)
    link = tmp_path / "link"
    link.symlink_to(folder / "trtpoets")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {"PATH": path_with_python, "HOME": str(tmp_path)}
    for name in ("trtpoets", "json", "numpy"):  # whatever lies where the user is, and however it is called
        (elsewhere / name).mkdir()
        (elsewhere / name / "__init__.py").write_text("raise SystemExit('the wrong one')\n")

    def run(command: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(command), *arguments], cwd=elsewhere, env=environment, capture_output=True, text=True, check=False
        )

    version = run(link, "--version")
    assert (version.returncode, version.stdout) == (0, "trtpoets 0.1.0\n"), version.stderr
    shown = run(folder / "build", "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage: trtpoets build ")
    before = run(folder / "selftest")
    assert before.returncode == 1
    assert before.stderr.splitlines()[0].endswith(" [TP7026]")
    check_manifest(folder)
    assert not (folder / "built").exists(), "no compiled files anywhere: Python would run them unseen"


def test_the_environment_of_install_is_what_they_run_in(parts: BundleInputs, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    jetson_files(parts, folder)
    python = folder / "built" / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" "[${PYTHONPYCACHEPREFIX-}] $PYTHONDONTWRITEBYTECODE"\n')
    python.chmod(0o755)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "built")}
    stdout = subprocess.run(
        [folder / "build", "--batch", "1 2"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert stdout == f"{folder}/runtime/start.py build --batch 1 2 [] 1\n"


def test_a_shell_reads_the_commands(parts: BundleInputs, tmp_path: Path) -> None:
    jetson_files(parts, tmp_path)
    names = ("install", "build", "selftest", "classify", "bench", "trtpoets", "update/fleet.sh")
    commands = [str(tmp_path / name) for name in names]
    assert all(os.access(command, os.X_OK) for command in commands)
    for command in commands:
        subprocess.run(["sh", "-n", command], check=True)
    checker = shutil.which("shellcheck")
    if checker is not None:
        subprocess.run([checker, *commands], check=True)
