"""Kills updates (SIGKILL) at each step in turn, in a separate program.

python -m tests.onboard.update.update_kills FOLDER

A step is any call that changes the disk or starts a program: renames, links, deletions, folders, files opened for
writing, child processes. After each kill `current` must be a working release, and the same update, run again, must
finish. Prints the number of steps of each kind of update. The releases' programs are a few lines of shell.
Python 3.8 can read this file.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from trtpoets.core.errors import GateFailed
from trtpoets.core.manifest import check_manifest, write_manifest
from trtpoets.core.types import Precision
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.update.releases import Releases
from trtpoets.onboard.update.update_command import Options, recover, rollback, update

PROGRAM = """#!/bin/sh
here=$(dirname -- "$(readlink -f -- "$0")")
case "$1" in
build) mkdir -p "$here/built" && : > "$here/built/engine" ;;
selftest) test -e "$here/built/engine" && test ! -e "$here/ill" ;;
esac
"""

STEPS = ("os.rename", "os.symlink", "os.remove", "os.mkdir", "subprocess.Popen", "open")


def small_bundle(folder: Path, word: str, *, ill: bool = False) -> Bundle:
    """Return a bundle of a few small files, whose program has the commands that an update runs."""
    folder.mkdir(parents=True)
    (folder / "trtpoets").write_text(PROGRAM)
    (folder / "trtpoets").chmod(0o755)
    (folder / "word").write_text(word)
    if ill:
        (folder / "ill").write_text("its self-test fails")
    result = write_manifest(
        folder, name="tiny", target="jetson", version="0.1.0", model="0" * 64, order=[Precision.FP32]
    )
    return Bundle(folder, result, None)  # type: ignore[arg-type]  # no network is asked for


def killed_at(step: int, root: Path, work: Callable[[], object]) -> bool:
    """Do the work in a child process that is killed at this step; return whether the work has so many steps."""
    child = os.fork()
    if not child:
        count = 0

        def look(event: str, given: tuple[object, ...]) -> None:
            nonlocal count
            if event not in STEPS or (event == "open" and not _writes(given, root)):
                return
            count += 1
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        code = 0
        try:
            work()
        except GateFailed:
            code = 3
        except BaseException as error:  # noqa: BLE001 - printed; the parent sees the exit code
            sys.stderr.write(f"step {step}: {error!r}\n")
            code = 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    assert os.WEXITSTATUS(status) in (0, 3), f"step {step} ended with {os.WEXITSTATUS(status)}"
    return False


def _writes(given: tuple[object, ...], root: Path) -> bool:
    path, _, flags = given
    return isinstance(flags, int) and bool(flags & (os.O_WRONLY | os.O_RDWR)) and str(path).startswith(str(root))


def works(root: Path) -> str:
    """Check that the current release is complete and has an engine; return its word."""
    current = root / "current"
    check_manifest(current.resolve())
    assert (current / "built" / "engine").exists(), "the current release has no engine"
    assert not (root / "current" / "ill").exists() or (root / "update.json").exists(), (
        "a release that fails its self-test was confirmed"
    )
    return (current / "word").read_text()


def sweep(folder: Path, start: Callable[[Path], None], work: Callable[[Path], object], ends: str) -> int:
    """Kill the work at every step, and require that it ends with the release `ends` then; return the step count."""
    step = 0
    while True:
        step += 1
        root = folder / f"root-{step}"
        start(root)
        killed = killed_at(step, root, partial(work, root))
        works(root)
        if killed:
            assert not killed_at(0, root, partial(work, root)), "nothing kills step 0"
        assert works(root) == ends, f"step {step} ended with {works(root)}, not {ends}"
        assert not list(root.glob(".*part*")) and not list((root / "releases").glob(".*part*"))
        assert not (root / "update.json").exists()
        shutil.rmtree(root)
        if not killed:
            return step - 1


def main() -> None:
    """Sweep an update that succeeds, one whose health check fails, a rollback, and the recovery of a switch at boot."""
    folder = Path(sys.argv[1])
    old, new = small_bundle(folder / "old", "old"), small_bundle(folder / "new", "new")
    healthy, failing = Options(health_seconds=0), Options(health="false", health_seconds=0)

    def first(root: Path) -> None:
        root.mkdir()
        update(old, root, healthy)

    def both(root: Path) -> None:
        first(root)
        update(new, root, healthy)

    def tried(root: Path) -> None:
        try:
            update(new, root, failing)
        except GateFailed:
            assert works(root) == "old"
            raise

    def cut_short(root: Path) -> None:
        both(root)
        releases = Releases(root)
        with releases.writing():
            releases.switch(releases.previous)

    values = {
        "update": sweep(folder, first, lambda root: update(new, root, healthy), "new"),
        "failing update": sweep(folder, first, tried, "old"),
        "rollback": sweep(folder, both, rollback, "old"),
        "recover": sweep(folder, cut_short, recover, "old"),
    }
    sys.stdout.write(json.dumps(values) + "\n")


if __name__ == "__main__":
    main()
