"""Typed documents survive the way to JSON and back, and a wrong document is described by its field."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fakes.board_bundle import python_3_8
from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact
from trtpoets.core.runner_id import Library, RunnerId
from trtpoets.core.serialization import FLAT, OPTIONAL, Hint, from_json, hints_of, to_json
from trtpoets.core.types import Precision

ROOT = Path(__file__).parents[2]

PROGRAM = """
from __future__ import annotations
from dataclasses import dataclass
from typing import Mapping
from trtpoets.core.serialization import from_json, to_json

@dataclass(frozen=True)
class Inner:
    names: tuple[str, ...]
    share: float | None = None

@dataclass(frozen=True)
class Outer:
    inner: Mapping[str, list[Inner]]

value = Outer({"a": [Inner(("x",), 0.5), Inner(())]})
assert from_json(Outer, to_json(value), "x") == value
"""


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True)
class Inner:
    share: float
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    runner: RunnerId = field(metadata=FLAT)
    colour: Colour
    count: int
    pair: tuple[int, float]
    inner: tuple[Inner, ...]
    by_name: Mapping[str, Inner]
    path: Path
    anything: Any = None
    maybe: float | None = None
    note: str | None = field(default=None, metadata=OPTIONAL)


RUNNER = RunnerId(Library.ONNXRUNTIME, Precision.INT8)
VALUE = Outer(RUNNER, Colour.BLUE, 3, (1, 2.5), (Inner(0.5, ("a", "b")),), {"x": Inner(1.0)}, Path("a/b"), {"k": [1]})


def test_a_value_comes_back_as_it_was() -> None:
    text = json.dumps(to_json(VALUE), allow_nan=False)
    assert from_json(Outer, json.loads(text), "x.json") == VALUE


def test_flat_fields_stand_beside_the_others_and_optional_ones_are_left_out() -> None:
    value = to_json(VALUE)
    assert list(value) == [
        *("runner", "library", "precision", "way", "variant", "colour", "count", "pair", "inner", "by_name", "path"),
        *("anything", "maybe"),
    ]
    assert (value["runner"], value["precision"], value["maybe"]) == (RUNNER.name, "int8", None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 1.5}, "count is 1.5, and a whole number was expected"),
        ({"count": True}, "count is True, and a whole number was expected"),
        ({"count": float("nan")}, "count is nan, and a whole number was expected"),
        ({"colour": "green"}, "colour is 'green', and one of 'red', 'blue' was expected"),
        ({"colour": ["red"]}, "colour is ['red'], and one of 'red', 'blue' was expected"),
        ({"pair": [1]}, "pair is [1], and a list of 2 was expected"),
        ({"pair": None}, "pair is None, and a list was expected"),
        ({"inner": [{"share": "x"}]}, "inner[0].share is 'x', and a number was expected"),
        ({"inner": [{}]}, "inner[0].share is missing"),
        ({"inner": "ab"}, "inner is 'ab', and a list was expected"),
        ({"by_name": {"y": 3}}, "by_name.y is 3, and an object was expected"),
        ({"path": 7}, "path is 7, and text was expected"),
        ({"maybe": "a" * 90}, f"maybe is '{'a' * 59}..., and a number was expected"),
        ({"library": "none"}, "runner can't be read: ValueError: 'none' is not a valid Library"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(BadArtefact) as caught:
        from_json(Outer, {**to_json(VALUE), **changes}, "x.json")
    assert (caught.value.message, caught.value.code) == (f"x.json has an unexpected form: {message}", "TP1101")


def test_a_document_that_is_no_object() -> None:
    with raises(BadArtefact, "TP1101", "[1]"):
        from_json(Outer, [1], "x.json")


def test_fields_of_newer_versions_are_ignored() -> None:
    assert from_json(Outer, {**to_json(VALUE), "newer": 1}, "x.json") == VALUE


def test_numbers_of_numpy_are_plain_numbers() -> None:
    assert to_json({"a": np.float32(0.5), "b": np.arange(2)}) == {"a": 0.5, "b": [0, 1]}
    with pytest.raises(TypeError, match="object has no form in JSON"):
        to_json(object())


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_any_json_gives_a_value_or_an_error_for_people(value: Any) -> None:
    for name in to_json(VALUE):
        try:
            from_json(Outer, {**to_json(VALUE), name: value}, "x.json")
        except BadArtefact as error:
            assert error.code == "TP1101"


def test_hints_are_parsed_without_evaluating_them() -> None:
    hints = hints_of(Outer)
    assert hints["maybe"] == Hint(float, optional=True)
    assert hints["pair"] == Hint(tuple, (Hint(int), Hint(float)))
    assert hints["inner"] == Hint(tuple, (Hint(Inner),), many=True)


def test_python_3_8_reads_documents(tmp_path: Path) -> None:
    python = python_3_8()
    if python is None:
        pytest.skip("needs a Python 3.8: $TRTPOETS_PYTHON38, or python3.8 on PATH")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    done = subprocess.run([python, program], env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
