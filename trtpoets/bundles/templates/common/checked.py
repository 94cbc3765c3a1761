"""Checks the code of a bundle against the manifest. The programs run this before they import anything from the bundle.

From then on Ctrl-C ends them in one line, also while numpy is imported. Exits if a code file was changed or is not in
the manifest. selftest.py checks the other files.
"""

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent

CODE = (".py", ".pyc", ".pyd", ".so", ".pth", ".zip", ".egg")
"""Suffixes of files that Python may import or run."""


def _end(number: int, _: object, write: Any = os.write, end: Any = os._exit) -> None:
    """End at once: an exception may be lost in an import, and there is nothing to clean up yet."""
    try:
        write(2, b"Error: interrupted\n")
    finally:
        end(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored in background jobs
    signal.signal(signal.SIGINT, _end)


def check() -> str:
    """Return what is wrong with the code; "" if nothing is."""
    try:
        files = json.loads((HERE / "manifest.json").read_bytes())["files"]
    except OSError as error:
        return f"{HERE}/manifest.json can't be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{HERE}/manifest.json was changed or damaged"
    for folder, folders, names in os.walk(HERE, onerror=_refuse):
        at = Path(folder)
        if at == HERE and "built" in folders:
            folders.remove("built")  # files created on this machine; nothing is imported from there
        for path in map(at.__truediv__, (*names, *(name for name in folders if (at / name).is_symlink()))):
            name = path.relative_to(HERE).as_posix()
            if not (name.endswith(CODE) or name.startswith("runtime/") or path.is_symlink()):
                continue
            if name not in files or path.is_symlink() or not path.is_file():
                return f"{path} is not in the manifest"
            if hashlib.sha256(path.read_bytes()).hexdigest() != files[name]:
                return f"{path} was changed or damaged"
    return ""


def _refuse(error: OSError) -> None:
    raise error


try:
    problem = check()
except OSError as error:
    problem = f"{error.filename} can't be read: {error.strerror}"
if problem:
    sys.exit(f"Error: {problem}\n  try: delete it, or copy the bundle here again")
sys.path.insert(0, str(HERE))
