"""What all runners share: tickets, pipelines, and checks of photos and scores."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.device.runners.base import Ticket, Timing, check_photos, check_scores, new_buffer, not_entered, pipelined
from trtpoets.device.runners.fake import FakeRunner


def test_a_ticket_is_collected_once_by_its_owner() -> None:
    owner, scores = object(), np.ones((1, 3), np.float32)
    ticket = Ticket(owner, scores)
    with raises(RunFailed, "TP4074", "is another runner's"):
        ticket.take(object(), "x")
    assert ticket.take(owner, "x") is scores
    with raises(RunFailed, "TP4074", "was collected"):
        ticket.take(owner, "x")


def test_the_error_of_a_batch_is_raised_when_it_is_collected() -> None:
    ticket = Ticket(None, np.zeros((1, 3), np.float32))
    ticket.error = RunFailed("the GPU failed", code="TP4999")
    with raises(RunFailed, "TP4999"):
        ticket.take(None, "x")


def test_a_pipeline_keeps_the_order_and_asks_for_the_next_batch_early() -> None:
    asked: list[int] = []

    def batches() -> Iterator[np.ndarray]:
        for number in range(4):
            asked.append(number)
            yield tiny_photos(number + 1)

    runner = FakeRunner(tiny_spec())
    runner.slots = 3
    with runner:
        results = pipelined(runner, batches())
        assert len(next(results)) == 1 and asked == [0, 1, 2]
        assert [len(scores) for scores in results] == [2, 3, 4]


@pytest.mark.parametrize(
    "photos",
    [np.zeros((0, 16, 16, 3), np.uint8), np.zeros((1, 16, 16, 3), np.float32), np.zeros((16, 16, 3), np.uint8)],
)
def test_photos_of_another_form_are_refused(photos: np.ndarray) -> None:
    check_photos(tiny_photos(2), tiny_spec())
    with raises(BadInput, "TP4076", "16"):
        check_photos(photos, tiny_spec())


def test_scores_must_be_finite_float32_of_every_label() -> None:
    scores = np.full((2, 3), 1 / 3, np.float32)
    assert check_scores(scores, 2, tiny_spec(), "x") is scores
    with raises(RunFailed, "TP4077", "x", "float64", "(2, 3)"):
        check_scores(scores.astype(np.float64), 2, tiny_spec(), "x")
    with raises(RunFailed, "TP4077", "(3, 3)"):
        check_scores(scores, 3, tiny_spec(), "x")
    scores[1, 2] = np.nan
    with raises(RunFailed, "TP4078", "x", "1 of 2 photos"):
        check_scores(scores, 2, tiny_spec(), "x")


@pytest.mark.parametrize(
    ("runner", "wider"),
    [("tensorrt-fp16", True), ("onnxruntime-int8-cpu", True), ("original", False), ("rtx-fp32", False)],
)
def test_only_a_narrow_precision_can_be_widened(runner: str, wider: bool) -> None:
    with pytest.raises(RunFailed) as caught:
        check_scores(np.full((2, 3), np.inf, np.float32), 2, tiny_spec(), runner)
    assert (caught.value.hint == "use a wider precision") == wider


def test_buffers_have_the_size_of_the_photos() -> None:
    buffer = new_buffer(2, tiny_spec())
    assert (buffer.shape, buffer.dtype) == ((2, 16, 16, 3), np.uint8)
    with raises(BadInput, "TP4075", "0"):
        new_buffer(0, tiny_spec())
    assert "x was used before it was entered" in not_entered("x").message
    assert Timing(1.0, 2.0, 4.0, 0.5, None).device_ms == 7.0
