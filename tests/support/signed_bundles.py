"""Small signed bundles and their archives."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

from tests.onboard.update.update_kills import small_bundle
from trtpoets.core.manifest import MANIFEST, SIGNATURE, write_manifest
from trtpoets.core.signatures import sign_file
from trtpoets.core.types import Precision
from trtpoets.onboard.installed_bundle import Bundle


def signed_bundle(folder: Path, text: str, key: Path | None = None, created: int = 0) -> Bundle:
    """A bundle of a few files, signed where there is a key, which writes `text` where its program is run."""
    small_bundle(folder, text)
    program = folder / "trtpoets"
    program.write_text(program.read_text() + f"echo {text} >> {folder.parent}/ran\n")
    return sealed(folder, key, created)


def sealed(folder: Path, key: Path | None = None, created: int = 0) -> Bundle:
    """Compute the manifest of a folder anew, as anybody can, and sign it where there is a key."""
    for name in (MANIFEST, SIGNATURE):
        (folder / name).unlink(missing_ok=True)
    manifest = write_manifest(
        folder, name="tiny", target="jetson", version="0", model="0" * 64, order=[Precision.FP32], created=created
    )
    if key is not None:
        sign_file(folder / MANIFEST, key)
    return Bundle(folder, manifest, None)  # type: ignore[arg-type]  # no network is asked for


def packed(bundle: Bundle) -> Path:
    archive = bundle.folder.with_name(bundle.folder.name + ".tar")
    subprocess.run(["tar", "-cf", archive, "-C", bundle.folder.parent, bundle.folder.name], check=True)
    return archive


def entry(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[tarfile.TarFile], None]:
    def add(tar: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, link
        tar.addfile(member, io.BytesIO(b""))

    return add
