"""The hierarchy, codes and pickling of errors."""

from __future__ import annotations

import ast
import functools
import pickle
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.scripts import docs_script
from tests.support.sources import nodes_of
from trtpoets.core import errors
from trtpoets.core.console import error_text

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "trtpoets"


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


def test_an_error_states_what_is_wrong_without_the_name_of_its_subject() -> None:
    path = Path("a folder") / "x.onnx"
    error = pickle.loads(pickle.dumps(errors.BadArtefact("is empty", code="TP1234", details=["a row"], subject=path)))
    assert (error.message, str(error)) == (f"{path} is empty", f"{path} is empty\na row")
    assert (error.reason_about(path), error.reason) == ("is empty", "is empty")
    assert error.reason_about("y.onnx") == error.message
    assert errors.BadInput("no photo").reason_about("") == "no photo"


KERAS_REASON = (
    "A total of 3 objects could not be loaded. Example error message for object <Conv2D name=conv>:\n\n"
    "Layer 'conv' expected 1 variables, but received 0\n\nList of objects that could not be loaded:\n[...]"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one\ntwo", "one"),
        ("\n  one  \n", "one"),
        (KERAS_REASON, " ".join(KERAS_REASON.split("\n")[0:3:2])),
        ("the reason:", "the reason:"),
        (
            "it failed:\nTraceback (most recent call last):\n  File 'a.py'\nValueError: no head",
            "it failed: ValueError: no head",
        ),
        ("", "ValueError"),
    ],
)
def test_the_first_line_of_an_error_includes_the_reason_that_it_announces(text: str, expected: str) -> None:
    assert errors.first_line(ValueError(text)) == expected


def cut_messages(nodes: Iterable[ast.AST]) -> list[int]:
    """The lines that cut or search the message of an error, instead of using its code, subject or reason."""

    def is_message(node: ast.AST) -> bool:
        return isinstance(node, ast.Attribute) and node.attr == "message"

    found = []
    for node in nodes:
        searched = isinstance(node, ast.Compare) and any(map(is_message, node.comparators))
        if searched or (isinstance(node, (ast.Attribute, ast.Subscript)) and is_message(node.value)):
            assert isinstance(node, ast.expr)
            found.append(node.lineno)
    return found


def test_no_code_cuts_a_message() -> None:
    for example in ("error.message.partition(': ')", "error.message[3:]", "'Conv' in error.message"):
        assert cut_messages(ast.walk(ast.parse(example))) == [1], example
    found = [f"{path}:{line}" for path in sorted(PACKAGE.rglob("*.py")) for line in cut_messages(nodes_of(path))]
    assert not found, "an error's reason is `error.reason_about(subject)`: " + ", ".join(found)


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
