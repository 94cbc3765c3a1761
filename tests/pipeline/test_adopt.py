"""Runs made of classifier files of other programs."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import trtpoets
from tests.adoption.onnx.networks import Foreign, image, saved, scores
from tests.support.errors import raises
from tests.support.foreign_onnx import LABELS, colour_classifier, colour_folders
from tests.support.photos import photo_folder
from trtpoets.adoption.contract import UNIT
from trtpoets.adoption.contract_options import contract_options
from trtpoets.cli.main import app
from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.original import Answers, Channels, Format, Source
from trtpoets.core.types import OnnxModel, Precision, Resize, Split
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.device.runners import open_runner
from trtpoets.pipeline.adopt import AdoptConfig, adopt
from trtpoets.pipeline.artefacts import classifier_in, dataset_in
from trtpoets.pipeline.photos import hints_of_run, photos_command, with_photos

STATED = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_classifier(tmp_path_factory.mktemp("foreign") / "net.onnx")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return colour_folders(tmp_path_factory.mktemp("photos"), 20)


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory, model: Path, photos: Path) -> Path:
    """The engines folder with the run "colours", whose preprocessing was found by a trial."""
    engines = tmp_path_factory.mktemp("adopted") / "engines"
    adopt(model, "colours", photos=photos, engines=engines)
    return engines


def test_a_trial_finds_the_preprocessing(adopted: Path, model: Path) -> None:
    spec = classifier_in(Workspace(adopted, "colours")).spec
    assert spec.original is not None
    assert (spec.labels, spec.backbone, spec.weights_id) == (LABELS, "net.onnx", spec.original.sha256)
    assert spec.preprocess.scale == pytest.approx(UNIT.scale) and spec.preprocess.offset == (0.0, 0.0, 0.0)
    assert (spec.original.format, spec.original.channels) == (Format.ONNX, Channels.RGB)
    assert spec.original.output.answers is Answers.LOGITS
    sources = {(fact.about, fact.source) for fact in spec.original.evidence}
    assert ("pixels", Source.TRIAL) in sources and ("labels", Source.METADATA) in sources
    folder = Workspace(adopted, "colours").classifier
    assert (folder / "original" / "net.onnx").read_bytes() == model.read_bytes()


def test_later_stages_work_and_the_original_is_the_baseline(adopted: Path, tmp_path: Path) -> None:
    engines = Path(shutil.copytree(adopted, tmp_path / "engines"))
    result = trtpoets.evaluate("colours", engines=engines)
    assert [entry.runner.name for entry in result.evaluations] == ["original", "onnxruntime-fp32"]
    assert result.evaluations[0].accuracy == result.evaluations[1].accuracy
    assert result.evaluations[1].agreement == 1.0
    report = trtpoets.report("colours", engines=engines)
    assert report.baseline_text == "the original file"
    page = (engines / "colours" / "report.html").read_text()
    assert "the original may have been trained on them" in page and "found by a trial with photos" in page
    (answer,) = trtpoets.label(
        "colours", [next(iter(dataset_in(Workspace(engines, "colours")).photos)).path], engines=engines
    )
    assert answer.labels[0] in LABELS


def test_hints_about_photos_name_the_command_of_the_run(adopted: Path) -> None:
    space = Workspace(adopted, "colours")
    for rest in (" --force", " (or pretrained, with --photos)"):
        with pytest.raises(BadInput) as caught, hints_of_run(space, Path("/new photos")):
            raise BadInput("changed", hint=f"read the photos again: trtpoets retrain PHOTOS --name NAME{rest}")
        hint = caught.value.hint
        assert hint.startswith("read the photos again: trtpoets adopt ") and "--photos '/new photos'" in hint
        assert hint.endswith("--force") == (rest == " --force") and "retrain" not in hint


def test_labels_that_the_classifier_lacks_are_named_once(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "photos").mkdir()
    photos = colour_folders(tmp_path / "photos", 8)
    (photos / "eel").rename(photos / "zebu")
    adopt(model, "x", photos=photos, config=STATED, engines=tmp_path)
    trtpoets.evaluate("x", engines=tmp_path)
    assert caplog.text.count("are not among the classifier's") == 1


def test_each_class_has_photos_of_each_split(adopted: Path) -> None:
    dataset = dataset_in(Workspace(adopted, "colours"))
    assert {tuple(counts.values()) for counts in dataset.counts.values()} == {(8, 4, 8)}
    assert set(dataset.counts["ant"]) == {split.value for split in Split}


def test_the_same_adoption_again_changes_nothing(adopted: Path, model: Path, photos: Path, tmp_path: Path) -> None:
    engines = Path(shutil.copytree(adopted, tmp_path / "engines"))
    files = [card_of(Workspace(engines, "colours").classifier), engines / "colours" / "fp32.onnx"]
    before = [(file.stat().st_mtime_ns, file.read_bytes()) for file in files]
    again = adopt(model, "colours", photos=photos, engines=engines)
    assert [(file.stat().st_mtime_ns, file.read_bytes()) for file in files] == before
    assert again.trial is not None and again.compared.parity.max_abs < 1e-5


def test_without_photos_options_decide(model: Path, tmp_path: Path) -> None:
    adoption = adopt(model, "stated", config=STATED, engines=tmp_path)
    assert (adoption.trial, adoption.spec.preprocess.resize) == (None, Resize.STRETCH)
    assert adoption.compared.parity.photos == 8 and adoption.compared.parity.max_abs < 1e-5
    with raises(BadInput, "TP8032", "stated") as caught:
        trtpoets.quantize("stated", engines=tmp_path)
    command = caught.value.hint
    assert f"trtpoets adopt {model} --photos FOLDER --preprocess 0-1 --resize stretch" in command
    assert "trtpoets build stated --precision fp32" in command


def test_without_certainty_nothing_is_written_and_the_candidates_are_listed(model: Path, tmp_path: Path) -> None:
    with raises(BadInput, "TP9430", model.name) as caught:
        adopt(model, "unknown", engines=tmp_path)
    listed = "\n".join(caught.value.details)
    assert "--preprocess raw" in listed and "--preprocess 0-1" in listed
    assert not (tmp_path / "unknown" / "classifier").exists()


def test_what_was_stated_before_is_kept_where_nothing_is_certain(tmp_path: Path) -> None:
    """`run --model` has no options for pixel values: it continues from `adopt --preprocess`."""
    model, engines = colour_classifier(tmp_path / "net.onnx"), tmp_path / "engines"
    (tmp_path / "photos").mkdir()
    photos = colour_folders(tmp_path / "photos", 3)
    with raises(BadInput, "TP9435", "do not distinguish"):
        adopt(model, "x", photos=photos, engines=engines)
    stated = adopt(model, "x", photos=photos, config=STATED, engines=engines)
    assert adopt(model, "x", photos=photos, engines=engines).spec == stated.spec
    with raises(BadInput, "TP9435", "do not distinguish"):
        adopt(model, "x", photos=photos, engines=engines, force=True)
    (photos / "ant" / "0000.png").unlink()
    with raises(BadInput, "TP9435", "do not distinguish"):
        adopt(model, "x", photos=photos, engines=engines)


def test_float16_may_round(tmp_path: Path) -> None:
    """A file whose scores are float16 differs from fp32.onnx by its rounding."""
    net = Foreign(13, np.float16)
    net.op("Identity", net.logits("input", scale=8.0), outputs=["output"])
    path = saved(net.model([image(dtype=np.float16)], [scores(dtype=np.float16)]), tmp_path / "half.onnx")
    adoption = adopt(path, "half", config=STATED, engines=tmp_path / "engines")
    assert 2e-4 < adoption.compared.parity.max_abs < 0.01


def test_one_logit_needs_the_labels_of_two_classes(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits("input", classes=1), outputs=["output"])
    path = saved(net.model([image()], [scores(("N", 1))]), tmp_path / "one.onnx")
    with raises(BadInput, "TP8203") as caught:
        adopt(path, "one", config=STATED, engines=tmp_path / "engines")
    assert "--labels FILE" in caught.value.hint
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    adoption = adopt(path, "one", config=STATED, engines=tmp_path / "engines")
    assert adoption.spec.labels == ("no", "yes") and adoption.compared.parity.max_abs < 1e-5


def test_a_name_in_use_is_refused(adopted: Path, tmp_path: Path) -> None:
    engines = Path(shutil.copytree(adopted, tmp_path / "engines"))
    other = colour_classifier(tmp_path / "other" / "net.onnx", batch="N")
    with raises(BadInput, "TP8053", "adopted from") as caught:
        adopt(other, "colours", config=STATED, engines=engines)
    assert "--force" in caught.value.hint
    assert adopt(other, "colours", config=STATED, engines=engines, force=True).trial is None
    assert "trtpoets adopt" in (open_card(card_of(Workspace(engines, "colours").classifier)) or {})["command"]


def test_an_interrupted_adoption_leaves_the_earlier_run(
    adopted: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Path(shutil.copytree(adopted, tmp_path / "engines"))
    before = {file: file.read_bytes() for file in engines.rglob("*") if file.is_file()}

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trtpoets.pipeline.adopt.compared_export", interrupted)
    with pytest.raises(KeyboardInterrupt):
        adopt(model, "colours", config=STATED, engines=engines, force=True)
    assert {file: file.read_bytes() for file in engines.rglob("*") if file.is_file()} == before


def test_photos_of_other_classes_are_refused_or_named(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with raises(BadInput, "TP9447"):
        adopt(model, "x", photos=photo_folder(tmp_path / "others", {"tin": 3, "can": 3}), engines=tmp_path)
    some = photo_folder(tmp_path / "some", {"Ants": 3, "bee": 3, "fig": 3})
    adoption = adopt(model, "x", photos=some, config=STATED, engines=tmp_path)
    assert adoption.unmatched == ("fig",)
    assert {"ant", "bee", "fig"} == set(dataset_in(Workspace(tmp_path, "x")).labels)


def test_labels_of_another_model(model: Path, tmp_path: Path) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("one\ntwo\n")
    with raises(BadInput, "TP9446", "2"):
        adopt(model, "x", config=replace(STATED, labels=labels), engines=tmp_path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "HTML page"),
        (b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", "PyTorch file"),
    ],
)
def test_files_that_are_no_classifier(tmp_path: Path, content: bytes, kind: str) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    with raises(BadArtefact, "TP1011", path, kind):
        adopt(path, "x", engines=tmp_path)


def test_the_program(model: Path, photos: Path, tmp_path: Path) -> None:
    arguments = ["--photos", str(photos), "--engines", str(tmp_path)]
    run = CliRunner()
    result = run.invoke(app, ["adopt", str(model), "--name", "colours", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout[result.stdout.index("{") :])
    assert document["spec"]["original"]["file"] == "net.onnx" and document["trial"]["rows"]
    shown = run.invoke(app, ["adopt", str(model), "--name", "colours", *arguments])
    assert "found by a trial with photos" in " ".join(shown.output.split())
    assert max(map(len, shown.stdout.splitlines())) <= 80
    built = run.invoke(app, ["build", str(model)])
    assert built.exit_code == 1 and isinstance(built.exception, BadArtefact)
    assert f"trtpoets adopt {model} --name NAME" in built.exception.hint


def test_the_command_with_other_photos(adopted: Path) -> None:
    recorded = "trtpoets adopt '/a b/net.onnx' --photos /old --name x --engines /e"
    assert with_photos(recorded, "FOLDER") == "trtpoets adopt '/a b/net.onnx' --photos FOLDER --name x --engines /e"
    assert "--photos /new" in photos_command(Workspace(adopted, "colours"), Path("/new"))


def test_a_file_of_any_size_with_photos_that_are_not_square(tmp_path: Path) -> None:
    """As the classifier of PaddleOCR for the direction of text: 48 x 192 pixels, of which its file says nothing."""
    net = Foreign()
    net.op("Softmax", net.logits("input"), outputs=["output"])
    path = saved(net.model([image(("N", 3, "H", "W"))], [scores()]), tmp_path / "net.onnx")
    done = adopt(path, "lines", config=replace(STATED, size=(12, 48)), engines=tmp_path / "engines")
    assert (done.spec.preprocess.height, done.spec.preprocess.width) == (12, 48)
    assert done.compared.parity.max_abs < 1e-5
    with open_runner(OnnxModel(tmp_path / "engines" / "lines" / "fp32.onnx", Precision.FP32, done.spec)) as runner:
        assert runner.infer(np.zeros((2, 12, 48, 3), np.uint8)).shape == (2, 3)
    fixed = colour_classifier(tmp_path / "fixed.onnx")
    with raises(BadInput, "TP8050", fixed, "16 x 16", "--size 12x48"):
        adopt(fixed, "fixed", config=replace(STATED, size=(12, 48)), engines=tmp_path / "engines")
