"""Imports of optional packages and their errors."""

from __future__ import annotations

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

import trtpoets
from tests.support.errors import raises
from tests.support.sources import nodes_of
from trtpoets.core import optional
from trtpoets.core.errors import MissingDependency
from trtpoets.core.optional import needs, tensorflow, tensorflow_gpus


def test_a_missing_package_names_the_extra() -> None:
    with (
        raises(MissingDependency, "TP1050", "no_such_package", "No module named") as caught,
        needs("demo", reason="the demonstration"),
    ):
        importlib.import_module("no_such_package")
    assert caught.value.hint == "pip install 'trtpoets[demo]'"


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), needs("demo"):
        _ = 1 / 0


def test_missing_tensorflow_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with raises(MissingDependency, "TP1050", "tensorflow"):
        tensorflow()


@pytest.mark.parametrize("gpus", [[], ["gpu", "gpu"]])
def test_the_gpus_that_tensorflow_finds(gpus: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = SimpleNamespace(list_physical_devices=lambda kind: gpus if kind == "GPU" else ["cpu"])
    monkeypatch.setattr(optional, "tensorflow", lambda: SimpleNamespace(config=config))
    assert tensorflow_gpus() == len(gpus)


def test_onnx_runtime_sends_no_telemetry(tmp_path: Path) -> None:
    """With telemetry, it would write an id of this machine to the home folder."""
    loud = ("ORT_DISABLE_TELEMETRY", "CI", "GITHUB_ACTIONS", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in loud}
    program = "from trtpoets.core.optional import onnxruntime; onnxruntime().get_available_providers()"
    subprocess.run([sys.executable, "-c", program], env={**environment, "HOME": str(tmp_path)}, check=True, timeout=60)
    assert list(tmp_path.rglob("*")) == []


def test_onnx_runtime_is_imported_in_one_place() -> None:
    for path in Path(trtpoets.__file__).parent.rglob("*.py"):
        names = [
            name.name.partition(".")[0]
            for node in nodes_of(path)
            if isinstance(node, ast.Import)
            for name in node.names
        ]
        assert "onnxruntime" not in names or path.name == "optional.py", path
