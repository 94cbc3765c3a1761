"""Runner identities from their names, for tests."""

from __future__ import annotations

from trtpoets.core.runner_id import FAKE, WAYS, RunnerId
from trtpoets.core.types import Precision

__all__ = ["FAKE", "runner"]

_KNOWN = {
    item.name: item
    for library, ways in WAYS.items()
    for way in ways
    for item in (RunnerId(library, None, way), *(RunnerId(library, precision, way) for precision in Precision))
}


def runner(name: str, *variant: str) -> RunnerId:
    """The runner of a name without a variant, with the words of one: runner("rtx-fp16", "sm86")."""
    known = _KNOWN[name]
    return RunnerId(known.library, known.precision, known.way, variant)
