"""`raises`: expects an error by its code, so that its wording may be improved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import pytest

from trtpoets.core.errors import TrtPoetsError

Error = TypeVar("Error", bound=TrtPoetsError)


@dataclass(frozen=True)
class HasCode:
    """Whether an error has this code and all of these values in its message. pytest shows it if it is not so."""

    code: str
    values: tuple[str, ...]

    def __call__(self, error: TrtPoetsError) -> bool:
        return error.code == self.code and all(value in str(error) for value in self.values)


def raises(kind: type[Error], code: str, *values: Any) -> pytest.RaisesExc[Error]:
    """As `pytest.raises`: an error of this class with this code, whose message contains the texts of `values`.

    The values are names, numbers and options that the message must state, not its words.
    """
    return pytest.raises(kind, check=HasCode(code, tuple(map(str, values))))
