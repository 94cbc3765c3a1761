"""What several bundles take from this package: folders of the device runtime as they are, and templates to fill."""

from __future__ import annotations

import shutil
import string
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from trtpoets.core.files import write_text
from trtpoets.core.formatting import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trtpoets.bundles.bundle_inputs import Parts


def package_folder() -> Path:
    """Where this package is installed."""
    return Path(str(files("trtpoets")))


def write_runtime(out: Path, version: str, packages: Sequence[str]) -> None:
    """Copy folders of this package ("core", "device", ...) into a package at `out`: .py files alone.

    Raises StorageFailed.
    """
    write_text(out / "__init__.py", f'"""The device runtime of trtpoets."""\n\n__version__ = "{version}"\n')
    for name in packages:
        for source in sorted((package_folder() / name).rglob("*.py")):
            copy = out / source.relative_to(package_folder())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def model_words(parts: Parts) -> dict[str, object]:
    """What every page about a bundle says of its network, for `filled`."""
    spec = parts.spec
    return {
        "name": shown(" ".join(spec.name.splitlines())),
        "backbone": shown(spec.backbone),
        "labels": len(spec.labels),
        "height": spec.preprocess.height,
        "width": spec.preprocess.width,
        "version": parts.version,
        "photos": len(parts.golden.photos),
    }


def copy_template(template: str, folder: Path) -> None:
    """Copy a template, by its path below templates/, as it is; what begins with #! may be run."""
    copy_file(package_folder() / "bundles" / "templates" / template, folder)


def copy_file(source: Path, folder: Path) -> None:
    """Copy a file of this package into a folder; what begins with #! may be run, however this package was installed."""
    copy = folder / source.name
    shutil.copyfile(source, copy)
    if copy.read_bytes().startswith(b"#!"):
        copy.chmod(copy.stat().st_mode | 0o111)


class _Text(string.Template):
    """`@word` is a place to fill; shell and Markdown have no such words."""

    delimiter = "@"


def filled(template: str, **words: object) -> str:
    """A template, by its path below templates/, with every `@word` filled. A word without a value is a KeyError."""
    text = (package_folder() / "bundles" / "templates" / template).read_text(encoding="utf-8")
    return _Text(text).substitute(words)
