"""Graphs return for several photos what they return for each."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.adoption.tensorflow.reading import classifier, read
from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_a_network_that_mixes_the_photos_of_a_batch_is_refused(tmp_path: Path) -> None:
    definition = classifier(lambda v1, x: x - v1.reduce_mean(x, 0, keepdims=True))
    with raises(BadArtefact, "TP9133", "3") as caught:
        read(definition, tmp_path)
    assert caught.value.code == "TP9133"
