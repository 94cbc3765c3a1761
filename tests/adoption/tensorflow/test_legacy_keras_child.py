"""The child process that reads files of Keras 2 answers failures in one line of JSON."""

from __future__ import annotations

import io
import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from trtpoets.adoption.tensorflow.legacy_keras_child import _answer

if find_spec("tensorflow") is None:  # without importing it, which takes seconds in each test worker
    pytest.skip("needs TensorFlow", allow_module_level=True)


def test_without_tf_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tf_keras", None)
    answer = _answer()
    assert list(answer) == ["missing"]
    assert "tf_keras" in answer["missing"]


def test_a_file_that_tf_keras_cannot_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Models:
        @staticmethod
        def load_model(file: str, **options: bool) -> None:
            assert options == {"compile": False, "safe_mode": True}
            raise OSError(f"{file} is damaged\nsecond line")

    class Package:
        models = Models

    monkeypatch.setitem(sys.modules, "tf_keras", Package)
    request = {"file": "net.h5", "safe": True, "source": "net.h5", "graph": str(tmp_path / "graph")}
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(request) + "\n"))
    answer = _answer()
    assert list(answer) == ["failure"]
    assert "net.h5 is damaged" in answer["failure"]
    assert "second line" not in answer["failure"]
    assert not (tmp_path / "graph").exists()
