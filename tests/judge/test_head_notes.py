"""The result of fitting the last layer of an INT8 network, as the card stores it."""

from __future__ import annotations

import json

from trtpoets.core.serialization import from_json, to_json
from trtpoets.judge.head_notes import HeadNotes


def test_notes_are_read_as_they_were_written() -> None:
    notes = HeadNotes(True, "it is nearer to FP32", 500, 128, 0.01, (0.02, 0.01), -0.02, -0.005, (0.96, 0.98), None)
    assert from_json(HeadNotes, json.loads(json.dumps(to_json(notes))), "the card") == notes


def test_a_head_that_was_not_measured_has_its_reason_only() -> None:
    notes = from_json(HeadNotes, {"kept": False, "why": "too few photos"}, "the card")
    assert notes == HeadNotes(False, "too few photos")
    assert notes.divergence is notes.agreement is notes.accuracy is None
