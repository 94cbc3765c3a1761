"""Formats numbers for people; the page, the tables and the verdict use the same functions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.console import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_ARCHITECTURES = {
    "sm75": "Turing",
    "sm80": "Ampere",
    "sm86": "Ampere",
    "sm87": "Orin",
    "sm89": "Ada",
    "sm90": "Hopper",
    "sm100": "Blackwell",
    "sm120": "Blackwell",
    "sm121": "Blackwell",
}


def percent(share: float | None, digits: int = 1) -> str:
    """A share 0..1 in percent. Only exactly 1 gives 100 %, only exactly 0 gives 0 %."""
    if share is None:
        return "–"
    if share in (0, 1):
        return f"{100 * share:.0f} %"
    text = f"{100 * share:.{digits}f}"
    least = 10.0**-digits
    if float(text) >= 100:
        return f">{100 - least:.{digits}f} %"
    if float(text) <= 0:
        return f"<{least:.{digits}f} %"
    return f"{text} %"


def points(change: float | None) -> str:
    """A difference of shares in percentage points, with its sign."""
    if change is None:
        return "–"
    text = f"{100 * change:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def interval(low: float | None, high: float | None) -> str:
    """An interval of shares in percent."""
    return "–" if low is None or high is None else f"{100 * low:.1f}–{100 * high:.1f} %"


def point_interval(low: float | None, high: float | None) -> str:
    """An interval of differences in percentage points."""
    return "–" if low is None or high is None else f"{points(low)} to {points(high)}"


def milliseconds(value: float | None) -> str:
    """A time in ms with three significant digits; a dash if it is not known."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def seconds(value: float | None) -> str:
    """A duration in s, min or h."""
    if value is None:
        return "–"
    if value < 100:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 6000 else f"{value / 3600:.1f} h"


def size(count: float | None) -> str:
    """A number of bytes in MiB; small ones in KiB or bytes."""
    if count is None:
        return "–"
    if count < 2**10:
        return f"{count:.0f} B"
    return f"{count / 2**20:.1f} MiB" if count >= 0.05 * 2**20 else f"{count / 2**10:.1f} KiB"


def tiny(value: float) -> str:
    """A small number in powers of ten: `3.4 × 10⁻⁷`."""
    mantissa, exponent = f"{value:.1e}".split("e")
    return "0" if value == 0 else f"{mantissa}\u00a0×\u00a010{str(int(exponent)).translate(_SUPERSCRIPTS)}"


def many(count: int, one: str, more: str = "") -> str:
    """`1 photo`, `2 photos`, `1,000 photos`."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def joined(words: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def targets(names: list[str]) -> str:
    """Compute capabilities with the names of their generations: `Ampere and later (sm80+)`."""
    return joined([_target(name) for name in names])


def built_for(names: Sequence[str], capability: str | None) -> str:
    """What an engine was built for: its targets, or else the GPU it was built on."""
    return targets(list(names)) or capability or "this machine's GPU"


def _target(name: str) -> str:
    bare = name.rstrip("+")
    generation = _ARCHITECTURES.get(bare)
    later = " and later" if name.endswith("+") else ""
    return f"{generation}{later} ({name})" if generation else name


def first_names(names: Sequence[str], most: int) -> str:
    """The first `most` names of files, labels or operators, escaped, and how many there are more."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(shown, names[:most])) + more


def shown(text: Any, keep: str = "") -> str:
    """External text with characters that are not printable escaped: see `printable`."""
    return printable(text, keep)
