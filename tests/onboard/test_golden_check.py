"""The child process that checks an engine answers a failure in one line."""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.serialization import to_json
from trtpoets.onboard.golden_check import _answer


def test_a_missing_engine_is_an_answer(tmp_path: Path) -> None:
    answer = _answer({"engine": str(tmp_path / "fp16.engine"), "golden": str(tmp_path)})
    assert answer.verdict is None
    assert answer.failure and "fp16.engine" in answer.failure
    assert to_json(answer) == {"failure": answer.failure}
