"""The common end of every bundle: the folder with its manifest, and an archive of it, both whole or not there."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.files import atomic_file, atomic_folder, sha256_of_file, sha256_of_folder
from trtpoets.core.manifest import (
    BUILT,
    MANIFEST,
    SIGNATURE,
    Manifest,
    Target,
    check_manifest,
    extra_files,
    read_manifest,
    write_manifest,
)
from trtpoets.core.optional import needs
from trtpoets.core.signatures import sign_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trtpoets.bundles.bundle_inputs import Parts

_LEVEL = 9
"""Weights hardly shrink, at any level: higher ones only take longer."""

_TIME = 315_532_800
"""The beginning of 1980, for every file: the oldest time that all tools can write."""

PYTHON_CACHES = "pycache-"
"""What the folder of Python's caches in `built/` began with in earlier versions: nobody's work."""

_OTHER = "choose another place: --out FOLDER"


@dataclass(frozen=True)
class Bundle:
    """A bundle as it was written: its folder, and the archive of it, whose sha256 and size in bytes are told.

    `sizes` are those of the files, by path in the folder; `warnings` is what the target can't do of what was asked;
    `next` are the commands to go on with.
    """

    folder: Path
    archive: Path
    archive_sha256: str
    archive_bytes: int
    manifest: Manifest
    sizes: Mapping[str, int]
    warnings: tuple[str, ...]
    next: tuple[str, ...]


def bundle_from_parts(
    parts: Parts,
    target: Target,
    out: Path,
    fill: Callable[[Path], None],
    *,
    jetpack: str = "",
    board: str = "",
    created: Callable[[str], int] = lambda _: 0,
    sign: Path | None = None,
    warnings: tuple[str, ...] = (),
    next_commands: tuple[str, ...] = (),
) -> Bundle:
    """Let `fill` write into an empty folder, add the manifest, pack it: the folder becomes `out`, the archive lies by.

    `created` says of the sha256 of everything but the manifest when it was first bundled. `sign` is the private key of
    ssh's that signs the manifest.

    The archive's bytes follow from the files' names, bytes and executable bits alone, and from the release of zstd,
    which pyproject.toml pins.

    Raises MissingDependency, StorageFailed, BadInput, and what `fill` raises: `out` is then as it was.
    """
    archive = archive_of(out)
    zstandard()
    with atomic_file(archive) as packed, atomic_folder(out) as folder:
        fill(folder)
        manifest = write_manifest(
            folder,
            name=parts.spec.name,
            target=target.value,
            version=parts.version,
            model=parts.model_sha256,
            order=parts.order,
            jetpack=jetpack,
            board=board,
            created=created(sha256_of_folder(folder)),
        )
        if sign is not None:
            sign_file(folder / MANIFEST, sign)
        _pack(folder, root_of(parts.spec.name, target), manifest, packed)
    paths = (MANIFEST, *manifest.files)
    return Bundle(
        folder=out,
        archive=archive,
        archive_sha256=sha256_of_file(archive),
        archive_bytes=archive.stat().st_size,
        manifest=manifest,
        sizes={path: (out / path).stat().st_size for path in paths},
        warnings=warnings,
        next=next_commands,
    )


def root_of(name: str, target: Target) -> str:
    """The folder that an archive unpacks to, wherever it was written."""
    return f"{name}-{target.value}"


def archive_of(out: Path) -> Path:
    """The archive of a bundle: `<out>.tar.zst` beside it."""
    return out.with_name(out.name + ".tar.zst")


def require_replaceable(out: Path, force: bool) -> None:
    """Raise BadInput unless a bundle may be written to `out`: nothing is there, or a bundle as it was written.

    With `force` one that was changed since, or was built in, may go too; what someone else put there never does.
    """
    archive = archive_of(out)
    if archive.is_symlink() or (archive.exists() and not _is_ours(archive)):
        raise BadInput(
            f"{archive} is there, and is no archive of a bundle: it is left as it is", hint=_OTHER, code="TP6001"
        )
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise BadInput(f"{out} is there, and is no folder: it is left as it is", hint=_OTHER, code="TP6002")
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise BadInput(f"{out} is there, and is no bundle: nothing in it is touched", hint=_OTHER, code="TP6003")
    try:
        extra = extra_files(out, read_manifest(out))
    except BadArtefact as error:
        raise BadInput(
            f"{error.message}: nothing in its folder is touched", hint=f"move it, or {_OTHER}", code="TP6004"
        ) from error
    if extra:
        raise BadInput(
            f"{out / extra[0]} is not of the bundle, and would be lost", hint=f"move it, or {_OTHER}", code="TP6005"
        )
    if force:
        return
    try:
        check_manifest(out)
    except BadArtefact as error:
        raise BadInput(
            f"the bundle that is there was changed: {error.message}", hint="replace it: --force", code="TP6006"
        ) from error
    built = (out / BUILT).iterdir() if (out / BUILT).is_dir() else ()
    if any(not path.name.startswith(PYTHON_CACHES) for path in built):
        raise BadInput(
            f"the bundle that is there was built in: {out / BUILT}", hint="replace it: --force", code="TP6007"
        )


def zstandard() -> Any:
    """The package that packs. Raises MissingDependency."""
    with needs("train", reason="packing a bundle"):
        import zstandard as package
    return package


def _pack(folder: Path, root: str, manifest: Manifest, out: Path) -> None:
    """The manifest first, its signature, then every file in the order of names, below `root`."""
    compressor = zstandard().ZstdCompressor(level=_LEVEL, write_checksum=True)
    with (
        out.open("wb") as raw,
        compressor.stream_writer(raw, closefd=False) as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar,
    ):
        signed = [SIGNATURE] if (folder / SIGNATURE).is_file() else []
        for path in (MANIFEST, *signed, *sorted(manifest.files)):
            entry = tarfile.TarInfo(f"{root}/{path}")
            status = (folder / path).stat()
            entry.size, entry.mtime, entry.mode = status.st_size, _TIME, 0o755 if status.st_mode & 0o100 else 0o644
            with (folder / path).open("rb") as content:
                tar.addfile(entry, content)


def _is_ours(archive: Path) -> bool:
    """Whether a file is an archive that `_pack` wrote: its first entry is a manifest."""
    package = zstandard()
    try:
        with (
            archive.open("rb") as raw,
            package.ZstdDecompressor().stream_reader(raw) as stream,
            tarfile.open(fileobj=stream, mode="r|") as tar,
        ):
            first = tar.next()
    except (OSError, tarfile.TarError, package.ZstdError):
        return False
    return first is not None and first.name.partition("/")[2] == MANIFEST
