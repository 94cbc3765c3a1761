"""`recommend` needs a run with current measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.errors import MissingArtefact
from trtpoets.pipeline.recommend import recommend
from trtpoets.pipeline.report import report


def test_a_run_that_does_not_exist(tmp_path: Path) -> None:
    for command in (recommend, report):
        with pytest.raises(MissingArtefact) as caught:
            command("flowers", engines=tmp_path)
        assert caught.value.code == "TP8001"
        assert "retrain PHOTOS" in caught.value.hint
    assert not (tmp_path / "flowers").exists()
