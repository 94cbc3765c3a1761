"""Compares a bundle with its manifest before any program in it is run: python3 -I check.py FOLDER

Use it before the first build: `built/` must not exist. The manifest itself is verified by its signature or by the
sha256 of the archive. Needs only Python.
"""

from __future__ import annotations

import hashlib
import json
import stat
import sys
from pathlib import Path
from typing import Any


def check(folder: Path, files: dict[Path, Any]) -> None:
    """Check every entry below a folder, and remove the correct ones from `files`."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            check(path, files)
        elif not stat.S_ISREG(mode) or path not in files:
            sys.exit(f"Error: {path} is not in the manifest")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != files.pop(path):
            sys.exit(f"Error: {path} was changed or damaged")


def main() -> None:
    """Exit with 0 if all files match the manifest."""
    bundle = Path(sys.argv[1])
    manifest = bundle / "manifest.json"
    try:
        files = {bundle / name: sha256 for name, sha256 in json.loads(manifest.read_bytes().decode())["files"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(f"Error: {manifest} is not a manifest: {error}")
    for path in (manifest, bundle / "manifest.json.sig"):
        if path.is_file() and not path.is_symlink():
            files[path] = hashlib.sha256(path.read_bytes()).hexdigest()
    check(bundle, files)
    for path in sorted(files):
        sys.exit(f"Error: {path} is missing")


if __name__ == "__main__":
    main()
