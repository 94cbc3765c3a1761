"""`quantize` with invalid or doubtful input: errors, warnings and the files that are left."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.conftest import SMALL
from tests.support.photos import photo_folder
from tests.support.tiny import tiny_spec
from trtpoets.cli import main
from trtpoets.cli.interruption import ONNX_FILES
from trtpoets.convert.int8.calibration import Method, Ranges
from trtpoets.convert.int8.quantize_int8 import Int8Notes
from trtpoets.core.files import read_json
from trtpoets.core.network_notes import Fidelity, FrontierPoint, KeptLayer
from trtpoets.core.onnx_file import check_onnx, open_session
from trtpoets.core.types import INPUT_NAME, Int8Form, OnnxModel, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_card, read_card, seal_card
from trtpoets.judge.advice import Recommended
from trtpoets.pipeline import quantize as module
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.train.dataset import dataset_from_folder

INT8 = ("--precision", "int8")


@pytest.fixture
def space(exported: Path, tmp_path: Path) -> Workspace:
    return Workspace(Path(shutil.copytree(exported, tmp_path / "engines")), "small")


class User:
    """Runs the program as it was typed; `code` and `said` (stdout and stderr) are what came of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys

    def types(self, *words: str | Path) -> tuple[int, str]:
        self.monkeypatch.setattr(sys, "argv", ["trtpoets", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main.main()
        code = caught.value.code
        assert isinstance(code, int) or code is None
        return code or 0, "".join(self.capsys.readouterr())

    def quantizes(self, space: Workspace, *words: str) -> tuple[int, str]:
        """In little time. `words` may set other photos and another method: the last word counts."""
        quickly = ("--photos", "16", "--method", "percentile", "--max-fp16-layers", "0")
        return self.types("quantize", space.name, "--engines", space.engines, *quickly, *words)


@pytest.fixture
def user(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> User:
    return User(monkeypatch, capsys)


def refused(result: tuple[int, str], message: str, hint: str) -> None:
    """The last two lines are an error and a way out, and there is no traceback."""
    code, outcome = result
    assert code == 1, outcome
    error, way_out = outcome.splitlines()[-2:]
    assert error.startswith("Error: "), outcome
    assert message in error
    assert way_out.startswith("  try: "), outcome
    assert hint in way_out
    assert "Traceback" not in outcome


def give_photos(space: Workspace, folder: Path) -> None:
    """Let the run have the photos of this folder, as `pretrained --photos` does."""
    dataset = dataset_from_folder(folder)
    seal_card(space.dataset, key=dataset.hash, files=[], details=replace(dataset.document, counts=dataset.counts))
    card = read_card(card_of(space.classifier))
    seal_card(
        card_of(space.classifier), key=card.key, files=[space.classifier], details={**card.details, "dataset": None}
    )


def plain_photos(folder: Path, colours: Callable[[int, int], tuple[int, ...]]) -> Path:
    """30 photos of each of three classes, each of one colour; a comment tells the files apart."""
    for label in range(3):
        (folder / str(label)).mkdir(parents=True)
        for number in range(30):
            note = PngInfo()
            note.add_text("Comment", f"{label} {number}")
            picture = Image.new("RGB", (40, 40), colours(label, number))
            picture.save(folder / str(label) / f"{number}.png", pnginfo=note)
    return folder


def edit(space: Workspace, change: Callable[[Any], Any]) -> None:
    """Change fp32.onnx as if the run had made it so."""
    path = space.onnx(Precision.FP32)
    model = onnx.load(path)
    path.write_bytes((change(model) or model).SerializeToString())
    value = read_json(card_of(path))
    seal_card(card_of(path), key=value["key"], files=[path], details=value["details"])


def notes_of(space: Workspace) -> dict[str, Any]:
    details = open_card(card_of(space.onnx(Precision.INT8)))
    assert details is not None
    notes: dict[str, Any] = details["notes"]
    return notes


# -- photos --------------------------------------------------------------------------------------------------------


def test_photos_that_are_all_one_colour_are_refused(space: Workspace, user: User, tmp_path: Path) -> None:
    give_photos(space, plain_photos(tmp_path / "grey", lambda label, number: (128, 127, 129)))
    result = user.quantizes(space, *INT8)
    refused(result, "all 16 calibration photos are the same plain colour, #807f81", "use FP16: trtpoets quantize")
    assert [path.name for path in space.folder.iterdir() if path.name.startswith(("int8", "ranges"))] == []
    assert user.quantizes(space, "--precision", "fp16")[0] == 0, "the hint is worth following"


@pytest.mark.slow
def test_photos_of_one_colour_each_are_doubtful(space: Workspace, user: User, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (3, 30, 3))
    give_photos(space, plain_photos(tmp_path / "plain", lambda label, number: tuple(colours[label, number].tolist())))
    code, result = user.quantizes(space, *INT8)
    assert code == 0
    assert "warning: 16 of 16 calibration photos are a single plain colour: ranges may be too narrow" in result


@pytest.mark.slow
def test_good_photos_are_not_complained_about(space: Workspace, user: User) -> None:
    code, result = user.quantizes(space, *INT8)
    assert code == 0
    warnings = [line for line in result.splitlines() if line.startswith("warning")]
    assert not [line for line in warnings if "is not recommended" not in line]


def test_one_class_is_no_folder_of_photos(user: User, tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", {"ant": 30})
    result = user.types("pretrained", SMALL, "--name", "one", "--photos", folder, "--engines", tmp_path / "engines")
    refused(result, "has only one class, 'ant'", "add a folder with photos of another class")


def test_fewer_photos_than_classes(space: Workspace, user: User) -> None:
    code, result = user.quantizes(space, *INT8, "--photos", "2")
    assert code == 0
    assert "warning: calibrating with 2 photos of 3 classes: " in result
    assert "use --photos 3 to have one photo of each" in result


@pytest.mark.slow
def test_photos_that_the_network_does_not_tell_apart(space: Workspace, user: User) -> None:
    def sure_of_the_last(model: Any) -> None:
        (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]
        for tensor in model.graph.initializer:
            if tensor.name == head.input[2]:
                tensor.CopyFrom(numpy_helper.from_array(np.array([0, 0, 900], np.float32), tensor.name))

    edit(space, sure_of_the_last)
    code, result = user.quantizes(space, *INT8)
    assert code == 0
    assert 'warning: the network predicts "cow\'s" for all 16 calibration photos, which are of 3 classes: ' in result
    assert "do not suit the network, or it does not distinguish them" in result


def test_photos_that_changed_since_the_training(space: Workspace, user: User, tmp_path: Path) -> None:
    folder = photo_folder(tmp_path / "photos", {"ant": 40, "bee": 40, "cow": 40})
    give_photos(space, folder)
    for path in folder.rglob("*.jpg"):
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    result = user.quantizes(space, *INT8)
    count = 16 + len(dataset_in(space).in_split(Split.VALIDATION))
    refused(result, f"{count} of {count} photos have changed since the classifier was trained", str(folder))
    shutil.rmtree(folder)
    refused(user.quantizes(space, *INT8), f"{count} of {count} photos are no longer in {folder}", "NEWPLACE")


# -- networks ------------------------------------------------------------------------------------------------------


def relus(model: Any) -> list[Any]:
    return [node for node in model.graph.node if node.op_type in ("Relu", "Clip")]


def huge_head(model: Any) -> None:
    """Weights that are finite, and sums of them that are not."""
    (head,) = [node for node in model.graph.node if node.op_type == "Gemm"]
    for tensor in model.graph.initializer:
        if tensor.name == head.input[1]:
            array = np.full(tuple(tensor.dims), 3e38, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))


def scaled(factor: float) -> Callable[[Any], None]:
    """Weights and biases of the fourth convolution times `factor`."""

    def change(model: Any) -> None:
        fourth = [node for node in model.graph.node if node.op_type == "Conv"][3]
        for tensor in model.graph.initializer:
            if tensor.name in fourth.input[1:]:
                array = np.float32(numpy_helper.to_array(tensor) * np.float32(factor))
                tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))

    return change


@pytest.mark.parametrize(
    ("factor", "named"),
    [
        (0.0, r"conv_dw_2_relu/Clip:0 \(at most 0\), conv_pw_2_relu/Clip:0 \(at most 0\), .* and \d+ more"),
        pytest.param(1e-30, r"conv_\w+_relu/Clip:0 \(at most \de-\d\d\).*", marks=pytest.mark.slow),
        pytest.param(1e-43, r"conv_\w+_relu/Clip:0 \(at most \de-4\d\).*", marks=pytest.mark.slow),
    ],
    ids=["zero", "tiny", "denormal"],
)
def test_a_layer_without_a_range_stays_in_fp32(space: Workspace, user: User, factor: float, named: str) -> None:
    edit(space, scaled(factor))
    code, result = user.quantizes(space, *INT8)
    assert code == 0, result
    warning = (
        f"warning: the values of {named} are below the smallest INT8 scale for all 16 calibration photos: the layers"
    )
    assert len(re.findall(warning, result)) == 1, result
    assert any("is 0 for every calibration photo" in why for why in notes_of(space)["in_float"].values())


@pytest.mark.slow
def test_the_cpu_form_of_a_layer_without_a_range(space: Workspace, user: User) -> None:
    """It is written: a layer whose values are all 0 stays in float, and those that follow from constants with it."""
    edit(space, scaled(0.0))
    code, result = user.quantizes(space, *INT8, "--cpu-form")
    assert code == 0, result
    file = space.onnx(Precision.INT8, Int8Form.CPU)
    details = open_card(card_of(file))
    assert details is not None
    assert any("is 0 for every calibration photo" in why for why in details["notes"]["in_float"].values())
    assert details["notes"]["convolutions_int8"] == 3, "those before it"
    photos = np.random.default_rng(0).integers(0, 256, (2, 128, 128, 3), dtype=np.uint8)
    assert np.isfinite(open_session(file).run(None, {INPUT_NAME: photos})[0]).all()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (scaled(np.nan), "conv_dw_2/Conv.weight holds values that are not finite"),
        (scaled(np.inf), "conv_dw_2/Conv.weight holds values that are not finite"),
        (huge_head, "scores/Gemm:0 is not finite for a calibration photo"),
    ],
    ids=["no number", "infinite", "too large"],
)
def test_a_layer_that_is_not_finite_is_named(
    space: Workspace, user: User, change: Callable[[Any], None], what: str
) -> None:
    edit(space, change)
    refused(user.quantizes(space, *INT8), f"{what}: the network is damaged", "train and export the network again")


