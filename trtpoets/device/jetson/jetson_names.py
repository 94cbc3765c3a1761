"""The names that people give a JetPack and a Jetson, as rows of the tables in `jetpack`.

Module numbers are those of device trees (p3767-0005), others those of L4T's configurations (jetson-orin-nano-devkit).
"""

from __future__ import annotations

import difflib
import logging
import re
from typing import Sequence

from trtpoets.core.errors import BadInput
from trtpoets.device.jetson.jetpack import BOARDS, JETPACKS, Board, JetPack, jetpack_of, l4t_release

_log = logging.getLogger(__name__)

_FIRST_L4T = 20
"""A major version from here on is one of L4T: JetPack's are below 10."""

_VERSION = re.compile(
    r"(?P<word>nvidia[\s_-]*jetpack|jetpack|jp|l4t|linux\s+for\s+tegra)?[\s:=_-]*(?:[vr](?=\d))?"
    r"(?P<numbers>\d+(?:\.\d+){0,3})(?:[+-]\S*|\s*(?:ga|dp|\(release\)))?"
)

_KEYWORDS = ("orin", "nano", "xavier", "agx", "nx", "tx1", "tx2i", "tx2", "thor", "t5000", "t4000")
_SAME = {"tx2i": "tx2", "t5000": "thor", "t4000": "thor"}
_MODULES = {
    **dict.fromkeys(("p3448", "p3450"), ("nano",)),
    **dict.fromkeys(("p2180", "p2371"), ("tx1",)),
    **dict.fromkeys(("p3310", "p3489", "p3636", "p2771"), ("tx2",)),
    **dict.fromkeys(("p3668", "p3518"), ("xavier-nx",)),
    **dict.fromkeys(("p2888", "p2972", "p2822"), ("agx-xavier",)),
    **dict.fromkeys(("p3701", "p3730", "p3737"), ("agx-orin",)),
    **dict.fromkeys(("p3767-0000", "p3767-0001"), ("orin-nx",)),
    **dict.fromkeys(("p3767-0003", "p3767-0004", "p3767-0005", "p3766"), ("orin-nano",)),
    **dict.fromkeys(("p3767", "p3768"), ("orin-nano", "orin-nx")),
    **dict.fromkeys(("p3834", "p4071"), ("agx-thor",)),
}
"""Module and carrier numbers, and the boards that they are."""

_NOISE = re.compile(
    r"nvidia|jetson|developer|devkit|dev|kit|modules?|series|super|industrial|engineering|reference|e?mmc|nvme|sd|board|som|maxn|[ab]0[0-9]"
    r"|\d+ ?gi?b?(?![a-z])|[^a-z0-9]"
)
"""What a name of a board may have besides: words of the box, memory, separators."""


def jetpack_called(text: str) -> JetPack:
    """The JetPack of a version or an L4T release: "5.1.2", "JetPack 6.2", "v6.2", "36.4.3", "R36.4.3", "L4T 36.4.3".

    A newer patch release than those of the table is taken for the last known one, with a warning. Raises BadInput for
    any other, which names those that are known.
    """
    name = text.strip().lower()
    release = l4t_release(text.strip().lstrip("# "))
    found = _VERSION.fullmatch(name)
    numbers = release or (_numbers(found["numbers"]) if found else ())
    if numbers and numbers[0] >= _FIRST_L4T:
        pack = _of_l4t(numbers, text)
    else:
        pack = _of_version(numbers, text) if found and "l4t" not in (found["word"] or "") else None
    if pack is None:
        known = ", ".join(each.version for each in JETPACKS)
        raise BadInput(
            f"JetPack {text!r} is not in our table: {known}",
            hint="on the board: cat /etc/nv_tegra_release",
            code="TP4070",
        )
    return pack


def board_called(name: str, jetpack: JetPack | None = None) -> Board:
    """The board that people call `name`: "orin-nano", "Jetson Orin Nano", "jetson-orin-nano-devkit", "p3767-0005".

    Raises BadInput for a name that is not known, that stands for several boards, or that `jetpack` is not for.
    """
    names = _boards_of(name.lower())
    boards = [each for each in BOARDS if each.name in names]
    known = ", ".join(each.name for each in BOARDS)
    if not boards:
        plain = re.sub(r"[^a-z0-9]+", "-", name.lower().replace("jetson", "")).strip("-")
        near = difflib.get_close_matches(plain, [each.name for each in BOARDS], n=1, cutoff=0.4)
        raise BadInput(
            f"--board {name!r} is none of: {known}", hint=f"--board {near[0] if near else 'orin-nano'}", code="TP4071"
        )
    if len(boards) > 1:
        raise BadInput(
            f"--board {name!r} may be the {' or the '.join(each.title for each in boards)}",
            hint=" or ".join(f"--board {each.name}" for each in boards),
            code="TP4072",
        )
    (found,) = boards
    if jetpack is not None and found.chip not in jetpack.chips:
        fitting = ", ".join(each.version for each in JETPACKS if found.chip in each.chips)
        raise BadInput(
            f"JetPack {jetpack.version} is not for the {found.title}", hint=f"those that are: {fitting}", code="TP4073"
        )
    return found


def _numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version without trailing zeros beyond the second: 6.2.0 is 6.2, 6.0 is 6.0."""
    numbers = [int(each) for each in text.split(".")]
    while len(numbers) > 2 and not numbers[-1]:
        numbers.pop()
    return tuple(numbers)


def _of_version(version: Sequence[int], text: str) -> JetPack | None:
    rows = [(_numbers(each.version), each) for each in JETPACKS]
    found = next((each for numbers, each in rows if numbers == tuple(version)), None)
    older = [each for numbers, each in rows if numbers[:2] == tuple(version[:2]) and numbers < tuple(version)]
    if found is None and older and len(version) > 2:
        found = older[-1]
        _log.warning("%s is not in our table: it is taken for JetPack %s, the last before it", text, found.version)
    return found


def _of_l4t(release: tuple[int, ...], text: str) -> JetPack | None:
    if len(release) < 2:  # R36 may be any of JetPack 6
        return None
    found = jetpack_of(release)
    last = max(each.l4t for each in JETPACKS if each.l4t[0] == release[0]) if found else ()
    if found and _numbers(".".join(map(str, release))) > last:
        _log.warning(
            "%s is newer than what our table has: it is taken for JetPack %s, the last known", text, found.version
        )
    return found


def modules_of(model: str) -> tuple[str, ...]:
    """The modules that a device tree's model may be: ("orin-nano",) of "NVIDIA Jetson Orin Nano Developer Kit Super".

    Empty for a model that names none that is known, as those of other makers' boards.
    """
    return _boards_of(model.lower())


def _boards_of(name: str) -> tuple[str, ...]:
    """The boards that a name in lower case may stand for."""
    exact = [each.name for each in BOARDS if each.name == name]
    if exact:
        return tuple(exact)
    for number in sorted(_MODULES, key=len, reverse=True):  # with its variant before without it
        if number in name:
            return _MODULES[number]
    words = {_SAME.get(word, word) for word in re.findall("|".join(_KEYWORDS), name)}
    rest = _NOISE.sub(" ", re.sub("|".join(_KEYWORDS), " ", name))
    if not words or rest.strip():
        return ()
    if words == {"tx2", "nx"}:
        return ("tx2",)
    parts = {each.name: set(each.name.split("-")) for each in BOARDS}
    same = [board for board, its in parts.items() if its == words]
    return tuple(same or [board for board, its in parts.items() if its > words])
