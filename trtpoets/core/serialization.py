"""Converts frozen dataclasses to JSON and back, by the type hints of their fields.

`to_json` converts a value to one that `json.dumps` accepts. `from_json` converts parsed JSON to a value of a given
class, and raises BadArtefact, which names the wrong field; `parsed` raises ValueError instead, for callers that raise
their own error. Supported types: str, bool, int, float, None, Any, Enum, Path, dataclasses, tuples, lists,
`Mapping[str, T]`, `Sequence[T]` (read as a list) and `T | None`; `to_json` keeps a LongList as one. Python 3.8 cannot
evaluate hints such as `tuple[int, ...] | None`, so this module parses them.

The value of a field with `metadata=FLAT` has no JSON object of its own: its fields are written to the object that
contains it. Its class has `row()`, which returns these fields, and `from_row(Mapping)`, which reads them. A field with
`metadata=OPTIONAL` is omitted when it is None.
"""

from __future__ import annotations

import ast
import builtins
import math
import sys
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, Mapping, NamedTuple, TypeVar

from trtpoets.core.errors import BadArtefact, TrtPoetsError
from trtpoets.core.long_lists import LongList

FLAT: Mapping[str, Any] = {"flat": True}
OPTIONAL: Mapping[str, Any] = {"optional": True}

_T = TypeVar("_T")
_SCALARS = (str, bool, int, float)
_GENERIC: Mapping[str, Any] = {"Mapping": Mapping, "dict": Mapping, "Any": Any, "Sequence": list}


class Hint(NamedTuple):
    """A parsed type hint. `kind` is a class, Any, Mapping, tuple or list; `args` are the hints of its items.

    For lists and tuples of any length, `args` has one hint, and `many` is True; for a tuple of a fixed length, `args`
    has a hint for each item. `optional` is whether None is allowed.
    """

    kind: Any
    args: tuple[Hint, ...] = ()
    many: bool = False
    optional: bool = False


class _Wrong(Exception):
    """A value that does not have the type of its field."""


