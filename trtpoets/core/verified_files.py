"""Results of reading a file, kept for the length of one command: a file is hashed and checked once.

A result is kept for a file as it is: by its device, inode, size and times of change. A file that changed is read again,
and so is one that changed a moment ago: the clock of some file systems cannot tell two changes in a moment apart.
"""

from __future__ import annotations

import stat
import time
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Callable, Iterator, Tuple, TypeVar

_T = TypeVar("_T")

Stamp = Tuple[int, int, int, int, int]
"""The state of a file: device, inode, size, times of change."""

_MOMENT_NS = 50_000_000
"""Longer than the coarsest tick of a Linux kernel's clock, 10 ms; in nanoseconds."""

_results: ContextVar[dict[tuple[str, str, Stamp], object] | None] = ContextVar("results", default=None)
_kept: ContextVar[dict[str, object] | None] = ContextVar("kept", default=None)


@contextmanager
def verifying_once() -> Iterator[None]:
    """Keep the results of `once` until the block ends; a block inside a block shares those of the outer one."""
    if _results.get() is not None:
        yield
        return
    token, kept = _results.set({}), _kept.set({})
    try:
        yield
    finally:
        _results.reset(token)
        _kept.reset(kept)


def once(what: str, path: Path, work: Callable[[], _T]) -> _T:
    """Return `work()`, which reads the file `path`, or what it gave before for the same file in this block.

    Only immutable results may be kept. What `work` raises is not kept.
    """
    results, before = _results.get(), stamp_of(path)
    if results is None or before is None:
        return work()
    key = (what, str(path), before)
    if key not in results:
        value = work()
        if stamp_of(path) != before:  # it changed while it was read
            return value
        results[key] = value
    return results[key]  # type: ignore[return-value] # put there by a call with this `what`


def kept_in_block(name: str, make: Callable[[], _T]) -> _T | None:
    """Return the object `name` that lives as long as the block, made by `make` on first use; None outside a block.

    Threads that a block starts are outside of it.
    """
    kept = _kept.get()
    if kept is None:
        return None
    if name not in kept:
        kept[name] = make()
    return kept[name]  # type: ignore[return-value] # made by a call with this `name`


def checked_once(what: str, path: Path, read: Callable[[], _T], check: Callable[[_T], None]) -> _T:
    """Return `read()`, which reads the file `path`, after `check` of it; a file that was checked is not checked again.

    The file is read each time, so that what is returned is what is there now. Raises as `read` and `check` do.
    """
    results, before = _results.get(), stamp_of(path)
    value = read()
    if results is None or before is None or stamp_of(path) != before:
        check(value)
        return value
    key = (what, str(path), before)
    if key not in results:
        check(value)
        results[key] = True
    return value


def stamp_of(path: Path, settled_ns: int | None = None) -> Stamp | None:
    """What tells a file from any other, and from itself before a change; None where that is not certain.

    That is the case for what is not a regular file, and for a file that changed less than `settled_ns` ago, by default
    a moment.
    """
    try:
        status = path.stat()
    except OSError:
        return None
    changed = max(status.st_mtime_ns, status.st_ctime_ns)
    settled_ns = _MOMENT_NS if settled_ns is None else settled_ns
    if not stat.S_ISREG(status.st_mode) or abs(time.time_ns() - changed) < settled_ns:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
