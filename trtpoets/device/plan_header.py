"""What the first bytes of a TensorRT-RTX engine say, readable on any machine.

The layout is not documented: it was read off engines of 1.7 for every combination of targets. What does not look like
it is answered with "don't know".
"""

from __future__ import annotations

import struct
from pathlib import Path

_MAGIC = b"vtrt"
_TARGETS = {1: "sm75", 2: "sm80", 4: "sm86", 8: "sm89", 16: "sm120", 32: "sm121"}
_LATER = 64
_AMPERE_AND_LATER = sum(_TARGETS) - 1 + _LATER


def rtx_targets(engine: Path) -> tuple[str, ...]:
    """The compute capabilities that an engine was built for; ("sm80+",) for Ampere and later; () when unknown."""
    with engine.open("rb") as stream:
        header = stream.read(64)
    if len(header) < 64 or header[:4] != _MAGIC or header[28:32] != _MAGIC:
        return ()
    if struct.unpack_from("<Q", header, 16)[0] != engine.stat().st_size:
        return ()
    (mask,) = struct.unpack_from("<Q", header, 32)
    if mask == _AMPERE_AND_LATER:
        return ("sm80+",)
    if not mask or mask & ~sum(_TARGETS):
        return ()
    return tuple(name for bit, name in _TARGETS.items() if mask & bit)
