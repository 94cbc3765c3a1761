"""Checks every file of the runtime next to this file, then starts its command."""

import sys

# Python adds this folder to sys.path: without this, the imports below would run a hashlib.py placed here.
sys.path[:] = [entry for entry in sys.path if entry not in ("", ".", __file__.rpartition("/")[0])]
sys.dont_write_bytecode = True  # compiled files in the runtime would not be in the manifest

import os

_HERE = os.path.realpath(__file__).rpartition("/")[0]
# Remove other entries for this folder, from PYTHONPATH or through links.
sys.path[:] = [entry for entry in sys.path if not (os.path.realpath(entry) + "/").startswith(_HERE + "/")]

import hashlib
import json
import signal
import stat
from pathlib import Path
from typing import Any

RUNTIME = Path(_HERE)
BUNDLE = RUNTIME.parent


def _end(number: int, _: object, write: Any = os.write, end: Any = os._exit) -> None:
    """End at once: an exception may be lost in an import, and there is nothing to clean up yet."""
    try:
        write(2, b"Error: interrupted\n")
    finally:
        end(128 + number)


if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored in background jobs
    signal.signal(signal.SIGINT, _end)


class RuntimeChanged(Exception):
    """The runtime does not match the manifest."""


def check() -> str:
    """Check the runtime against the manifest and return a hash of it. Raises RuntimeChanged, OSError.

    The other files of the bundle are checked later.
    """
    try:
        files = json.loads((BUNDLE / "manifest.json").read_bytes())["files"]
        expected = {BUNDLE / name: files[name] for name in files if name.startswith("runtime/")}
    except OSError as error:
        raise RuntimeChanged(f"{BUNDLE} is not a bundle: its manifest.json can't be read: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RuntimeChanged(f"{BUNDLE}/manifest.json was changed or damaged") from error
    names = json.dumps(sorted((str(path.relative_to(BUNDLE)), sha256) for path, sha256 in expected.items()))
    check_folder(RUNTIME, expected)
    for path in sorted(expected):
        raise RuntimeChanged(f"{path} is missing")
    return hashlib.sha256(names.encode()).hexdigest()


def check_folder(folder: Path, expected: "dict[Path, str]") -> None:
    """Check the files below a folder and remove them from `expected`. Links are not followed. Raises RuntimeChanged."""
    for path in sorted(folder.iterdir()):
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode):
            check_folder(path, expected)
        elif path not in expected:
            raise RuntimeChanged(f"{path} is not in the manifest")
        elif not stat.S_ISREG(mode):
            raise RuntimeChanged(f"{path} is not a regular file")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != expected.pop(path):
            raise RuntimeChanged(f"{path} was changed or damaged")


def keep_compiled(runtime: str) -> None:
    """Let Python cache compiled files in a folder that only this user can write to.

    Python runs cached files without reading the source. Each runtime has its own folder, because Python identifies a
    source by time and size, and all files of an archive have the same time.
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
    runtime_hash = check()
except (RuntimeChanged, OSError) as error:
    sys.exit(f"Error: {error}\n  try: copy the bundle here again")

# The runtime is checked, so it may be imported, in this process and its child processes.
keep_compiled(runtime_hash)
sys.path.insert(0, _HERE)
os.environ["PYTHONPATH"] = os.pathsep.join([_HERE, *filter(None, [os.environ.get("PYTHONPATH")])])

from trtpoets.onboard.__main__ import main

main()
