"""What a command prints."""

from __future__ import annotations

from typing import Any

import pytest

from trtpoets.reporting.tables.results import print_table


def printed(capsys: pytest.CaptureFixture[str], what: str, value: Any) -> str:
    print_table(what, value)
    text = capsys.readouterr().out
    assert max(len(line) for line in text.splitlines()) <= 80
    return text
