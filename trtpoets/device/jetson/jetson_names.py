"""Finds the JetPack or Jetson module for a name given by the user.

Module numbers are those of device trees (p3767-0005); other names are L4T's configurations (jetson-orin-nano-devkit).
"""

from __future__ import annotations

import difflib
import logging
import re
from typing import Sequence

from trtpoets.core.errors import BadInput
from trtpoets.core.system_files import l4t_release
from trtpoets.device.jetson.jetpack import BOARDS, JETPACKS, Board, JetPack, jetpack_of

_log = logging.getLogger(__name__)

_FIRST_L4T = 20
"""Lowest major version of L4T releases; major versions of JetPack are below 10."""

_VERSION = re.compile(
    r"(?P<word>nvidia[\s_-]*jetpack|jetpack|jp|l4t|linux\s+for\s+tegra)?[\s:=_-]*(?:[vr](?=\d))?"
    r"(?P<numbers>\d+(?:\.\d+){0,3})(?:[+-]\S*|\s*(?:ga|dp|\(release\)))?"
)

_ALIASES = {alias: board.words[-1] for board in BOARDS for alias in board.aliases}
_KEYWORDS = "|".join(sorted({*_ALIASES, *(word for board in BOARDS for word in board.words)}, key=len, reverse=True))
"""The words of the modules' names, longest first, as a regular expression."""

_NOISE = re.compile(
    r"nvidia|jetson|developer|devkit|dev|kit|modules?|series|super|industrial|engineering|reference|e?mmc|nvme|sd|board|som|maxn|[ab]0[0-9]"
    r"|\d+ ?gi?b?(?![a-z])|[^a-z0-9]"
)
"""Parts of a module's name that are ignored: product words, memory sizes, separators."""


def find_jetpack(text: str) -> JetPack:
    """The JetPack for a version or an L4T release: "5.1.2", "JetPack 6.2", "v6.2", "36.4.3", "R36.4.3", "L4T 36.4.3".

    For a newer patch release than those in the table, the last known one is returned, with a warning. Raises BadInput
    for other unknown versions.
    """
    name = text.strip().lower()
    release = l4t_release(text.strip().lstrip("# "))
    match = _VERSION.fullmatch(name)
    numbers = release or (_numbers(match["numbers"]) if match else ())
    if numbers and numbers[0] >= _FIRST_L4T:
        pack = _of_l4t(numbers, text)
    else:
        pack = _of_version(numbers, text) if match and "l4t" not in (match["word"] or "") else None
    if pack is None:
        known = ", ".join(jetpack.version for jetpack in JETPACKS)
        raise BadInput(
            f"JetPack {text!r} is unknown; known versions are: {known}",
            hint="on the board: cat /etc/nv_tegra_release",
            code="TP4070",
        )
    return pack


def find_board(name: str, jetpack: JetPack | None = None, others: Sequence[str] = ()) -> Board:
    """The module with a name: "orin-nano", "Jetson Orin Nano", "jetson-orin-nano-devkit", "p3767-0005".

    `others` are names that the caller accepts too, for the error. Raises BadInput if the name is unknown or ambiguous,
    or if `jetpack` does not support the module.
    """
    names = _boards_of(name.lower())
    boards = [board for board in BOARDS if board.name in names]
    known = ", ".join([*(board.name for board in BOARDS), *others])
    if not boards:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower().replace("jetson", "")).strip("-")
        near = difflib.get_close_matches(plain, [board.name for board in BOARDS], n=1, cutoff=0.4)
        raise BadInput(
            f"--board must be one of {known}, not {name!r}",
            hint=f"give --board {near[0] if near else 'orin-nano'}",
            code="TP4071",
        )
    if len(boards) > 1:
        raise BadInput(
            f"--board {name!r} may be the {' or the '.join(board.title for board in boards)}",
            hint=f"give {' or '.join(f'--board {board.name}' for board in boards)}",
            code="TP4072",
        )
    (board,) = boards
    if jetpack is not None and board.chip not in jetpack.chips:
        supported = ", ".join(pack.version for pack in JETPACKS if board.chip in pack.chips)
        raise BadInput(
            f"JetPack {jetpack.version} does not support the {board.title}",
            hint=f"use one of JetPack {supported}",
            code="TP4073",
        )
    return board


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros after the second number: (6, 2) for 6.2.0, (6, 0) for 6.0."""
    numbers = [int(number) for number in text.split(".")]
    while len(numbers) > 2 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _of_version(version: Sequence[int], text: str) -> JetPack | None:
    rows = [(_numbers(pack.version), pack) for pack in JETPACKS]
    jetpack = next((pack for numbers, pack in rows if numbers == tuple(version)), None)
    older = [pack for numbers, pack in rows if numbers[:2] == tuple(version[:2]) and numbers < tuple(version)]
    if jetpack is None and older and len(version) > 2:
        jetpack = older[-1]
        _log.warning("%s is unknown: JetPack %s, the last known version before it, is assumed", text, jetpack.version)
    return jetpack


def _of_l4t(release: tuple[int, ...], text: str) -> JetPack | None:
    if len(release) < 2:  # R36 may be any of JetPack 6
        return None
    jetpack = jetpack_of(release)
    last = max(pack.l4t for pack in JETPACKS if pack.l4t[0] == release[0]) if jetpack else ()
    if jetpack and _numbers(".".join(map(str, release))) > last:
        _log.warning(
            "%s is newer than all known releases: JetPack %s, the last known one, is assumed", text, jetpack.version
        )
    return jetpack


def modules_of(model: str) -> tuple[str, ...]:
    """The modules for a device tree's model: ("orin-nano",) for "NVIDIA Jetson Orin Nano Developer Kit Super".

    Empty if the model names no known module, as on boards of other manufacturers.
    """
    return _boards_of(model.lower())


def _boards_of(name: str) -> tuple[str, ...]:
    """The names of the modules that match a name in lower case."""
    exact = [board.name for board in BOARDS if board.name == name]
    if exact:
        return tuple(exact)
    numbers = [number for board in BOARDS for number in board.numbers if number in name]
    if numbers:
        longest = max(numbers, key=len)  # one with a variant
        return tuple(board.name for board in BOARDS if longest in board.numbers)
    words = {_ALIASES.get(word, word) for word in re.findall(_KEYWORDS, name)}
    rest = _NOISE.sub(" ", re.sub(_KEYWORDS, " ", name))
    if not words or rest.strip():
        return ()
    if words == {"tx2", "nx"}:
        return ("tx2",)
    parts = {board.name: set(board.words) for board in BOARDS}
    same = [board for board, its in parts.items() if its == words]
    return tuple(same or [board for board, its in parts.items() if its > words])
