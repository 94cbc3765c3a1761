"""The result of `adopt` on the terminal."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

from tests.support.tiny import tiny_spec
from trtpoets.core.network_notes import Parity
from trtpoets.core.original import Answers, Channels, Format, Layout, Original, OriginalInput, OriginalOutput
from trtpoets.core.types import ModelSpec
from trtpoets.reporting.sections.adoption_section import parity_sentence
from trtpoets.reporting.tables.adoption import adoption_parts, comparison_sentence


def adopted_spec() -> ModelSpec:
    original = Original(
        Format.ONNX,
        "net.onnx",
        "a" * 64,
        "PyTorch",
        OriginalInput("x", "float32", Layout.NCHW),
        OriginalOutput("y", "float32", 3, Answers.LOGITS),
        Channels.RGB,
    )
    return replace(tiny_spec(), original=original)


def row(spec: ModelSpec, count: int, *, chosen: bool) -> Any:
    """A row of the trial: its contract is that of the classifier if it was chosen."""
    preprocess = spec.preprocess
    channels = Channels.RGB if chosen else Channels.BGR
    pixels = SimpleNamespace(scale=preprocess.scale, offset=preprocess.offset, channels=channels)
    geometry = SimpleNamespace(resize=preprocess.resize, crop_fraction=preprocess.crop_fraction)
    return SimpleNamespace(
        contract=SimpleNamespace(text=f"contract {count}", pixels=pixels, geometry=geometry), count=count, photos=30
    )


def test_without_a_trial_the_original_is_described() -> None:
    spec = adopted_spec()
    ((title, columns, rows),) = adoption_parts(SimpleNamespace(spec=spec, trial=None))
    assert (title, columns) == ("", [])
    assert ("producer", "PyTorch") in rows


def test_the_chosen_row_is_shown_even_if_it_is_not_among_the_best() -> None:
    spec = adopted_spec()
    rows = [row(spec, 30 - number, chosen=number == 11) for number in range(12)]
    _, (title, _, shown) = adoption_parts(SimpleNamespace(spec=spec, trial=SimpleNamespace(rows=rows)))
    assert title.endswith("; the best 8 of 12")
    assert len(shown) == 9
    assert [cells[2] for cells in shown] == [""] * 8 + ["chosen"]
    assert shown[-1][:2] == ("contract 19", "19 of 30")


def test_the_sentence_is_that_of_the_report() -> None:
    parity = Parity(20, 3e-6, 1e-7, None, 20)
    adoption = SimpleNamespace(spec=adopted_spec(), compared=SimpleNamespace(parity=parity, rounded=None))
    assert comparison_sentence(adoption) == parity_sentence(adoption.spec, parity, None)
