"""The messages between a build and its child process survive JSON."""

from __future__ import annotations

import json

import pytest

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import Flavour
from trtpoets.device.build.build_messages import Answer, Failure, Order, ProbeResult
from trtpoets.device.build.tensorrt_build import Machine


@pytest.mark.parametrize(
    "message",
    [
        Order("probe", Flavour.TENSORRT, 1 << 30),
        Answer(progress=0.5),
        Answer(done={"seconds": 1.5}),
        Answer(error=Failure("BuildFailed", "no kernel", "use fp16", "TP4001")),
        Answer(bug="Traceback"),
        ProbeResult(Machine(2, True, None), ("a note",)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_is_read_as_it_was_written(message: object) -> None:
    text = json.dumps(to_json(message))
    assert from_json(type(message), json.loads(text), "the child") == message


def test_fields_of_an_answer_that_are_not_set_are_left_out() -> None:
    assert to_json(Answer(progress=1.0)) == {"progress": 1.0}


@pytest.mark.parametrize("wrong", [{"progress": "half"}, {"error": {"kind": 1}}, []])
def test_other_answers_are_refused(wrong: object) -> None:
    with pytest.raises(TrtPoetsError):
        from_json(Answer, wrong, "the child")
