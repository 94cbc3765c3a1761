"""Opens the bundle of an update, a folder or an archive, without running anything in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Iterator

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import storage_errors, temporary_folder
from trtpoets.core.manifest import BUILT, MANIFEST
from trtpoets.core.reading import NotReadable, open_regular, read_errors
from trtpoets.onboard.installed_bundle import Bundle, bundle_here, open_bundle

_BLOCK = 1 << 20
_REDO_HINT = "copy the archive again, and compare its sha256 with the output of trtpoets bundle"


@contextmanager
def incoming(source: Path | None, sha256: str | None) -> Iterator[Bundle]:
    """Yield the checked bundle at `source`, a folder or a .tar; if it is None, the bundle of this program.

    An archive must have the given `sha256` and is unpacked into a temporary folder.
    Raises BadInput, MissingArtefact, BadArtefact, StorageFailed.
    """
    if sha256 is not None and (source is None or source.is_dir()):
        raise BadInput("--sha256 needs an archive", hint="add --from FILE.tar", code="TP7035")
    if source is None:
        yield bundle_here()
        return
    if source.is_dir():
        yield open_bundle(source.resolve())
        return
    with temporary_folder() as folder:
        with storage_errors(folder):
            unpacked = _unpacked(source, sha256, folder)
        yield open_bundle(unpacked)


def _unpacked(archive: Path, sha256: str | None, into: Path) -> Path:
    """Unpack an archive and return the folder of the bundle in it."""
    hint = "give a folder, or a .tar"
    with read_errors(BadInput, archive, hint=hint, code="TP7037"):
        try:
            opened = open_regular(archive)
        except NotReadable as error:
            raise BadInput(f"{archive} is not a file or folder", hint=hint, code="TP7036") from error
    with opened as stream:
        if sha256 is not None:
            _require_hash(stream, archive, sha256)
        try:
            with tarfile.open(fileobj=stream, mode="r|") as tar:
                return _extract(tar, archive, into)
        except (tarfile.TarError, EOFError) as error:
            raise BadArtefact(
                f"{archive} is not an archive of a bundle, or damaged: {error}", hint=_REDO_HINT, code="TP7039"
            ) from error


def _require_hash(stream: IO[bytes], archive: Path, sha256: str) -> None:
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise BadInput(
            f"{sha256!r} is not a sha256",
            hint="give its 64 hexadecimal digits, as trtpoets bundle prints them",
            code="TP7040",
        )
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(_BLOCK), b""):
        digest.update(block)
    if digest.hexdigest() != sha256.lower():
        raise BadArtefact(
            f"{archive} has the sha256 {digest.hexdigest()}, but {sha256} was expected", hint=_REDO_HINT, code="TP7041"
        )
    stream.seek(0)


def _extract(tar: tarfile.TarFile, archive: Path, into: Path) -> Path:
    """Write the regular files of an archive, all of which must be in one folder."""
    top = ""
    for entry in tar:
        parts = PurePosixPath(entry.name).parts
        first, inside = parts[:1], parts[1:]
        top = top or "".join(first)
        if entry.isdir():
            continue
        plain = (
            entry.isreg() and not entry.issparse() and inside and ".." not in parts and not entry.name.startswith("/")
        )
        if not plain or first != (top,) or inside[0] == BUILT:
            raise BadArtefact(f"{archive} contains {entry.name!r}, which no bundle has", hint=_REDO_HINT, code="TP7042")
        path = into.joinpath(*parts)
        path.parent.mkdir(parents=True, exist_ok=True)
        content = tar.extractfile(entry)
        assert content is not None
        mode = 0o755 if entry.mode & 0o100 else 0o644
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
        with os.fdopen(handle, "wb") as out:
            shutil.copyfileobj(content, out, _BLOCK)
    if not top or not (into / top / MANIFEST).is_file():
        raise BadArtefact(f"{archive} contains no bundle", hint=_REDO_HINT, code="TP7043")
    return into / top