def instead_of_a_relu(kind: str, domain: str = "", wide: int = TensorProto.FLOAT) -> Callable[[Any], None]:
    """Another operator in place of the third activation, in double if `wide` says so."""

    def change(model: Any) -> None:
        old = relus(model)[2]
        at = list(model.graph.node).index(old)
        new = [
            helper.make_node("Cast", [old.input[0]], ["cast in"], name="cast in", to=wide),
            helper.make_node(kind, ["cast in"], ["odd"], name="odd one", domain=domain),
            helper.make_node("Cast", ["odd"], [old.output[0]], name="cast out", to=TensorProto.FLOAT),
        ]
        model.graph.node.remove(old)
        for number, node in enumerate(new):
            model.graph.node.insert(at + number, node)
        if domain:
            model.opset_import.append(helper.make_opsetid(domain, 1))

    return change


@pytest.mark.parametrize("precision", ["fp16", "int8"])
@pytest.mark.parametrize(
    ("change", "named"),
    [
        (instead_of_a_relu("Swizzle", "com.acme"), "odd one (com.acme::Swizzle)"),
        (instead_of_a_relu("Erf", wide=TensorProto.DOUBLE), "odd one (ai.onnx::Erf)"),
    ],
    ids=["a custom operator", "no kernel for double"],
)
def test_an_operator_that_onnx_runtime_lacks_is_named(
    space: Workspace, user: User, change: Callable[[Any], None], named: str, precision: str
) -> None:
    edit(space, change)
    result = user.quantizes(space, "--precision", precision)
    refused(result, f"ONNX Runtime can't run {named} of ", "replace that operator, or build in FP32: ")


