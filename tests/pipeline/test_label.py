"""`label`: photos from files, folders, patterns and standard input; failures are reported with the results."""

from __future__ import annotations

import io
import json
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cli.test_main import call_main
from tests.support.errors import raises
from tests.support.photo_names import names
from tests.support.photos import make_photo
from tests.support.tiny import tiny_spec
from trtpoets import label, label_stream
from trtpoets.cli.interruption import LABELS
from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.pipeline import label as label_module
from trtpoets.pipeline.label import LabelledPhoto, UnlabelledPhoto


class Watched(FakeRunner):
    """A FakeRunner that remembers the size of each batch."""

    def __init__(self) -> None:
        super().__init__(tiny_spec())
        self.batches: list[int] = []

    def infer(self, photos: np.ndarray) -> np.ndarray:
        self.batches.append(len(photos))
        return super().infer(photos)


@pytest.fixture
def runner(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """The runner of every run, in batches of 4."""
    result = Watched()

    def best(space: Any, stack: ExitStack, trust: bool) -> tuple[FakeRunner, int]:
        return stack.enter_context(result), 4

    monkeypatch.setattr(label_module, "_best_runner", best)
    monkeypatch.setattr(label_module, "classifier_in", lambda space: None)
    return result


def standard_input(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def test_labels_are_those_of_the_runner_that_gave_the_scores(runner: Watched, photos: Path) -> None:
    answers = label("x", [photos])
    assert {answer.runner for answer in answers} == {"fake"}
    assert all(sorted(answer.labels) == ["ant", "bee", "cow"] for answer in answers)
    assert runner.batches == [4, 1]


def test_other_files_in_a_folder_are_ignored_and_broken_photos_reported(runner: Watched, photos: Path) -> None:
    (photos / "labels.csv").write_text("id,label")
    (photos / "ant" / "broken.jpg").write_bytes(b"\xff\xd8\xff broken")
    make_photo(0, 0).save(photos / "ant" / "no_suffix", "PNG")
    results = list(label_stream("x", [photos]))
    assert names(result for result in results if isinstance(result, UnlabelledPhoto)) == ["broken.jpg"]
    assert "no_suffix" in names(results) and "labels.csv" not in names(results)
    (named,) = label_stream("x", [photos / "labels.csv"])
    assert isinstance(named, UnlabelledPhoto)


def test_paths_on_standard_input_by_line_or_by_nul(runner: Watched, photos: Path) -> None:
    paths = [os.fsencode(path) for path in sorted(photos.glob("ant/*"))]
    for content in (b"\n".join(paths), b"\r\n".join(paths) + b"\r\n", b"\0".join(paths) + b"\0"):
        answers = list(label_stream("x", ["-"], stdin=io.BytesIO(content)))
        assert names(answers) == ["0000.jpg", "0001.jpg", "0002.jpg"]
    assert len(list(label_stream("x", ["-"], stdin=io.BytesIO(os.fsencode(photos) + b"\n")))) == 5


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP"])
def test_a_photo_on_standard_input(runner: Watched, form: str) -> None:
    content = io.BytesIO()
    make_photo(1, 1).save(content, form)
    whole = content.getvalue()
    (answer,) = label_stream("x", ["-"], stdin=io.BytesIO(whole))
    assert isinstance(answer, LabelledPhoto) and str(answer.photo) == "-"
    (answer,) = label_stream("x", ["-"], stdin=io.BytesIO(whole[: len(whole) // 3]))
    assert isinstance(answer, UnlabelledPhoto) and answer.error.startswith("standard input")


def test_an_empty_standard_input_is_reported(runner: Watched) -> None:
    (result,) = label_stream("x", ["-"], stdin=io.BytesIO(b""))
    assert isinstance(result, UnlabelledPhoto) and "it is empty" in result.error


def test_memory_use_does_not_depend_on_the_number_of_photos(
    runner: Watched, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[Path] = []

    def decode(path: Path, preprocess: Any) -> np.ndarray:
        decoded.append(path)
        return np.zeros((preprocess.height, preprocess.width, 3), np.uint8)

    monkeypatch.setattr("trtpoets.pipeline.photo_arguments.photo_to_array", decode)
    monkeypatch.setattr(label_module, "usable_cores", lambda: 2)
    calls: list[tuple[str, int, int]] = []
    many = [next(photos.glob("ant/*"))] * 5000
    stream = label_stream("x", many, progress=lambda *call: calls.append(call))
    for number, _ in enumerate(stream, start=1):
        assert len(decoded) <= number + 4 + 2 * 4 + 2
        assert calls[-1] == ("photos", number, 5000)
    assert number == 5000 and set(runner.batches) == {4}


def test_strict_stops_at_the_first_bad_photo(runner: Watched, photos: Path) -> None:
    good = sorted(photos.glob("ant/*"))
    stream = label_stream("x", [good[0], good[1], photos / "none.jpg", good[2]], strict=True)
    assert names([next(stream), next(stream)]) == ["0000.jpg", "0001.jpg"]
    with raises(BadPhoto, "TP1016", "none.jpg"):
        next(stream)
    with raises(BadPhoto, "TP1016", "none.jpg"):
        label("x", [good[0], photos / "none.jpg"])
    with raises(BadInput, "TP8025"):
        label("x", [])


def test_the_command_continues_after_a_broken_photo(
    runner: Watched, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "bee" / "0000.jpg").write_bytes(b"no\nphoto")
    assert call_main(monkeypatch, "label", "x", str(photos)) == 0
    out, err = capsys.readouterr()
    assert out.count("(fake)") == 4
    assert [line for line in err.splitlines() if "bee/0000.jpg" in line] == [err.splitlines()[0]]
    assert call_main(monkeypatch, "label", "x", str(photos), "--strict") == 1
    assert capsys.readouterr().err.count("Error: ") == 1
    assert call_main(monkeypatch, "label", "x", str(photos), "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert [sorted(item) for item in document if "error" in item] == [["error", "photo"]]
    assert len([item for item in document if "labels" in item]) == 4


def test_the_command_fails_if_no_photo_was_labelled(
    runner: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    standard_input(monkeypatch, b"no-such-file.jpg\n")
    assert call_main(monkeypatch, "label", "x", "-", "--json") == 1
    out, err = capsys.readouterr()
    assert json.loads(out)[0]["photo"] == "no-such-file.jpg"
    assert "[TP9002]" in err
    (tmp_path / "empty").mkdir()
    assert call_main(monkeypatch, "label", "x", str(tmp_path / "empty")) == 1
    assert "no files below this folder" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_printed(
    runner: Watched, photos: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(pixels: np.ndarray) -> np.ndarray:
        if len(runner.batches) > 1:
            raise KeyboardInterrupt
        return np.full((len(pixels), 3), 1 / 3, np.float32)

    runner._scores = interrupted
    assert call_main(monkeypatch, "label", "x", str(photos), "--json") == 130
    out, err = capsys.readouterr()
    assert len(json.loads(out)) == 4
    assert LABELS.what in err
