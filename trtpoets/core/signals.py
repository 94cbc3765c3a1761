"""SIGTERM and SIGHUP end a program as Ctrl-C does: what is finished is kept, and children are ended.

For programs only; a library must not change its caller's signals. A signal that is ignored when the program starts
(nohup: SIGHUP; a shell's job in the background: SIGINT) stays ignored.
"""

from __future__ import annotations

import signal
import time
from typing import Any

_SAME_SECONDS = 5.0
"""Another signal within so many seconds is of the same request: systemd sends SIGTERM and SIGHUP together."""

_received: list[int] = []
_last = [0.0]


def interrupt_on_signals() -> None:
    """From now on SIGTERM and SIGHUP, and SIGINT as before, raise KeyboardInterrupt. Call it in the main thread.

    Signals that an earlier program in this process received are forgotten.
    """
    _received.clear()
    _last[0] = 0.0
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if is_heeded(number):
            signal.signal(number, _interrupt)


def ignore_until_parent_ends() -> None:
    """In a child process: its parent, which gets the same signals from systemd or a terminal, tells it when to end."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def is_heeded(number: int) -> bool:
    """Whether a signal is not ignored."""
    return signal.getsignal(number) is not signal.SIG_IGN


def note(number: int) -> None:
    """A handler of the program's own got this signal."""
    _received.append(number)


def interrupted() -> str:
    """What to say of the signal that ended the work: the beginning of a sentence."""
    if not _received or _received[0] == signal.SIGINT:
        return "interrupted"
    return f"ended by {signal.Signals(_received[0]).name}"


def exit_code(code: int) -> int:
    """The code to exit with instead of `code`: 128 + the signal that was received. A server is ended by Ctrl-C: 0."""
    if not _received or (not code and _received[0] == signal.SIGINT):
        return code
    return 128 + _received[0]


def _interrupt(number: int, _: Any) -> None:
    now = time.monotonic()
    repeated = bool(_received) and number != signal.SIGINT and now - _last[0] < _SAME_SECONDS
    _last[0] = now
    note(number)
    if not repeated:
        raise KeyboardInterrupt
