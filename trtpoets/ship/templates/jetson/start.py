"""Starts a command of the runtime beside this file, whatever the current folder holds, if it is whole."""

import hashlib
import json
import sys
from pathlib import Path


def damaged(bundle: Path) -> str:
    """The file of the runtime that is not what the manifest says; empty if there is none. The rest is checked later."""
    try:
        files = json.loads((bundle / "manifest.json").read_bytes())["files"]
        names = [name for name in files if name.startswith("runtime/")]
    except OSError:
        return ""  # the runtime says what is the matter
    except (ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json"
    for name in names:
        path = bundle / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != files[name]:
            return name
    return ""


here = Path(__file__).resolve().parents[1]
found = damaged(here)
if found:
    sys.exit(f"Error: {here / found} was changed or damaged\n  try: copy the bundle here again")

from trtpoets.onboard.__main__ import main  # only now is it known to be whole

main()
