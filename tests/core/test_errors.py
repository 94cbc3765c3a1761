"""The hierarchy, codes and pickling of errors."""

from __future__ import annotations

import functools
import pickle
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.scripts import docs_script
from trtpoets.core import errors
from trtpoets.core.console import error_text

ROOT = Path(__file__).parents[2]


def test_the_docstring_lists_every_error() -> None:
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.TrtPoetsError)
    ]
    assert len(kinds) > 5
    for kind in kinds:
        assert kind.__name__ in (errors.__doc__ or ""), kind
        assert kind.exit_code == {errors.GateFailed: 3, errors.GateUndecided: 4, errors.Interrupted: 130}.get(kind, 1)


def test_an_error_from_a_child_process_is_complete() -> None:
    error = pickle.loads(pickle.dumps(errors.BuildFailed("no kernel for Conv_3", hint="leave it in FP16")))
    assert type(error) is errors.BuildFailed
    assert (str(error), error.message, error.hint) == (
        "no kernel for Conv_3",
        "no kernel for Conv_3",
        "leave it in FP16",
    )


@functools.cache
def written() -> Any:
    return docs_script("write_errors")


def test_every_error_has_a_code_of_its_own() -> None:
    module = written()
    result = module.errors()
    assert len(result) > 500
    for error in result:
        assert re.fullmatch(r"TP[1-9]\d{3}", error.code), f"{error.place} makes {error.kind} without a code"
        packages = module.AREAS[error.code[2]][1].split(", ")
        assert error.place.split("/")[1] in packages, f"{error.place} has the code {error.code} of {packages}"
    counts = Counter(error.code for error in result)
    assert not {error.place: error.code for error in result if counts[error.code] > 1}


def test_the_list_of_errors_is_current() -> None:
    module = written()
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/write_errors.py"


def test_a_code_survives_the_way_from_a_child_process_and_ends_the_first_line() -> None:
    error = pickle.loads(pickle.dumps(errors.BadInput("a value", hint="another", code="TP1234")))
    assert error.code == "TP1234"
    assert error_text(error) == "Error: a value [TP1234]\n  try: another\n"


def test_the_code_and_the_values_must_fit() -> None:
    with raises(errors.BadInput, "TP1001", 7, "--batch") as caught:
        raise errors.BadPhoto("--batch is 7", hint="less", code="TP1001")
    assert caught.value.hint == "less"
    for code, value in (("TP1002", 7), ("TP1001", 8)):
        with pytest.raises(AssertionError, match=code), raises(errors.BadInput, code, value):
            raise errors.BadInput("--batch is 7", code="TP1001")
