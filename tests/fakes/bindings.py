"""Makes fake classes look like the Python bindings of a TensorRT version: the same members and type checks.

`bindings.json` lists the members of each version. A listed member that has no fake fails the test when it is used; a
member that is not listed does not exist, for `hasattr` and for assignments.

Compared with the original by `tests/device/test_tensorrt_bindings.py`, which reads the real bindings of each version.
"""

from __future__ import annotations

import enum
import functools
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TABLE = Path(__file__).parent / "bindings.json"
"""{class: {"versions that have them": [members]}}, written by `python -m tests.fakes.stub_bindings`."""


@functools.lru_cache(maxsize=None)  # noqa: UP033 - Python 3.8 has no `cache`
def committed_listings() -> dict[str, dict[str, set[str]]]:
    """The members of each class by version; of an enumeration, its values."""
    values: dict[str, dict[str, set[str]]] = {}
    for name, groups in json.loads(TABLE.read_text()).items():
        for versions, members in groups.items():
            for version in versions.split():
                values.setdefault(version, {}).setdefault(name, set()).update(members)
    return values


def rule(kept: bool, text: str) -> None:
    """Fail the test if a documented rule of TensorRT is broken."""
    assert kept, f"a rule of TensorRT is broken: {text}"


class NotFaked:
    """A member that the version has but the fake does not."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"{self.name} is used, and the fake does not know it")


class Number(enum.Enum):
    """Members like those of pybind11's enumerations: they are not numbers, but can be converted to one."""

    def __int__(self) -> int:
        return int(self.value)


def enumeration(name: str, version: str, numbers: Mapping[str, int] | None = None) -> Any:
    """An enumeration of a version. The numbers differ from the real ones."""
    members = sorted(committed_listings()[version][name])
    make: Any = Number
    return make(name, {member: (numbers or {}).get(member, 70 + 3 * place) for place, member in enumerate(members)})


def bound(name: str, version: str, body: type) -> type:
    """Return `body` as the class `name` of a version, with exactly the members that the version has."""
    listed = committed_listings()[version][name]
    faked = {key: value for key, value in vars(body).items() if key.startswith("_") or key in listed}
    faked.pop("__dict__", None), faked.pop("__weakref__", None)
    missing = {member: NotFaked(f"{name}.{member}") for member in listed if member not in faked}

    def set_attribute(self: Any, key: str, value: Any) -> None:
        if not key.startswith("_"):
            if key not in listed:
                raise AttributeError(f"{name!r} object has no attribute {key!r}")
            rule(key not in missing, f"{name}.{key} is set, and the fake does not know it")
            if callable(faked[key]):
                raise AttributeError(f"{name!r} object attribute {key!r} is read-only")
        object.__setattr__(self, key, value)

    return type(name, (), {**missing, **faked, "__setattr__": set_attribute})


def instance_of(kind: type, value: Any, what: str) -> None:
    """Raise TypeError, like pybind11, for arguments of another type and for objects that were not initialised."""
    if not isinstance(value, kind):
        raise TypeError(f"{what}: incompatible function arguments: {type(value).__name__} is no {kind.__name__}")
    if getattr(value, "_ready", True) is not True:
        raise TypeError(f"{kind.__name__}.__init__() must be called when overriding __init__")


def present(names: Mapping[str, Any], version: str, extra: Iterable[str] = ()) -> dict[str, Any]:
    """Those of `names` that the version has."""
    listed = {*committed_listings()[version], *extra}
    return {name: value for name, value in names.items() if name in listed}
