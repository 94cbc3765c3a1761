"""Run by the programs of a bundle before they import anything of it: all of its code is as the manifest says.

Ends the program where a file of code was changed, or is not in the manifest. Data is checked by selftest.py.
"""

import hashlib
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent

CODE = (".py", ".pyc", ".pyd", ".so", ".pth", ".zip", ".egg")
"""What Python may import or run."""


def check() -> str:
    """What is wrong with the code; empty if nothing is."""
    try:
        files = json.loads((HERE / "manifest.json").read_bytes())["files"]
    except OSError as error:
        return f"{HERE}/manifest.json can't be read: {error.strerror}"
    except (ValueError, KeyError, TypeError):
        return f"{HERE}/manifest.json was changed or damaged"
    for folder, folders, names in os.walk(HERE, onerror=_refuse):
        at = Path(folder)
        if at == HERE and "built" in folders:
            folders.remove("built")  # what this machine made; nothing is imported from there
        for path in map(at.__truediv__, (*names, *(each for each in folders if (at / each).is_symlink()))):
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
    wrong = check()
except OSError as error:
    wrong = f"{error.filename} can't be read: {error.strerror}"
if wrong:
    sys.exit(f"Error: {wrong}\n  try: delete it, or copy the bundle here again")
sys.path.insert(0, str(HERE))
