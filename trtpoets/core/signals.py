"""Makes SIGTERM and SIGHUP end a program like Ctrl-C: finished results are kept and child processes are ended.

For programs only; a library must not change the signal handlers of its caller. A signal that is ignored when the
program starts (nohup: SIGHUP; a background job of a shell: SIGINT) stays ignored.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

_SAME_SECONDS = 5.0
"""Signals within this time count as one request: systemd sends SIGTERM and SIGHUP together."""

_received: list[int] = []
_last = [0.0]
_deferring = [0]
_is_due = [False]


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
    _is_due[0] = False
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        if is_not_ignored(number):
            signal.signal(number, _interrupt)


@contextmanager
def deferring_interrupts() -> Iterator[None]:
    """Raise the KeyboardInterrupt of a signal at the end of the context instead of within it. Contexts can be nested.

    A second signal raises it at once: what is deferred may wait for a terminal that takes no more text.
    For short work of the main thread that must not be left half-done; in other threads nothing is raised anyway.
    """
    defer_interrupts()
    try:
        yield
    finally:
        raise_deferred_interrupt()


def defer_interrupts() -> None:
    """Begin what `raise_deferred_interrupt` ends: see `deferring_interrupts`."""
    if threading.current_thread() is threading.main_thread():
        _deferring[0] += 1


def raise_deferred_interrupt() -> None:
    """End what `defer_interrupts` began. Raises KeyboardInterrupt if a signal arrived meanwhile."""
    if threading.current_thread() is not threading.main_thread():
        return
    _deferring[0] -= 1
    if _is_due[0] and not _deferring[0]:
        _is_due[0] = False
        raise KeyboardInterrupt


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
    if repeated:
        return
    if _deferring[0] and not _is_due[0]:
        _is_due[0] = True
        return
    _is_due[0] = False
    raise KeyboardInterrupt


def _exit(number: int, _: Any) -> None:
    try:
        os.write(2, b"Error: interrupted\n")
    finally:
        os._exit(128 + number)
