"""`report` needs a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.errors import MissingArtefact
from trtpoets.pipeline.report import report


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact) as caught:
        report("flowers", engines=tmp_path)
    assert caught.value.code == "TP8001"
    assert not (tmp_path / "flowers").exists(), "no page is written"
