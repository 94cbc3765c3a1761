"""Makes SIGTERM and SIGHUP end a program like Ctrl-C: finished results are kept and child processes are ended.

For programs only; a library must not change the signal handlers of its caller. A signal that is ignored when the
program starts (nohup: SIGHUP; a background job of a shell: SIGINT) stays ignored.
"""

from __future__ import annotations

import os
import signal
import time
from typing import Any

_SAME_SECONDS = 5.0
"""Signals within this time count as one request: systemd sends SIGTERM and SIGHUP together."""

_received: list[int] = []
_last = [0.0]


def exit_on_ctrl_c() -> None:
    """End the process with one line at SIGINT, until `interrupt_on_signals` replaces this.

    For the time in which modules are imported: an exception may be lost in an import, and there is nothing to clean up
    yet. The programs of bundles that check files before they import any of them have a copy of this function.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored in background jobs
        signal.signal(signal.SIGINT, _exit)


def interrupt_on_signals() -> None:
    """Make SIGTERM, SIGHUP and SIGINT raise KeyboardInterrupt. Call it in the main thread.

    Signals that were recorded earlier in this process are discarded.
    """
    _received.clear()
    _last[0] = 0.0
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if is_not_ignored(number):
            signal.signal(number, _interrupt)


def ignore_until_parent_ends() -> None:
    """Ignore SIGTERM and SIGHUP in a child process: its parent receives the same signals and ends the child."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def is_not_ignored(number: int) -> bool:
    """Whether a signal is not ignored."""
    return signal.getsignal(number) is not signal.SIG_IGN


def record_signal(number: int) -> None:
    """Record a signal that the program's own handler received."""
    _received.append(number)


def is_interrupted() -> bool:
    """Whether a signal was received."""
    return bool(_received)


def interrupted() -> str:
    """Beginning of the message about the signal that ended the work: "interrupted" or "ended by SIGTERM"."""
    if not _received or _received[0] == signal.SIGINT:
        return "interrupted"
    return f"ended by {signal.Signals(_received[0]).name}"


def exit_code(code: int) -> int:
    """128 + the number of the received signal, else `code`. A server that Ctrl-C ended without an error keeps 0."""
    if not _received or (not code and _received[0] == signal.SIGINT):
        return code
    return 128 + _received[0]


def _interrupt(number: int, _: Any) -> None:
    now = time.monotonic()
    repeated = bool(_received) and number != signal.SIGINT and now - _last[0] < _SAME_SECONDS
    _last[0] = now
    record_signal(number)
    if not repeated:
        raise KeyboardInterrupt


def _exit(number: int, _: Any) -> None:
    try:
        os.write(2, b"Error: interrupted\n")
    finally:
        os._exit(128 + number)
