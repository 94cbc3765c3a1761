"""Checks before long work that its output file can be written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from trtpoets.core.files import chosen_by, storage_errors


def require_writable(path: Path, option: str) -> None:
    """Raise StorageFailed, which names the `option` that gave `path`, if no file can be written there.

    Nothing is written: missing folders are created together with the file.
    """
    with chosen_by(path.parent, f"{option} FILE"), storage_errors(path):
        if path.exists() and not path.is_file():
            raise OSError(errno.EISDIR if path.is_dir() else errno.EEXIST, "in the way")
        existing = next(parent for parent in path.absolute().parents if parent.exists())
        if not existing.is_dir():
            raise OSError(errno.ENOTDIR, "not a folder")
        if not os.access(existing, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "not writable")
