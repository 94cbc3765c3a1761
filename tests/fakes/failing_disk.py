"""Simulates failing disks: a system call fails for paths below a folder with a chosen error.

Stands for disks and network file systems that return these error numbers; it has not been compared with real ones.
"""

from __future__ import annotations

import errno
import fcntl
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ERRORS = (
    *(errno.EIO, errno.ENOTSUP, errno.ESTALE, errno.EROFS, errno.EACCES, errno.ENOLCK, errno.EDQUOT, errno.ENOSPC),
    *(errno.EINVAL, errno.EXDEV, errno.ETIMEDOUT),
)

BY_PATH: dict[str, ModuleType] = {
    **dict.fromkeys(
        (
            *("open", "mkdir", "rename", "replace", "unlink", "remove", "rmdir", "chmod", "utime", "symlink"),
            *("readlink", "listdir", "scandir", "stat", "lstat", "statvfs"),
        ),
        os,
    ),
    "io.open": io,
}

BY_DESCRIPTOR: dict[str, ModuleType] = {
    **dict.fromkeys(("fsync", "fchmod", "ftruncate", "write", "pwrite", "pread", "fstat"), os),
    "flock": fcntl,
}

CALLS = (*BY_PATH, *BY_DESCRIPTOR)


@contextmanager
def failing(call: str, number: int, below: Path, counts: list[int] | None = None) -> Iterator[None]:
    """Inside, the call fails with the error for paths below a folder, and for every descriptor.

    `counts`, one number, is decremented by each of these calls: only the call that makes it 0 fails.
    """
    module = {**BY_PATH, **BY_DESCRIPTOR}[call]
    name = call.rpartition(".")[2]
    real: Callable[..., Any] = getattr(module, name)

    def fails(*given: Any, **more: Any) -> Any:
        meant = call in BY_DESCRIPTOR or _is_below(given, more, below)
        if meant and counts is not None:
            counts[0] -= 1
            meant = counts[0] == 0
        if not meant:
            return real(*given, **more)
        if call in BY_PATH:
            raise OSError(number, os.strerror(number), str(given[0]))
        raise OSError(number, os.strerror(number))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, name, fails)
        yield


def _is_below(given: tuple[Any, ...], more: dict[str, Any], below: Path) -> bool:
    if more.get("dir_fd") is not None or more.get("src_dir_fd") is not None:
        return True
    if not given:
        return False
    if isinstance(given[0], int):
        return True
    return str(os.fsdecode(given[0])).startswith(str(below))
