"""Writes the folder of a bundle with its manifest, and an archive of it. Both are written atomically."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

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
from trtpoets.core.signatures import sign_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trtpoets.bundles.bundle_inputs import BundleInputs

_TIME = 315_532_800
"""The modification time of every file: the beginning of 1980, the oldest time that all tools support."""

PYTHON_CACHES = "pycache-"
"""Prefix of Python cache folders in `built/` in earlier versions; they may be deleted."""

_OTHER = "choose another place with --out FOLDER"


@dataclass(frozen=True)
class BundleResult:
    """A bundle that was written: its folder and its archive.

    `sizes` maps each path in the folder to its size in bytes; `warnings` are those about the target; `next` are the
    commands to run next.
    """

    folder: Path
    archive: Path
    archive_sha256: str
    archive_bytes: int
    manifest: Manifest
    sizes: Mapping[str, int]
    warnings: tuple[str, ...]
    next: tuple[str, ...]


def write_bundle(
    inputs: BundleInputs,
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
) -> BundleResult:
    """Write a bundle: the folder `out`, filled by `fill` and completed with a manifest, and an archive next to it.

    `created` maps the sha256 of all files except the manifest to the time of the first such bundle, in seconds since
    1970. `sign` is the SSH private key that signs the manifest.

    The archive is not compressed, because weights hardly compress and every device can unpack a plain tar file. Its
    bytes depend only on the names, bytes and executable bits of the files.

    Raises StorageFailed, BadInput, and what `fill` raises; `out` is then unchanged.
    """
    archive = archive_of(out)
    with atomic_file(archive) as packed, atomic_folder(out) as folder:
        fill(folder)
        manifest = write_manifest(
            folder,
            name=inputs.spec.name,
            target=target.value,
            version=inputs.version,
            model=inputs.model_sha256,
            order=inputs.order,
            jetpack=jetpack,
            board=board,
            created=created(sha256_of_folder(folder)),
        )
        if sign is not None:
            sign_file(folder / MANIFEST, sign)
        _pack(folder, root_of(inputs.spec.name, target), manifest, packed)
    paths = (MANIFEST, *manifest.files)
    return BundleResult(
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
    """Return the name of the folder that an archive unpacks to."""
    return f"{name}-{target.value}"


def archive_of(out: Path) -> Path:
    """Return the path of the archive of a bundle: `<out>.tar`."""
    return out.with_name(out.name + ".tar")


def require_replaceable(out: Path, force: bool) -> None:
    """Raise BadInput unless a bundle may be written to `out`: it does not exist, is empty, or is an unchanged bundle.

    With `force`, a bundle that was changed or that contains built engines may be replaced too. Other files are never
    replaced.
    """
    archive = archive_of(out)
    if archive.is_symlink() or (archive.exists() and not _is_bundle_archive(archive)):
        raise BadInput(
            f"{archive} exists and is not the archive of a bundle; it is not replaced", hint=_OTHER, code="TP6001"
        )
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        raise BadInput(f"{out} exists and is not a folder; it is not replaced", hint=_OTHER, code="TP6002")
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file():
        raise BadInput(f"{out} exists and is not a bundle; it is not replaced", hint=_OTHER, code="TP6003")
    try:
        extra = extra_files(out, read_manifest(out))
    except BadArtefact as error:
        raise BadInput(
            f"{error.message}; its folder is not replaced", hint=f"move it, or {_OTHER}", code="TP6004"
        ) from error
    if extra:
        raise BadInput(
            f"{out / extra[0]} is not part of the bundle and would be deleted",
            hint=f"move it, or {_OTHER}",
            code="TP6005",
        )
    if force:
        return
    try:
        check_manifest(out)
    except BadArtefact as error:
        raise BadInput(
            f"the existing bundle was changed: {error.message}", hint="replace it with --force", code="TP6006"
        ) from error
    built = (out / BUILT).iterdir() if (out / BUILT).is_dir() else ()
    if any(not path.name.startswith(PYTHON_CACHES) for path in built):
        raise BadInput(
            f"the existing bundle contains built engines: {out / BUILT}", hint="replace it with --force", code="TP6007"
        )


def _pack(folder: Path, root: str, manifest: Manifest, out: Path) -> None:
    """Write the archive: the manifest, its signature, then every file sorted by name, all below the folder `root`."""
    with (
        out.open("wb") as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT, encoding="utf-8") as tar,
    ):
        signed = [SIGNATURE] if (folder / SIGNATURE).is_file() else []
        for path in (MANIFEST, *signed, *sorted(manifest.files)):
            entry = tarfile.TarInfo(f"{root}/{path}")
            status = (folder / path).stat()
            entry.size, entry.mtime, entry.mode = status.st_size, _TIME, 0o755 if status.st_mode & 0o100 else 0o644
            with (folder / path).open("rb") as content:
                tar.addfile(entry, content)


def _is_bundle_archive(archive: Path) -> bool:
    """Whether a file is an archive written by `_pack`: its first entry is a manifest."""
    try:
        with archive.open("rb") as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            first = tar.next()
    except (OSError, tarfile.TarError):
        return False
    return first is not None and first.name.partition("/")[2] == MANIFEST
