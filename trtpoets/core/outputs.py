"""Whether a file that is asked for can be written, known before the long work that it is the result of."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from trtpoets.core.files import chosen_by, storage_errors


def require_writable(path: Path, option: str) -> None:
    """Raise StorageFailed, which names the `option` that chose `path`, unless a file may be written there.

    Nothing is written: folders that are missing are made when the file is.
    """
    with chosen_by(path.parent, f"{option} FILE"), storage_errors(path):
        if path.exists() and not path.is_file():
            raise OSError(errno.EISDIR if path.is_dir() else errno.EEXIST, "in the way")
        above = next(each for each in path.absolute().parents if each.exists())
        if not above.is_dir():
            raise OSError(errno.ENOTDIR, "no folder")
        if not os.access(above, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "not writable")