@pytest.mark.slow
def test_an_operator_without_an_int8_form_stays_in_fp32(space: Workspace, user: User) -> None:
    edit(space, instead_of_a_relu("Erf"))
    code, result = user.quantizes(space, *INT8)
    assert code == 0, result
    nodes = {node.name: node for node in check_onnx(space.onnx(Precision.INT8)).graph.node}
    assert nodes["odd one"].op_type == "Erf"
    assert sum(node.op_type == "QuantizeLinear" for node in nodes.values()) > 40


def test_what_is_quantised_already_is_not_quantised_again(space: Workspace, user: User, finished: Path) -> None:
    narrow = onnx.load(Workspace(finished, "small").onnx(Precision.INT8))
    edit(space, lambda model: narrow)
    refused(
        user.quantizes(space, *INT8),
        "fp32.onnx must be an FP32 file, but its precision is int8",
        space.command("export"),
    )
    for entry in narrow.metadata_props:
        if entry.value == "int8":
            entry.value = "fp32"
    edit(space, lambda model: narrow)
    result = user.quantizes(space, *INT8)
    refused(result, "QuantizeLinear and DequantizeLinear nodes already", "quantise the FP32 file")


def test_an_onnx_file_from_elsewhere(space: Workspace, user: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(space.engines.parent)
    foreign = onnx.load(space.onnx(Precision.FP32))
    del foreign.metadata_props[:]
    for name in ("foreign.onnx", "Foreign.ONNX"):
        Path(name).write_bytes(foreign.SerializeToString())
        result = user.types("build", name)
        refused(result, f"{name} was not written by trtpoets: its metadata does not contain the preprocessing", "adopt")
    Path("empty.onnx").touch()
    refused(user.types("build", "empty.onnx"), "empty.onnx is not a valid ONNX file: it is empty", "create it again")
    refused(user.types("build", "gone.onnx"), "gone.onnx does not exist", "trtpoets export NAME")
    for command in ("quantize", "export", "evaluate", "bench", "report"):
        result = user.types(command, "./foreign.onnx")
        refused(result, "./foreign.onnx is an ONNX file, but the name of a run was", "trtpoets build FILE.onnx")
    edit(space, lambda model: foreign)
    refused(user.quantizes(space), "was not written by trtpoets", space.command("export"))


# -- interrupted ---------------------------------------------------------------------------------------------------


def quantizing(space: Workspace) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trtpoets", "quantize", "small", "--engines", str(space.engines), "--photos", "32"]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )


def interrupted(space: Workspace, after: str) -> str:
    """Ctrl-C once the program has said `after`, or (a file's name) that file is there; what it said from then on."""
    with quantizing(space) as process:
        assert process.stderr is not None
        if (space.folder / after).suffix:
            while not (space.folder / after).exists():
                assert process.poll() is None, f"it ended before {after} was there"
                time.sleep(0.01)
        else:
            assert any(line.startswith(after) for line in process.stderr), f"it never said {after}"
        process.send_signal(signal.SIGINT)
        _, result = process.communicate(timeout=60)
    assert process.returncode == 130, result
    return result


@pytest.mark.slow
def test_interrupted_and_resumed(space: Workspace) -> None:
    undisturbed = Workspace(Path(shutil.copytree(space.engines, space.engines.parent / "other")), "small")
    with quantizing(undisturbed) as process:
        assert process.wait(timeout=300) == 0
    kept: dict[str, float] = {}
    for after in ("fp16: ", "calibration: ", "ranges.json", "int8.onnx"):
        result = interrupted(space, after)
        message, hint = result.splitlines()[-2:]
        assert message == f"Error: interrupted; what is kept: {ONNX_FILES.what} [TP9001]"
        assert hint == f"  try: {ONNX_FILES.next}"
        assert [path.name for path in space.folder.iterdir() if path.name.startswith(".")] == []
        assert not card_of(space.onnx(Precision.INT8)).exists()
        for name, written in kept.items():
            assert (space.folder / name).stat().st_mtime_ns == written, f"{name} was made again"
        kept = {
            path.name: path.stat().st_mtime_ns
            for path in (space.onnx(Precision.FP16), space.ranges)
            if path.exists() and (path == space.ranges or card_of(path).exists())
        }
    assert sorted(kept) == ["fp16.onnx", "ranges.json"]
    with quantizing(space) as process:
        assert process.wait(timeout=300) == 0
    for name, written in kept.items():
        assert (space.folder / name).stat().st_mtime_ns == written, f"{name} was made again"
    for precision in (Precision.FP16, Precision.INT8):
        assert space.onnx(precision).read_bytes() == undisturbed.onnx(precision).read_bytes()
    ranges = [json.loads(item.ranges.read_text()) for item in (space, undisturbed)]
    assert ranges[0] == ranges[1]


def version(path: Path, precision: Precision, why: str, layers: int) -> module._CpuFile:
    """A version of int8.cpu.onnx with so many layers in float."""
    fidelity = Fidelity(128, 24.0, 27.0, 0.96, 0.01)
    points = tuple(FrontierPoint(count, 1 - count / 10, 1.0, fidelity) for count in range(layers + 1))
    kept = tuple(KeptLayer(f"layer {count}", 1.0, 1 - count / 10, fidelity) for count in range(1, layers + 1))
    share = 1 - layers / 10
    notes = Int8Notes(
        9, 9, 0, 0, 9, 9, share, {}, 0, 0, fidelity, fidelity, fidelity, fidelity, kept, {}, frontier=points
    )
    path.write_bytes(f"{layers} layers in float".encode())
    model = OnnxModel(path, Precision.INT8, tiny_spec(), Int8Form.CPU)
    return module._CpuFile(model, notes, None, Recommended(precision, why, 841))


@pytest.mark.parametrize(
    ("precision", "layers", "content", "why"),
    [
        (Precision.INT8, 2, b"2 layers in float", "it agrees on 99 %"),
        (
            Precision.FP32,
            2,
            b"0 layers in float",
            (
                "it agrees on 97 %; with 2 layers in float (80% of the multiply-adds in INT8): it agrees on 99 %; "
                "so no layer is kept in float"
            ),
        ),
        (Precision.FP32, 0, b"0 layers in float", "it agrees on 97 %"),
    ],
    ids=["recommended", "not recommended", "none found"],
)
def test_layers_stay_in_float_only_where_the_file_is_recommended_with_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: Precision, layers: int, content: bytes, why: str
) -> None:
    out = tmp_path / "int8.cpu.onnx"
    without = version(out, Precision.FP32, "it agrees on 97 %", 0)

    evaluator: Any = SimpleNamespace(of_form=lambda arithmetic, config: "with layers in float")

    def searched(work: object, evaluator: object, ranges: object, path: Path) -> module._CpuFile:
        assert path != out and path.name == out.name and evaluator == "with layers in float"
        return version(path, precision, "it agrees on 99 %", layers)

    monkeypatch.setattr(module, "_for_cpu", searched)
    work: Any = SimpleNamespace(config=None)
    file = module._with_layers_in_float(work, evaluator, Ranges(Method.MINMAX, {}, (), {}, ""), without)
    assert (file.model.path, out.read_bytes()) == (out, content)
    assert (file.recommended.precision, file.recommended.why) == (precision, why)
    assert len(file.notes.frontier) == layers + 1, "of the search, in either case"
    assert len(file.notes.steps) == (layers if precision is Precision.INT8 else 0)
