"""Hints of errors of `adopt` are complete commands, with what the user gave."""

from __future__ import annotations

import shlex
from dataclasses import replace
from pathlib import Path

import pytest

from tests.adoption.onnx.networks import Foreign, image, saved, scores
from tests.support.errors import raises
from tests.support.foreign_onnx import LABELS, colour_classifier, colour_folders
from tests.support.photos import photo_folder
from tests.test_hints import commands_in, parsed
from trtpoets.adoption.contract_options import contract_options
from trtpoets.adoption.foreign import AGAIN
from trtpoets.core.console import error_text
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace, card_of, seal_card
from trtpoets.pipeline.adopt import AdoptConfig, adopt
from trtpoets.pipeline.adopt_hints import completed_hint
from trtpoets.pipeline.build import build
from trtpoets.pipeline.lineage import stale_in
from trtpoets.pipeline.quantize import quantize


def again(caught: pytest.ExceptionInfo[TrtPoetsError]) -> dict[str, object]:
    """The arguments of the command in the hint, of which there is one."""
    (words,) = commands_in(caught.value.hint)
    assert words[0] == "adopt"
    return parsed(words)


def test_the_candidates_are_a_list_and_the_command_keeps_the_photos(tmp_path: Path) -> None:
    model = colour_classifier(tmp_path / "the net.onnx")
    (tmp_path / "photos").mkdir()
    photos = colour_folders(tmp_path / "photos", 3)
    with pytest.raises(TrtPoetsError) as caught:
        adopt(model, "a b", photos=photos, engines=tmp_path / "runs", force=True)
    arguments = again(caught)
    assert (arguments["model"], arguments["name"], arguments["photos"]) == (model, "a b", photos)
    assert arguments["engines"] == tmp_path / "runs" and arguments["force"]
    first, *lines = error_text(caught.value).splitlines()
    assert first.endswith("[TP9435]") and lines[0] == "  Candidates, each with its options:"
    assert f"  --preprocess {arguments['preprocess']}" in lines[1] and lines[-1].startswith("  try: ")
    assert all(len(line) <= 80 for line in lines[:-1]) and len(lines) >= 7


def test_a_size_that_is_not_known(tmp_path: Path) -> None:
    net = Foreign()
    net.op("Identity", net.logits("input"), outputs=["output"])
    shape = ("N", 3, "H", "W")
    path = saved(net.model([image(shape=shape)], [scores()]), tmp_path / "net.onnx")
    config = AdoptConfig(contract=contract_options(mean="0.5", std="0.25", resize="crop"))
    with raises(TrtPoetsError, "TP8051") as caught:
        adopt(path, "x", config=config, engines=tmp_path)
    arguments = again(caught)
    assert (caught.value.code, arguments["size"], arguments["resize"]) == ("TP8051", "224", "crop")
    assert float(str(arguments["mean"])) == 2 and arguments["model"] == path  # in units of the std
    with raises(TrtPoetsError, "TP8050"):
        adopt(colour_classifier(tmp_path / "fixed.onnx"), "x", config=replace(config, size=(99, 99)), engines=tmp_path)


def test_labels_of_other_classes_and_a_name_in_use(tmp_path: Path) -> None:
    model = colour_classifier(tmp_path / "net.onnx")
    stated = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))
    others = photo_folder(tmp_path / "others", {"tin": 3, "can": 3})
    with raises(TrtPoetsError, "TP9447") as caught:
        adopt(model, "x", photos=others, config=stated, engines=tmp_path)
    assert again(caught)["photos"] == others and again(caught)["preprocess"] == "0-1"
    labels = tmp_path / "two.txt"
    labels.write_text("one\ntwo\n")
    with raises(TrtPoetsError, "TP9446", "2 labels") as caught:
        adopt(model, "x", config=replace(stated, labels=labels), engines=tmp_path)
    assert caught.value.hint.count("--labels") == 1
    adopt(model, "x", config=stated, engines=tmp_path)
    with raises(TrtPoetsError, "TP8053", "adopted from") as caught:
        adopt(colour_classifier(tmp_path / "b" / "net.onnx", batch="N"), "x", config=stated, engines=tmp_path)
    assert again(caught)["force"] and again(caught)["preprocess"] == "0-1"


def test_a_path_with_an_apostrophe() -> None:
    model = Path("/it's; here/net.h5")
    config = AdoptConfig(size=(48, 96), allow_code=False)
    hint = completed_hint(
        f"trust it: {AGAIN} --allow-code", Workspace(Path("e"), "x"), model, None, config, force=False
    )
    assert "--size 48x96" in hint and hint.endswith(" --allow-code") and str(model) in shlex.split(hint)


def test_commands_for_the_files_of_a_folder_keep_the_options(tmp_path: Path) -> None:
    folder = tmp_path / "two nets"
    folder.mkdir()
    for name in ("a.onnx", "b.onnx"):
        colour_classifier(folder / name)
    config = AdoptConfig(contract=contract_options(preprocess="0-1"))
    with pytest.raises(TrtPoetsError) as caught:
        adopt(folder, "x", config=config, engines=tmp_path)
    assert caught.value.code == "TP9506"
    for line, name in zip(caught.value.details, ("a.onnx", "b.onnx"), strict=True):
        (words,) = commands_in(line)
        arguments = parsed(words)
        assert (arguments["model"], arguments["name"], arguments["preprocess"]) == (folder / name, "x", "0-1")
    assert again(caught)["engines"] == tmp_path


def test_the_one_file_of_a_folder_is_adopted_with_the_labels_beside_it(tmp_path: Path) -> None:
    config = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))
    (tmp_path / "export").mkdir()
    colour_classifier(tmp_path / "export" / "net.onnx")
    adoption = adopt(tmp_path / "export", "x", config=config, engines=tmp_path)
    assert adoption.spec.labels == LABELS
    assert adopt(tmp_path / "export" / "net.onnx", "x", config=config, engines=tmp_path).spec == adoption.spec


def test_a_run_without_photos_says_what_works_without_them(tmp_path: Path) -> None:
    config = AdoptConfig(contract=contract_options(preprocess="0-1", resize="stretch"))
    adopt(colour_classifier(tmp_path / "net.onnx"), "x", config=config, engines=tmp_path)
    hints = set()
    for stage, code in ((build, "TP8027"), (quantize, "TP8032")):
        with pytest.raises(TrtPoetsError) as caught:
            stage("x", engines=tmp_path)
        assert caught.value.code == code
        again_with_photos, without = commands_in(caught.value.hint)
        assert parsed(again_with_photos)["photos"] == Path("FOLDER")
        assert without[:4] == ["build", "x", "--precision", "fp32"]
        assert parsed(without)["engines"] == tmp_path
        hints.add(caught.value.hint)
    space = Workspace(tmp_path, "x")
    path = space.onnx(Precision.INT8)
    path.write_bytes(b"made from another fp32.onnx")
    seal_card(card_of(path), key="k", files=[path], details={"made_from": "another"})
    hints |= {stale.remedy for stale in stale_in(space)}
    assert len(hints) == 1, "a stale file has the same hint as a missing one"
