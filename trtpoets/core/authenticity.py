"""Checks that this user made an artefact on this machine, by an HMAC-SHA256 with the user's secret key.

A hash shows whether bytes were changed (integrity). Anyone who writes an artefact can compute its hash, so a hash does
not show who made it. The HMAC does (authenticity): it can be computed only with the key, which is kept outside every
run. Artefacts that run code when they are opened (TensorRT engines, SavedModels, Keras files) are opened only if their
card has an HMAC with this user's key, or if the user has marked them as trusted.
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

from trtpoets.core.errors import BadArtefact, StorageFailed
from trtpoets.core.paths import data_root
from trtpoets.core.shell_commands import DEFAULT_ENGINES, command, quote

KEY_VARIABLE = "TRTPOETS_KEY"
"""Environment variable with the path of the key file. Default: `key` in the user's data folder."""

_PURPOSE = b"trtpoets card 1\0"
"""Prefix of every HMAC's message, so that an HMAC computed for another purpose with the same key is not valid here."""

_KEY = re.compile(rb"[0-9a-f]{64}\n?")
_TAG = re.compile(r"[0-9a-f]{64}")

NO_HMAC = "its card has no HMAC: an earlier version of trtpoets wrote it, or another program"
OTHER_HMAC = "its card has the HMAC of another key: another user or another machine made it, or it was changed"


def key_file() -> Path:
    """Path of this user's key file, which may not exist yet. Raises StorageFailed if there is no data folder."""
    chosen = os.environ.get(KEY_VARIABLE)
    return Path(chosen) if chosen else data_root() / "key"


def hmac_of(digest: str) -> str:
    """The HMAC (hex) of a JSON value, given by its `hash_of`, with this user's key. Creates the key if there is none.

    Raises BadArtefact for an invalid key file, StorageFailed if no key can be written.
    """
    return _tag(_key_in(key_file()) or _new_key(key_file()), digest)


def why_foreign(digest: str, tag: object) -> str:
    """Why the HMAC `tag` does not prove that this user wrote a JSON value; empty if it does. `tag` is None if absent.

    `digest` is the `hash_of` of the value. Never creates a key. Raises BadArtefact for an invalid key file,
    StorageFailed.
    """
    if tag is None:
        return NO_HMAC
    key = _key_in(key_file())
    valid = isinstance(tag, str) and _TAG.fullmatch(tag) and key is not None
    return "" if valid and hmac.compare_digest(_tag(key or b"", digest), str(tag)) else OTHER_HMAC


def require_trusted(path: Path, foreign: str) -> None:
    """Raise BadArtefact for an artefact of a run unless `foreign`, the reason not to trust it, is empty."""
    if foreign:
        engines = path.absolute().parent.parent
        shown = DEFAULT_ENGINES if engines == DEFAULT_ENGINES.absolute() else engines
        raise BadArtefact(
            f"{path} may run code when it is opened, and there is no proof that you made it on this machine: {foreign}",
            hint=f"if you made it or trust its author: {command('trust', path.absolute().parent.name, engines=shown)}",
            code="TP1001",
        )


def _tag(key: bytes, digest: str) -> str:
    return hmac.new(key, _PURPOSE + digest.encode(), hashlib.sha256).hexdigest()


def _key_in(path: Path) -> bytes | None:
    """The key in a file; None if there is no file. Raises BadArtefact, StorageFailed."""
    try:
        # Without O_NONBLOCK, opening a FIFO at this path would block for ever.
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
                f"the key {path} is not a regular file", hint=f"set {KEY_VARIABLE} to a file of your own", code="TP1004"
            )
        if status.st_uid != os.geteuid() and os.geteuid() != 0:
            raise BadArtefact(
                f"the key {path} belongs to another user",
                hint=f"set {KEY_VARIABLE} to a file of your own",
                code="TP1005",
            )
        if status.st_mode & 0o077:
            raise BadArtefact(
                f"other users may read or write the key {path}: it has mode {stat.S_IMODE(status.st_mode):03o}, "
                "mode 600 was expected; if another user may have read it, delete it and build again",
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
    """Create the key atomically: processes that start at the same time all use the first key. Raises StorageFailed."""
    temporary = path.with_name(f".{path.name}.part-{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(secrets.token_hex(32).encode("ascii") + b"\n")
                stream.flush()
                _give_to_folder_owner(stream.fileno(), path.parent)
                os.fsync(stream.fileno())
            _place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise StorageFailed(
            f"the key that signs your artefacts can't be written to {path}: {os.strerror(error.errno or 0)}",
            hint=f"set {KEY_VARIABLE} to a file in a folder that you may write to",
            code="TP1008",
        ) from error
    logging.getLogger(__name__).info("created the key %s", path)
    key = _key_in(path)
    if key is None:
        raise StorageFailed(
            f"the key {path} was deleted while it was created", hint="run the command again", code="TP1009"
        )
    return key


def _place(temporary: Path, path: Path) -> None:
    """Rename the new key to its final name, unless another process has created one."""
    try:
        os.link(temporary, path, follow_symlinks=False)
    except FileExistsError:
        return
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        if not os.path.lexists(path):  # a file system without hard links, such as exFAT
            temporary.rename(path)


def _give_to_folder_owner(handle: int, folder: Path) -> None:
    """If root created the file, give it to the folder's owner: on a device, updates and the service share the key."""
    owner = folder.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(handle, owner.st_uid, owner.st_gid)
