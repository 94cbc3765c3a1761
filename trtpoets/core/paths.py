"""Paths as users write them, and the folder of what can be computed again."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from pathlib import Path

from trtpoets.core.errors import BadInput, StorageFailed

_log = logging.getLogger(__name__)


def user_path(path: Path | str) -> Path:
    """`path` with a leading ~ or ~user replaced by that home folder. Every path that a user gives comes through here.

    A shell leaves `--engines=~/runs` as it is. Raises BadInput where there is no such user, or no home folder.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return Path(path)
    expanded = os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises RuntimeError, and forgets what for
    if not expanded.startswith("~"):
        return Path(expanded)
    if os.path.lexists(text):
        return Path(path)
    user = text[1:].split("/")[0]
    what = f"there is no user {user!r} here" if user else "HOME is not set, and this user has no home folder"
    raise BadInput(f"can't expand ~ in {text}: {what}", hint="give the path in full, beginning with /", code="TP1055")


def given_path(text: str) -> Path:
    """`user_path` for argparse's `type`: what is wrong becomes an error of usage."""
    from argparse import ArgumentTypeError

    try:
        return user_path(text)
    except BadInput as error:
        raise ArgumentTypeError(error.message) from error


def cache_root() -> Path:
    """The folder of everything that can be computed again: $TRTPOETS_CACHE, or trtpoets in the user's cache folder.

    Where no home folder is known, or the cache folder can't be written, it is a folder of this user's in the temporary
    folder, and a warning says so once. A folder that TRTPOETS_CACHE names is taken as it is. Raises StorageFailed where
    there is no temporary folder either.
    """
    chosen = os.environ.get("TRTPOETS_CACHE")
    if chosen:
        return user_path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = user_path(base) / "trtpoets"
        why = "" if _writable(folder) else f"{folder} can't be written"
    except BadInput:
        why = "there is no home folder"
    if not why:
        return folder
    instead = _temporary_cache()
    if why not in _told:
        _told.add(why)
        _log.warning("%s: the cache is in %s; to keep it elsewhere, set TRTPOETS_CACHE to a folder", why, instead)
    return instead


def data_root() -> Path:
    """The folder of what can't be computed again: trtpoets in the user's data folder ($XDG_DATA_HOME).

    Where no home folder is known, or the data folder can't be written, it is a folder of this user's in the temporary
    folder, and a warning says so once. Raises StorageFailed where neither can be used.
    """
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        folder = user_path(base) / "trtpoets"
        why = "" if _writable(folder) or (folder / "key").is_file() else f"{folder} can't be written"
    except BadInput:
        why = "there is no home folder"
    if not why:
        return folder
    instead = _own_temporary("trtpoets-data")
    if instead is None:
        raise StorageFailed(
            f"{why}, and what is in the temporary folder under the name of yours belongs to another user",
            hint="set TRTPOETS_KEY to a file in a folder that you may write to",
            code="TP1056",
        )
    if why not in _told_data:
        _told_data.add(why)
        _log.warning(
            "%s: the key that marks what you make is in %s, and may be gone tomorrow; to keep it, set TRTPOETS_KEY to "
            "a file in a folder that you may write to",
            why,
            instead,
        )
    return instead


_told: set[str] = set()

_told_data: set[str] = set()


def _writable(folder: Path) -> bool:
    """Whether files can be made in `folder`, or it can be made."""
    there = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path("/"))
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _temporary_cache() -> Path:
    """A folder of this user's alone: a bottleneck that another user could write would be an answer of theirs."""
    try:
        return _own_temporary("trtpoets-cache") or Path(tempfile.mkdtemp(prefix="trtpoets-cache-"))
    except OSError as error:
        raise StorageFailed(
            f"no cache folder can be made in {temporary_root()}: {error.strerror}",
            hint="set TRTPOETS_CACHE to a folder that you may write to",
            code="TP1057",
        ) from error


def _own_temporary(name: str) -> Path | None:
    """`<name>-<user>` in the temporary folder, made if need be; None where what is there may be another user's.

    Raises OSError, and StorageFailed where there is no temporary folder.
    """
    folder = temporary_root() / f"{name}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if own else None


def temporary_root() -> Path:
    """The folder of temporary files; with a warning, once, where it is not the one that TMPDIR names.

    Raises StorageFailed, which names TMPDIR's folder, where none can be written.
    """
    chosen = os.environ.get("TMPDIR", "")
    try:
        root = Path(tempfile.gettempdir())
    except OSError as error:  # none of $TMPDIR, $TEMP, $TMP, /tmp, /var/tmp, /usr/tmp and the current folder
        first = chosen or "/tmp"  # noqa: S108 - told, not used
        raise StorageFailed(
            f"no temporary file can be written: not in {first} ({_why_not(first)}), /var/tmp or the current folder",
            hint="free some space there, or set TMPDIR to a folder that you may write to: export TMPDIR=FOLDER",
            code="TP1058",
        ) from error
    if chosen and root != Path(os.path.abspath(chosen)) and chosen not in _told:  # noqa: PTH100 - links stay
        why = _why_not(chosen)
        if why:  # else it was chosen by the caller's program, or after the first file
            _told.add(chosen)
            _log.warning("TMPDIR is %s, which can't be used (%s): temporary files are in %s", chosen, why, root)
    return root


def _why_not(folder: str) -> str:
    """Why no temporary file can be written in a folder; empty where one can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"x")
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""
