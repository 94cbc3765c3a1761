"""Files of TensorFlow are recognised by their content."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.adoption.tensorflow.networks import retrain_graph
from tests.support.errors import raises
from trtpoets.adoption.tensorflow.reader import read_tensorflow
from trtpoets.core.errors import BadArtefact

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_files_of_other_kinds(tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.pb"
    truncated.write_bytes(retrain_graph().SerializeToString()[:-700])
    with raises(BadArtefact, "TP9110"):
        read_tensorflow(truncated)
    pointer = tmp_path / "graph.pb"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with raises(BadArtefact, "TP1011", "Git LFS pointer") as caught:
        read_tensorflow(pointer)
    assert "git lfs pull" in caught.value.hint
    with raises(BadArtefact, "TP9135", "saved_model.pb"):
        read_tensorflow(tmp_path)
