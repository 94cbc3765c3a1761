"""Copies parts of this package into bundles: subpackages of the device runtime, and templates."""

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

    from trtpoets.bundles.bundle_inputs import BundleInputs


def package_folder() -> Path:
    """Return the folder where this package is installed."""
    return Path(str(files("trtpoets")))


def write_runtime(out: Path, version: str, packages: Sequence[str]) -> None:
    """Copy the .py files of subpackages ("core", "device", ...) into a package at `out`.

    Raises StorageFailed.
    """
    write_text(out / "__init__.py", f'"""The device runtime of trtpoets."""\n\n__version__ = "{version}"\n')
    for name in packages:
        for source in sorted((package_folder() / name).rglob("*.py")):
            copy = out / source.relative_to(package_folder())
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, copy)


def model_words(inputs: BundleInputs) -> dict[str, object]:
    """Return the placeholders for `filled` that describe the network."""
    spec = inputs.spec
    return {
        "name": shown(" ".join(spec.name.splitlines())),
        "backbone": shown(spec.backbone),
        "labels": len(spec.labels),
        "height": spec.preprocess.height,
        "width": spec.preprocess.width,
        "version": inputs.version,
        "photos": len(inputs.golden.photos),
    }


def copy_template(template: str, folder: Path) -> None:
    """Copy a template, given by its path in templates/, without filling it. Files with #! become executable."""
    copy_file(package_folder() / "bundles" / "templates" / template, folder)


def copy_file(source: Path, folder: Path) -> None:
    """Copy a file of this package into a folder. Files with #! become executable, even if they are not here."""
    copy = folder / source.name
    shutil.copyfile(source, copy)
    if copy.read_bytes().startswith(b"#!"):
        copy.chmod(copy.stat().st_mode | 0o111)


class _Text(string.Template):
    """A string template with `@name` placeholders, which do not collide with shell or Markdown syntax."""

    delimiter = "@"


def filled(template: str, **words: object) -> str:
    """Return a template, given by its path in templates/, with every `@name` replaced. Raises KeyError."""
    text = (package_folder() / "bundles" / "templates" / template).read_text(encoding="utf-8")
    return _Text(text).substitute(words)
