"""Whether this user made an artefact here: an HMAC-SHA256 with a secret key of the user's, kept outside of every run.

A hash tells whether bytes were changed (integrity). Whoever writes an artefact can compute its hash as well, so a hash
does not tell who made it. The HMAC does (authenticity): only who can read the key can compute it. Artefacts that run
code when they are opened (TensorRT engines, SavedModels, Keras files) are opened only where their card has the HMAC of
this user's key, or the user says that they trust the file.
"""

from __future__ import annotations

import errno
import hashlib
import hmac
import logging
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Any

from trtpoets.core.errors import BadArtefact, StorageFailed
from trtpoets.core.paths import data_root
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command, quote
from trtpoets.core.types import hash_of

KEY_VARIABLE = "TRTPOETS_KEY"
"""Names the file of the key, where it is not in the user's data folder."""

_PURPOSE = b"trtpoets card 1\0"
"""Goes into every HMAC, so that one computed for another purpose with the same key is worth nothing here."""

_KEY = re.compile(rb"[0-9a-f]{64}\n?")
_TAG = re.compile(r"[0-9a-f]{64}")

NO_TAG = "its card has no HMAC: an earlier version of trtpoets wrote it, or another program"
OTHER_TAG = "its card has the HMAC of another key: another user or another machine made it, or it was changed"


def key_file() -> Path:
    """Where this user's key is, or will be: $TRTPOETS_KEY, or key in the user's data folder. Raises StorageFailed."""
    chosen = os.environ.get(KEY_VARIABLE)
    return Path(chosen) if chosen else data_root() / "key"


def tag_of(value: Any) -> str:
    """The HMAC (hex) of a JSON value with this user's key, which is made where there is none yet.

    Raises BadArtefact for a key file that can't be used, StorageFailed where none can be written.
    """
    return _tag(_key_in(key_file()) or _new_key(key_file()), value)


def why_not_made_here(value: Any, tag: object) -> str:
    """Why a JSON value with the HMAC `tag` (None: it has none) is not known to be this user's; empty where it is.

    Never makes a key. Raises BadArtefact for a key file that can't be used, StorageFailed.
    """
    if tag is None:
        return NO_TAG
    key = _key_in(key_file())
    good = isinstance(tag, str) and _TAG.fullmatch(tag) and key is not None
    return "" if good and hmac.compare_digest(_tag(key or b"", value), str(tag)) else OTHER_TAG


def require_trusted(path: Path, foreign: str) -> None:
    """Raise BadArtefact for an artefact of a run that is not known to be this user's, for the reason `foreign`."""
    if foreign:
        engines = path.absolute().parent.parent
        shown = DEFAULT_ENGINES if engines == DEFAULT_ENGINES.absolute() else engines
        raise BadArtefact(
            f"{path} may run code when it is opened, and is not known to be made here by you: {foreign}",
            hint=f"if you made it, or trust who did: {command('trust', path.absolute().parent.name, engines=shown)}",
            code="TP1001",
        )


def _tag(key: bytes, value: Any) -> str:
    return hmac.new(key, _PURPOSE + hash_of(value).encode(), hashlib.sha256).hexdigest()


def _key_in(path: Path) -> bytes | None:
    """The key in a file; None where there is no file. Raises BadArtefact, StorageFailed."""
    try:
        # Without O_NONBLOCK a FIFO in the key's place would be waited for without end.
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise BadArtefact(f"the key {path} is a symbolic link", hint=f"rm {quote(path)}", code="TP1002") from error
        raise StorageFailed(
            f"the key {path} can't be read: {os.strerror(error.errno or 0)}",
            hint=f"set {KEY_VARIABLE} to a file of your own",
            code="TP1003",
        ) from error
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise BadArtefact(
                f"the key {path} is no regular file", hint=f"set {KEY_VARIABLE} to a file of your own", code="TP1004"
            )
        if status.st_uid != os.geteuid() and os.geteuid() != 0:
            raise BadArtefact(
                f"the key {path} belongs to another user",
                hint=f"set {KEY_VARIABLE} to a file of your own",
                code="TP1005",
            )
        if status.st_mode & 0o077:
            raise BadArtefact(
                f"other users may read or write the key {path}: it has mode {stat.S_IMODE(status.st_mode):03o}, and "
                "600 was expected; if they may have read it, delete it and build again",
                hint=f"chmod 600 {quote(path)}",
                code="TP1006",
            )
        content = os.read(handle, 80)
    finally:
        os.close(handle)
    if not _KEY.fullmatch(content):
        raise BadArtefact(
            f"{path} is not a key of trtpoets: 64 hexadecimal digits were expected",
            hint=f"rm {quote(path)}",
            code="TP1007",
        )
    return bytes.fromhex(content[:64].decode("ascii"))


def _new_key(path: Path) -> bytes:
    """Make the key in one step: of processes that begin at once, all use that of the first. Raises StorageFailed."""
    part = path.with_name(f".{path.name}.part-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_hex(32).encode("ascii") + b"\n")
                stream.flush()
                _give_to_folder_owner(stream.fileno(), path.parent)
                os.fsync(stream.fileno())
            _place(part, path)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the key that marks what you make can't be written to {path}: {os.strerror(error.errno or 0)}",
            hint=f"set {KEY_VARIABLE} to a file in a folder that you may write to",
            code="TP1008",
        ) from error
    logging.getLogger(__name__).info("made the key %s", path)
    key = _key_in(path)
    if key is None:
        raise StorageFailed(
            f"the key {path} was deleted while it was made", hint="run the command again", code="TP1009"
        )
    return key


def _place(part: Path, path: Path) -> None:
    """Give the new key its name, unless another process was first."""
    try:
        os.link(part, path, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if not os.path.lexists(path):  # a file system without hard links, as exFAT
            part.rename(path)


def _give_to_folder_owner(handle: int, folder: Path) -> None:
    """What root writes into another user's folder is that user's, as a device's updates and its service share one."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(handle, owner.st_uid, owner.st_gid)
