"""Imports that are tried in a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.machines import write
from trtpoets.device.doctor.imports import try_imports


def test_an_import_that_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"onnx.py": "import os; os.abort()", "onnxruntime.py": ""})
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert try_imports(["onnx", "onnxruntime"]).problems == {"onnx": "the import was ended by SIGABRT"}
