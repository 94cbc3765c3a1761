"""Expands paths from the command line, and finds the cache, data and temporary folders."""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from pathlib import Path

from trtpoets.core.errors import BadInput, StorageFailed

_log = logging.getLogger(__name__)


def user_path(path: Path | str) -> Path:
    """`path` with a leading ~ or ~user replaced by the home folder. Apply it to every path that a user gives.

    Shells do not expand `--engines=~/runs`. Raises BadInput if there is no such user or no home folder.
    """
    text = os.fspath(path)
    if not text.startswith("~"):
        return Path(path)
    expanded = os.path.expanduser(text)  # noqa: PTH111 - the error of Path.expanduser does not name the path
    if not expanded.startswith("~"):
        return Path(expanded)
    if os.path.lexists(text):
        return Path(path)
    user = text[1:].split("/")[0]
    what = f"there is no user {user!r} here" if user else "HOME is not set, and this user has no home folder"
    raise BadInput(f"can't expand ~ in {text}: {what}", hint="give the path in full, beginning with /", code="TP1055")


def path_argument(text: str) -> Path:
    """`user_path` as argparse's `type`: an invalid path is a usage error."""
    from argparse import ArgumentTypeError

    try:
        return user_path(text)
    except BadInput as error:
        raise ArgumentTypeError(error.message) from error


def cache_root() -> Path:
    """The folder of cached files: $TRTPOETS_CACHE, or `trtpoets` in the user's cache folder ($XDG_CACHE_HOME).

    Without a home folder, or if the cache folder is not writable, it is a private folder in the temporary folder, with
    one warning. A folder given by TRTPOETS_CACHE is not checked. Raises StorageFailed if there is no temporary folder
    either.
    """
    chosen = os.environ.get("TRTPOETS_CACHE")
    if chosen:
        return user_path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    try:
        folder = user_path(base) / "trtpoets"
        problem = "" if _writable(folder) else f"{folder} can't be written"
    except BadInput:
        problem = "there is no home folder"
    if not problem:
        return folder
    fallback = _temporary_cache()
    if problem not in _warned:
        _warned.add(problem)
        _log.warning("%s: the cache is in %s; to keep it elsewhere, set TRTPOETS_CACHE to a folder", problem, fallback)
    return fallback


def data_root() -> Path:
    """The folder of the user's key: `trtpoets` in the user's data folder ($XDG_DATA_HOME).

    Without a home folder, or if the data folder is not writable, it is a private folder in the temporary folder, with
    one warning. Raises StorageFailed if neither can be used.
    """
    base = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    try:
        folder = user_path(base) / "trtpoets"
        problem = "" if _writable(folder) or (folder / "key").is_file() else f"{folder} can't be written"
    except BadInput:
        problem = "there is no home folder"
    if not problem:
        return folder
    fallback = _own_temporary("trtpoets-data")
    if fallback is None:
        raise StorageFailed(
            f"{problem}, and the fallback folder in the temporary folder belongs to another user",
            hint="set TRTPOETS_KEY to a file in a folder that you may write to",
            code="TP1056",
        )
    if problem not in _warned_data:
        _warned_data.add(problem)
        _log.warning(
            "%s: the key that signs your artefacts is in %s, which may be deleted; to keep it, set TRTPOETS_KEY to "
            "a file in a folder that you may write to",
            problem,
            fallback,
        )
    return fallback


_warned: set[str] = set()

_warned_data: set[str] = set()


def _writable(folder: Path) -> bool:
    """Whether files can be created in `folder`, or the folder can be created."""
    existing = next((path for path in (folder, *folder.parents) if os.path.lexists(path)), Path("/"))
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def _temporary_cache() -> Path:
    """A private folder: another user must not be able to change cached bottlenecks."""
    try:
        return _own_temporary("trtpoets-cache") or Path(tempfile.mkdtemp(prefix="trtpoets-cache-"))
    except OSError as error:
        raise StorageFailed(
            f"no cache folder can be created in {temporary_root()}: {error.strerror}",
            hint="set TRTPOETS_CACHE to a folder that you may write to",
            code="TP1057",
        ) from error


def _own_temporary(name: str) -> Path | None:
    """`<name>-<uid>` in the temporary folder, created if needed; None if another user owns it or may write to it.

    Raises OSError, StorageFailed if there is no temporary folder.
    """
    folder = temporary_root() / f"{name}-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    status = folder.lstat()
    own = stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    return folder if own else None


def temporary_root() -> Path:
    """The folder of temporary files. Warns once if it is not the one given by TMPDIR.

    Raises StorageFailed, which names TMPDIR's folder, if no folder is writable.
    """
    chosen = os.environ.get("TMPDIR", "")
    try:
        root = Path(tempfile.gettempdir())
    except OSError as error:  # none of $TMPDIR, $TEMP, $TMP, /tmp, /var/tmp, /usr/tmp and the current folder
        first = chosen or "/tmp"  # noqa: S108 - only named in the message
        raise StorageFailed(
            f"no temporary file can be written: not in {first} ({_why_not(first)}), /var/tmp or the working folder",
            hint="free some space there, or set TMPDIR to a folder that you may write to: export TMPDIR=FOLDER",
            code="TP1058",
        ) from error
    if chosen and root != Path(os.path.abspath(chosen)) and chosen not in _warned:  # noqa: PTH100 - links stay
        problem = _why_not(chosen)
        if problem:  # else the program chose another folder, or set TMPDIR after the first temporary file
            _warned.add(chosen)
            _log.warning("TMPDIR is %s, which can't be used (%s): temporary files are in %s", chosen, problem, root)
    return root


def _why_not(folder: str) -> str:
    """Why no temporary file can be written in a folder; empty if one can."""
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"x")
    except OSError as error:
        return os.strerror(error.errno or 0)
    return ""
