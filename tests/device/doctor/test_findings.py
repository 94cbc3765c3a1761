"""The results of the doctor's checks, as `doctor --json` prints them."""

from __future__ import annotations

import json

from trtpoets.core.serialization import from_json, to_json
from trtpoets.device.doctor.findings import Finding, State


def test_a_finding_is_read_as_it_was_written() -> None:
    finding = Finding("pycuda", State.MISSING, "not installed", "running engines", "pip install pycuda")
    document = json.loads(json.dumps(to_json(finding)))
    assert document["state"] == "missing"
    assert from_json(Finding, document, "the doctor") == finding


def test_states_have_the_words_of_the_table() -> None:
    assert [state.value for state in State] == ["ready", "check", "missing", "not here"]
    assert max(len(state.value) for state in State) < 9, "the column of the table is 9 characters wide"
