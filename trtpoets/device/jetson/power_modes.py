"""Parses a Jetson's power modes, which are identified by name: their numbers differ between modules and JetPacks.

`nvpmodel -m 0` is MAXN on the AGX Orin and MAXN_SUPER on the Orin NX, 15W on the Orin Nano (MAXN_SUPER is 2 there) and
MODE_15W_2CORE on the Xavier NX, whose fastest, MODE_20W_6CORE, is 8 (Jetson Linux developer guide, "Supported Modes and
Power Efficiency", and /etc/nvpmodel.conf of these boards).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID\s*=\s*(\d+)\s+NAME\s*=\s*([^\s>]+)")


@dataclass(frozen=True)
class PowerMode:
    """A power mode: `number` is for `nvpmodel -m`, `name` is that in /etc/nvpmodel.conf."""

    number: int
    name: str


def power_modes(text: str) -> tuple[PowerMode, ...]:
    """The modes in the text of /etc/nvpmodel.conf."""
    return tuple(PowerMode(int(number), name) for number, name in _MODEL.findall(text))


def fastest_mode(modes: tuple[PowerMode, ...]) -> PowerMode | None:
    """MAXN_SUPER, else MAXN, else the mode with most watts, then most cores; None if no name contains these."""
    known = [mode for mode in modes if _rank(mode.name) > (0, 0, 0)]
    return max(known, key=lambda mode: _rank(mode.name), default=None)


def _rank(name: str) -> tuple[int, int, int]:
    unlimited = 2 if name.startswith("MAXN_SUPER") else int(name.startswith("MAXN"))
    return unlimited, _number(r"(\d+)W(?![A-Z0-9])", name), _number(r"(\d+)_?CORE", name)


def _number(pattern: str, name: str) -> int:
    match = re.search(pattern, name)
    return int(match.group(1)) if match else 0
