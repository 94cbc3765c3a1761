"""The description of a file: what is unknown unless a reader says it, and the command that hints begin with."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from tests.test_hints import parsed
from trtpoets.adoption.contract import UNIT
from trtpoets.adoption.foreign import AGAIN, Clues, FixedPixels, ForeignModel
from trtpoets.core.original import Answers, Evidence, Format, Layout, OriginalInput, OriginalOutput, Source


def described() -> ForeignModel:
    image = OriginalInput("photo", "float32", Layout.NHWC)
    scores = OriginalOutput("scores", "float32", 4, Answers.LOGITS)
    return ForeignModel(Path("net.onnx"), Format.ONNX, "0" * 64, 8, 8, 3, image, scores)


def test_nothing_is_known_that_a_reader_does_not_say() -> None:
    model = described()
    assert model.fixed is None
    assert model.clues == Clues("", (), {}, {})
    evidence = Evidence("pixels", Source.GRAPH, "a Rescaling layer")
    assert not FixedPixels(UNIT, evidence).channels_known


def test_files_do_not_share_their_clues() -> None:
    assert described() == described()
    assert described().clues.metadata is not described().clues.metadata
    assert described().clues.files is not described().clues.files


def test_a_description_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        described().fixed = None  # type: ignore[misc]


def test_the_command_of_hints_can_be_given_options() -> None:
    arguments = parsed([*AGAIN.split()[1:], "--preprocess", "0-1"])
    assert (arguments["name"], arguments["preprocess"]) == ("NAME", "0-1")
    assert str(arguments["model"]) == "MODEL"
