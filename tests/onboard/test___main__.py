"""Errors of the program of a bundle have hints for a device."""

from __future__ import annotations

import pytest

from trtpoets.core.errors import BadInput, MissingDependency, TrtPoetsError
from trtpoets.onboard.__main__ import _report


@pytest.mark.parametrize(
    ("error", "hint"),
    [
        (
            MissingDependency("TensorRT is missing", hint="pip install trtpoets[trt]", code="TP0000"),
            "./install --dry-run",
        ),
        (
            MissingDependency("onnxruntime is missing", hint="pip install trtpoets[train]", code="TP0000"),
            "pip install onnxruntime",
        ),
        (BadInput("no room", hint="choose another folder: --engines DIR", code="TP0000"), "choose another folder\n"),
    ],
)
def test_hints(error: TrtPoetsError, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    _report(error)
    text = capsys.readouterr().err
    assert hint in text
    assert "trtpoets[" not in text and "--engines" not in text