def to_json(value: Any) -> Any:  # noqa: PLR0911 - one for each type
    """Return `value` as JSON: dataclasses and mappings as dict, tuples as list, Enums and paths as text."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        out: dict[str, Any] = {}
        for field in fields(value):
            item = getattr(value, field.name)
            if field.metadata.get("flat"):
                out.update(to_json(item.row()))
            elif item is not None or not field.metadata.get("optional"):
                out[field.name] = to_json(item)
        return out
    if isinstance(value, Mapping):
        return {str(to_json(key)): to_json(item) for key, item in value.items()}
    if isinstance(value, LongList):
        return value.mapped(to_json)
    if isinstance(value, (tuple, list)):
        return [to_json(item) for item in value]
    if isinstance(value, PurePath):
        return str(value)
    if value is None or isinstance(value, _SCALARS):
        return value
    if hasattr(value, "tolist"):  # numpy's scalars and arrays
        return value.tolist()
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def from_json(kind: type[_T], value: Any, source: str, hint: str = "") -> _T:
    """Return parsed JSON as a `kind`. Unknown fields are ignored; missing ones get their default.

    Raises BadArtefact with `hint` if a value has another type than its field; the message names `source` and the field.
    """
    try:
        return parsed(kind, value)
    except ValueError as error:
        raise BadArtefact(f"{source} has an unexpected form: {error}", hint=hint, code="TP1101") from None


def parsed(kind: type[_T], value: Any) -> _T:
    """Return parsed JSON as a `kind`, as `from_json` does. Raises ValueError that names the wrong field."""
    try:
        result: _T = _read(Hint(kind), value, "")
    except _Wrong as error:
        raise ValueError(str(error)) from None
    return result


def _read(hint: Hint, value: Any, where: str) -> Any:  # noqa: PLR0911 - one for each type
    if hint.kind is Any or (value is None and (hint.optional or hint.kind is type(None))):
        return value
    if is_dataclass(hint.kind):
        return _read_object(hint.kind, value, where)
    if hint.kind is Mapping:
        _require(isinstance(value, dict), value, "an object", where)
        key, item = hint.args or (Hint(str), Hint(Any))
        return {_read(key, k, where): _read(item, v, _below(where, k)) for k, v in value.items()}
    if hint.kind in (tuple, list):
        value = list(value) if isinstance(value, LongList) else value
        _require(isinstance(value, (list, tuple)), value, "a list", where)
        if hint.many and hint.args[0] in (Hint(int), Hint(str)) and set(map(type, value)) <= {hint.args[0].kind}:
            return hint.kind(value)  # fast for thousands of values of the right type
        items = hint.args * len(value) if hint.many else hint.args
        _require(len(items) == len(value), value, f"a list of {len(items)}", where)
        return hint.kind(_read(item, one, f"{where}[{i}]") for i, (item, one) in enumerate(zip(items, value)))
    if issubclass(hint.kind, Enum):
        known = [member.value for member in hint.kind]
        _require(value in known, value, "one of " + ", ".join(map(repr, known)), where)
        return hint.kind(value)
    if issubclass(hint.kind, PurePath):
        _require(isinstance(value, str), value, "text", where)
        return Path(value)
    expected = {str: "text", bool: "true or false", int: "a whole number", float: "a number"}[hint.kind]
    if hint.kind in (str, bool):
        fits = isinstance(value, hint.kind)
    else:
        fits = _is_number(value) and (hint.kind is float or value == int(value))
    _require(fits, value, expected, where)
    # 10 does not become 10.0, so that documents are written as they were read.
    return value if hint.kind is float else hint.kind(value)


def _read_object(kind: Any, value: Any, where: str) -> Any:
    _require(isinstance(value, dict), value, "an object", where)
    hints, arguments = hints_of(kind), {}
    for field in fields(kind):
        if field.metadata.get("flat"):
            try:
                arguments[field.name] = hints[field.name].kind.from_row(value)
            except (KeyError, TypeError, ValueError) as error:
                raise _Wrong(f"{_below(where, field.name)} can't be read: {type(error).__name__}: {error}") from None
        elif field.name in value:
            arguments[field.name] = _read(hints[field.name], value[field.name], _below(where, field.name))
        elif not _has_default(field) and not field.metadata.get("optional"):
            raise _Wrong(f"{_below(where, field.name)} is missing")
        elif not _has_default(field):
            arguments[field.name] = None
    try:
        return kind(**arguments)
    except (TrtPoetsError, ValueError) as error:  # raised by its __post_init__
        raise _Wrong(f"{where or 'the document'}: {getattr(error, 'message', error)}") from None


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer that no float can hold
        return False


def _require(right: bool, value: Any, expected: str, where: str) -> None:
    if not right:
        shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}..."
        raise _Wrong(f"{where or 'the document'} is {shown}, and {expected} was expected")


def _below(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


@lru_cache(maxsize=None)
def hints_of(kind: type) -> Mapping[str, Hint]:
    """Return the parsed type hint of each field of a dataclass, those of its base classes included."""
    hints: dict[str, Hint] = {}
    for base in reversed(kind.__mro__):
        space = {**vars(builtins), **vars(sys.modules[base.__module__])}
        for name, text in vars(base).get("__annotations__", {}).items():
            if not str(text).startswith("ClassVar"):
                hints[name] = _parsed(ast.parse(text, mode="eval").body, space) if isinstance(text, str) else Hint(text)
    return hints


def _parsed(node: Any, space: Mapping[str, Any]) -> Hint:
    if isinstance(node, ast.BinOp):  # T | None
        parts = [_parsed(part, space) for part in (node.left, node.right)]
        rest = [part for part in parts if part.kind is not type(None)]
        if len(rest) > 1:
            return Hint(Any)  # the value of such a union is not checked
        return rest[0]._replace(optional=True)
    if isinstance(node, ast.Constant):
        return Hint(type(None))
    if isinstance(node, ast.Subscript):
        kind = _parsed(node.value, space).kind
        piece: Any = node.slice
        inner = piece.value if type(piece).__name__ == "Index" else piece  # Python 3.8 has Index
        items = inner.elts if isinstance(inner, ast.Tuple) else [inner]
        args = tuple(_parsed(item, space) for item in items if not _is_dots(item))
        return Hint(kind, args, many=kind is list or any(map(_is_dots, items)))
    if isinstance(node, ast.Attribute):
        return Hint(getattr(_parsed(node.value, space).kind, node.attr))
    assert isinstance(node, ast.Name), ast.dump(node)
    kind = _GENERIC.get(node.id) or space[node.id]
    return Hint(kind)


def _is_dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is Ellipsis
