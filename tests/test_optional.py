from __future__ import annotations

import sys

import pytest

from trtpoets.core.errors import MissingDependency
from trtpoets.core.optional import needs, tensorflow


def test_a_missing_package_names_the_extra() -> None:
    with (
        pytest.raises(MissingDependency, match=r"the demonstration needs no_such_package, .*No module named") as caught,
        needs("demo", reason="the demonstration"),
    ):
        import no_such_package  # noqa: F401
    assert caught.value.hint == "pip install 'trtpoets[demo]'"


def test_other_errors_pass() -> None:
    with pytest.raises(ZeroDivisionError), needs("demo"):
        _ = 1 / 0


def test_tensorflow_missing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    with pytest.raises(MissingDependency, match="this step needs tensorflow"):
        tensorflow()
