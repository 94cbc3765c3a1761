"""Where the labels of a classifier file are found."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.foreign import foreign_model
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.labels import labels_for, labels_of_file
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Answers, Format, Source

FLOWERS = ("daisy", "dandelion", "roses", "sunflowers", "tulips")


@pytest.fixture
def foreign(tmp_path: Path) -> ForeignModel:
    return foreign_model(tmp_path / "flowers.onnx")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.txt", "daisy\ndandelion\nroses\nsunflowers\ntulips"),
        ("retrained_labels.txt", "daisy\r\ndandelion\r\nroses\r\nsunflowers\r\ntulips\r\n\r\n\n"),
        ("dict.txt", "\ufeffdaisy\ndandelion\nroses\nsunflowers\ntulips\n"),
        ("class_names.txt", "0 daisy\n1 dandelion\n2 roses\n3 sunflowers\n4 tulips\n"),
        ("class_labels.txt", "1: daisy\n2: dandelion\n3: roses\n4: sunflowers\n5: tulips\n"),
        ("flowers_labels.txt", "daisy\ndandelion\nroses\nsunflowers\ntulips\n"),
        ("labels.json", json.dumps(FLOWERS)),
        ("classes.json", json.dumps({str(number): label for number, label in enumerate(FLOWERS)})),
        ("class_indices.json", json.dumps({label: number for number, label in enumerate(FLOWERS)})),
        ("signature.json", json.dumps({"doc_id": "1", "classes": {"Label": FLOWERS}})),
        ("config.json", json.dumps({"id2label": dict(reversed(list(enumerate(FLOWERS))))})),
        ("config.json", json.dumps({"architecture": "x", "pretrained_cfg": {"label_names": FLOWERS}})),
    ],
)
def test_files_beside_the_classifier(foreign: ForeignModel, name: str, content: str) -> None:
    (foreign.path.parent / name).write_text(content, encoding="utf-8", newline="")
    labels, evidence = labels_for(foreign)
    assert labels == FLOWERS
    assert evidence.source is Source.METADATA
    assert name in evidence.text


@pytest.mark.parametrize(
    "lines",
    [
        ["0 rose", "1 tulip", "3 daisy"],
        ["0 rose", "tulip", "2 daisy"],
        ["3 rose", "4 tulip", "5 daisy"],
        ["1", "2", "3"],
    ],
)
def test_numbers_are_part_of_the_labels_unless_all_lines_are_numbered(tmp_path: Path, lines: list[str]) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    assert labels_of_file(tmp_path / "labels.txt") == tuple(lines)


def test_metadata() -> None:
    names = str(dict(enumerate(FLOWERS)))
    ultralytics = foreign_model(metadata={"task": "classify", "names": names})
    assert labels_for(ultralytics)[0] == FLOWERS
    inside = foreign_model(
        format_=Format.TFLITE, files={"temp_meta.txt": str({"task": "classify", "names": dict(enumerate(FLOWERS))})}
    )
    paddle = foreign_model(metadata={"character": "\n".join(FLOWERS)})
    tflite = foreign_model(
        format_=Format.TFLITE,
        files={"a.txt": "x\n" * 5, "b.txt": "\n".join(FLOWERS)},
        metadata={"output.files": "b.txt"},
    )
    for foreign in (paddle, tflite):
        labels, evidence = labels_for(foreign)
        assert labels == FLOWERS
        assert evidence.source is Source.METADATA
    assert labels_for(inside)[0] == FLOWERS
    lines = "".join(f"  {number}: '{label}'\n" for number, label in enumerate(FLOWERS))
    yaml = f"description: Ultralytics\ntask: classify\nimgsz:\n- 224\n- 224\nnames:\n{lines}"
    assert labels_for(foreign_model(format_=Format.TFLITE, files={"metadata.yaml": yaml}))[0] == FLOWERS


@pytest.mark.parametrize(
    "names", ["__import__('os').system('false')", "{0: 'a'", "{" * 9999, "{1: 'a'}", "[]", "{0: 1}"]
)
def test_hostile_metadata_is_not_found(names: str) -> None:
    labels, evidence = labels_for(foreign_model(metadata={"task": "classify", "names": names}))
    assert labels == tuple(f"class {number}" for number in range(5))
    assert evidence.source is Source.ASSUMED


def test_the_option_comes_first(foreign: ForeignModel, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("\n".join(FLOWERS))
    option = tmp_path / "mine.txt"
    option.write_text("a\nb\nc\nd\ne\n")
    labels, evidence = labels_for(foreign, option)
    assert labels == ("a", "b", "c", "d", "e")
    assert evidence.source is Source.OPTION
    option.write_text("a\nb\n")
    with raises(BadInput, "TP9446", "mine.txt", "2 labels", "5 classes"):
        labels_for(foreign, option)


def test_files_of_another_count(foreign: ForeignModel, tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_text("cat\ndog\n")
    with raises(BadInput, "TP9446", "labels.txt", "2 labels", "5 classes"):
        labels_for(foreign)
    (tmp_path / "dict.txt").write_text("\n".join(FLOWERS))
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "a"}}))
    labels, evidence = labels_for(foreign)
    assert labels == FLOWERS
    assert "labels.txt beside the file has 2 labels and was not used" in evidence.text


def test_a_text_about_something_else_is_not_used(foreign: ForeignModel, tmp_path: Path) -> None:
    (tmp_path / "flowers.txt").write_text("Made by me.\nFor the garden.\n")
    (tmp_path / "config.json").write_text(json.dumps({"id2label": {"0": "a", "1": "b"}}))
    assert labels_for(foreign)[1].source is Source.ASSUMED


@pytest.mark.parametrize(
    ("content", "code", "value"),
    [("a\nb\n\nd\ne", "TP9444", "label 3"), ("a\nb\na\nd\ne", "TP9445", "'a'")],
)
def test_empty_and_repeated_labels(foreign: ForeignModel, content: str, code: str, value: str) -> None:
    (foreign.path.parent / "labels.txt").write_text(content)
    with raises(BadInput, code, "labels.txt", value):
        labels_for(foreign)


@pytest.mark.parametrize(("content", "code"), [(b"\xff\xfe\x00", "TP9442"), (b"", "TP9443"), (b'{"a": 7}', "TP9443")])
def test_unreadable_option(foreign: ForeignModel, tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "x.txt").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        labels_for(foreign, tmp_path / "x.txt")
    assert caught.value.code == code
    with raises(BadInput, "TP9440"):
        labels_for(foreign, tmp_path / "missing.txt")
    with raises(BadInput, "TP9441"):
        labels_for(foreign, tmp_path)


def test_background_class(foreign: ForeignModel, tmp_path: Path) -> None:
    names = [f"thing {number}" for number in range(1000)]
    (tmp_path / "labels.txt").write_text("\n".join(names))
    wide = replace(foreign, output=replace(foreign.output, size=1001))
    labels, evidence = labels_for(wide)
    assert labels == ("background", *names)
    assert "background" in evidence.text
    with raises(BadInput, "TP9446", "1,000 labels", "999 classes"):
        labels_for(replace(foreign, output=replace(foreign.output, size=999)))


def test_a_single_probability_has_two_classes(foreign: ForeignModel) -> None:
    single = replace(foreign, output=replace(foreign.output, size=1, answers=Answers.SIGMOID))
    assert labels_for(single)[0] == ("class 0", "class 1")


def test_repeated_names_of_imagenet_get_the_number_of_their_class(tmp_path: Path) -> None:
    # id2label of the config.json of Hugging Face's networks for ImageNet: class 134 is the bird, 517 the machine.
    names = {str(number): "crane" if number in (134, 517) else f"thing {number}" for number in range(1_000)}
    (tmp_path / "config.json").write_text(json.dumps({"id2label": names}))
    labels, evidence = labels_for(foreign_model(tmp_path / "model.onnx", classes=1_000))
    assert (labels[134], labels[517], labels[135]) == ("crane (134)", "crane (517)", "thing 135")
    assert evidence.text.endswith("repeated names have the number of their class: crane (134), crane (517)")


@pytest.mark.parametrize(("content", "code"), [("gänseblümchen\nrose".encode("latin-1"), "TP9442"), (None, "TP9441")])
def test_labels_beside_the_file_that_cannot_be_read_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, code: str
) -> None:
    # Without them the classes would silently be called class 0, class 1.
    (tmp_path / "labels.txt").write_bytes(content or b"daisy\nrose")
    if content is None:

        def refuse(*_: object) -> str:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("trtpoets.adoption.labels.read_text", refuse)
    with raises(BadInput, code, tmp_path / "labels.txt") as raised:
        labels_for(foreign_model(tmp_path / "model.onnx", classes=2))
    assert "--labels FILE" in raised.value.hint
