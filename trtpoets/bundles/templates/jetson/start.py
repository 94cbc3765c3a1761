"""Starts a command of the runtime beside this file, once every file of the runtime was checked."""

import sys

# Python puts this folder first on its path: a hashlib.py that somebody left here would be run by the imports below.
sys.path[:] = [entry for entry in sys.path if entry not in ("", ".", __file__.rpartition("/")[0])]
sys.dont_write_bytecode = True  # compiled files in the runtime would be files that nobody checked

import os

_HERE = os.path.realpath(__file__).rpartition("/")[0]
# Other ways that lead here: PYTHONPATH, links.
sys.path[:] = [entry for entry in sys.path if not (os.path.realpath(entry) + "/").startswith(_HERE + "/")]

import hashlib
import json
import stat
from pathlib import Path

RUNTIME = Path(_HERE)
BUNDLE = RUNTIME.parent


class Problem(Exception):
    """What is wrong with the runtime."""


def check() -> str:
    """Hold the runtime against the manifest; the rest of the bundle is checked later. Raises Problem, OSError.

    Returns a hash of the whole runtime.
    """
    try:
        files = json.loads((BUNDLE / "manifest.json").read_bytes())["files"]
        wanted = {BUNDLE / name: files[name] for name in files if name.startswith("runtime/")}
    except OSError as error:
        raise Problem(f"{BUNDLE} is no bundle: its manifest.json can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Problem(f"{BUNDLE}/manifest.json was changed or damaged") from error
    names = json.dumps(sorted((str(path.relative_to(BUNDLE)), sha256) for path, sha256 in wanted.items()))
    check_folder(RUNTIME, wanted)
    for path in sorted(wanted):
        raise Problem(f"{path} is missing")
    return hashlib.sha256(names.encode()).hexdigest()


def check_folder(folder: Path, wanted: "dict[Path, str]") -> None:
    """Check the files below a folder, links not followed, and take those that are right out of `wanted`."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            check_folder(path, wanted)
        elif path not in wanted:
            raise Problem(f"{path} is not in the manifest")
        elif not stat.S_ISREG(mode):
            raise Problem(f"{path} is no regular file")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != wanted.pop(path):
            raise Problem(f"{path} was changed or damaged")


def keep_compiled(runtime: str) -> None:
    """Let Python keep what it compiles where this user alone can write, as it runs that without a look at the source.

    Each runtime has its own folder: by time and size, of which all files of an archive have the first in common, Python
    would take one's for another's.
    """
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - no home is no error
    folder = Path(os.environ.get("TRTPOETS_CACHE") or f"{base}/trtpoets", "python", runtime[:16])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o022:
        sys.pycache_prefix = os.environ["PYTHONPYCACHEPREFIX"] = str(folder)
        sys.dont_write_bytecode = False
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


try:
    checked = check()
except (Problem, OSError) as error:
    sys.exit(f"Error: {error}\n  try: copy the bundle here again")

# Only now may it be imported, here and in the processes that it starts.
keep_compiled(checked)
sys.path.insert(0, _HERE)
os.environ["PYTHONPATH"] = os.pathsep.join([_HERE, *filter(None, [os.environ.get("PYTHONPATH")])])

from trtpoets.onboard.__main__ import main

main()
