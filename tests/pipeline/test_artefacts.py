"""What a workspace holds, and its lock."""

from __future__ import annotations

from pathlib import Path

import pytest

from trtpoets.core.errors import BadInput, MissingArtefact
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import classifier_identity, classifier_in, dataset_in, has_dataset, writing


def test_an_empty_workspace(tmp_path: Path) -> None:
    space = Workspace(tmp_path, "flowers")
    assert not has_dataset(space)
    for function, code in ((classifier_in, "TP8001"), (classifier_identity, "TP8001"), (dataset_in, "TP8003")):
        with pytest.raises(MissingArtefact) as caught:
            function(space)
        assert caught.value.code == code
        assert "PHOTOS" in caught.value.hint


def test_runs_with_similar_names_are_suggested(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers" / "classifier.json").write_text("{}")
    with pytest.raises(MissingArtefact) as caught:
        classifier_in(Workspace(tmp_path, "flower"))
    assert caught.value.hint.startswith("did you mean flowers?")


def test_the_lock_is_reentrant_and_errors_name_the_run(tmp_path: Path) -> None:
    space = Workspace(tmp_path, "flowers")
    with pytest.raises(BadInput) as caught, writing(space), writing(space):
        raise BadInput("wrong", hint="trtpoets export NAME", code="TP8001")
    assert caught.value.hint.startswith("trtpoets export flowers")
    assert str(tmp_path) in caught.value.hint
