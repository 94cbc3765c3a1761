"""The `update`, `rollback` and `recover` commands: build and test a new bundle, switch to it, go back if it fails.

If an update is killed at any point, `current` still works, and the next run finishes or undoes it (releases.py).
"""

from __future__ import annotations

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Iterable

from trtpoets.core.child_environment import child_environment
from trtpoets.core.errors import BadArtefact, BadInput, BuildFailed, GateFailed, MissingArtefact
from trtpoets.core.manifest import read_manifest
from trtpoets.core.shell_commands import quote
from trtpoets.onboard.installed_bundle import Bundle
from trtpoets.onboard.update.releases import Releases, Switch

log = logging.getLogger(__name__)

_BETWEEN_SECONDS = 1.0
"""Seconds between two health checks of a starting service."""

_MIN_SECONDS = 5.0
"""Shortest time limit of a health check."""

_LIBC = ctypes.CDLL(None)

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True)
class Options:
    """The options of an update. `restart` and `health` are shell commands, which must exit with 0.

    Without `health` the self-test of the release is the health check. The check may fail for `health_seconds`, because
    services take time to start. `strict` refuses a release whose engine does not have the first precision. `downgrade`
    accepts a bundle that is older than the current one.
    """

    restart: str | None = None
    health: str | None = None
    health_seconds: float = 60.0
    strict: bool = False
    downgrade: bool = False


@dataclass(frozen=True)
class Updated:
    """The current and the previous release, whether they changed, and the deleted releases."""

    current: str
    previous: str
    changed: bool
    pruned: tuple[str, ...] = ()


def update(bundle: Bundle, root: Path, options: Options = Options()) -> Updated:
    """Make `bundle` the current release of `root`: copy it, build, self-test, switch, restart, check its health.

    Before the switch, the running release is not changed. If the health check fails, the device goes back to the
    previous release. An interrupted update is finished or undone first. A bundle that is already current is not
    changed.

    No program of the bundle is run before its files, its age and (if the device requires one) its signature are
    checked.

    Raises BadArtefact for a bundle that was changed or is not signed by an allowed key; BadInput for one that is older
    than the current one; Busy while another update runs; BuildFailed or GateFailed if the new release can't be built or
    fails its self-test; GateFailed after going back; StorageFailed.
    """
    releases = Releases(root)
    with releases.writing():
        releases.require_signed(bundle.folder)
        _require_not_older(releases, bundle, options)
        _settle(releases, options)
        if releases.current == releases.name_of(bundle) and _answers(releases, "selftest") == 0:
            return Updated(releases.current, releases.previous, changed=False)
        release = releases.add(bundle)
        _build_and_test(releases, release, options.strict)
        if releases.current == release:  # the current release was repaired
            return Updated(release, releases.previous, changed=False)
        switch = releases.switch(release)
        if not _healthy(releases, options):
            _go_back(releases, switch, options)
            raise GateFailed(
                f"{release} failed its health check after the switch; {switch.since or 'nothing'} is current again",
                hint=f"show its result: {quote(releases.path(release) / 'selftest')}",
                code="TP7048",
            )
        releases.settle()
        return Updated(release, switch.since, changed=True, pruned=releases.prune())


def rollback(root: Path, restart: str | None = None) -> Updated:
    """Go back to the previous release, after its self-test. Raises MissingArtefact, GateFailed, Busy."""
    releases, options = Releases(root), Options(restart)
    with releases.writing():
        finished = _settle(releases, options)
        if finished is not None and finished.to == finished.previous == releases.current:
            return Updated(releases.current, releases.previous, changed=True)  # this rollback was interrupted before
        release = releases.require(releases.previous, "previous")
        _build_and_test(releases, release, strict=False)
        switch = releases.switch(release)
        _restart(options)
        releases.settle()
        return Updated(release, switch.since, changed=True)


def recover(root: Path, restart: str | None = None) -> Updated:
    """Finish an interrupted update if the current release passes its self-test, else undo it; for use at boot.

    Does nothing without an interrupted update. Raises MissingArtefact if there is no current release, Busy.
    """
    releases = Releases(root)
    with releases.writing():
        changed = _settle(releases, Options(restart, health_seconds=0)) is not None
        releases.require(releases.current, "current")
        return Updated(releases.current, releases.previous, changed)


def _require_not_older(releases: Releases, bundle: Bundle, options: Options) -> None:
    """Raise BadInput for a downgrade: an old bundle may have problems that newer ones fix."""
    if options.downgrade or not releases.current:
        return
    try:
        current = read_manifest(releases.path(releases.current))
    except (MissingArtefact, BadArtefact) as error:
        log.warning("the age of the current release is unknown: %s", error.message)
        return
    if bundle.manifest.created < current.created:
        back = [f"{releases.root}/current/trtpoets", "rollback", "--root", str(releases.root)]
        raise BadInput(
            f"this bundle was made {_when(bundle.manifest.created)}, but the current one {_when(current.created)}",
            hint="to accept it, add --allow-downgrade; to go back to the previous one: " + " ".join(map(quote, back)),
            code="TP7049",
        )


def _when(created: int) -> str:
    """A time of creation as text, in UTC."""
    return time.strftime("on %Y-%m-%d at %H:%M:%S UTC", time.gmtime(created)) if created else "by an earlier trtpoets"


def _settle(releases: Releases, options: Options) -> Switch | None:
    """Finish or undo an interrupted switch, and return it; None if there was none."""
    switch = releases.unsettled()
    if switch is None:
        return None
    log.warning("the switch to %s was interrupted: checking its health", switch.to)
    if _healthy(releases, options):
        releases.settle()
    else:
        _go_back(releases, switch, options)
        log.warning("%s is not healthy: %s is current again", switch.to, switch.since or "nothing")
    return switch


def _build_and_test(releases: Releases, release: str, strict: bool) -> None:
    """Build and self-test a release with its own programs. Raises BuildFailed or GateFailed."""
    for command in (["build", "--strict"] if strict else ["build"], ["selftest"]):
        code = _run([str(releases.path(release) / "trtpoets"), *command])
        if not code:
            continue
        hint = (
            "fix the problem and update again; copied and built files are kept"
            if releases.venv.exists()
            else f"create the device's environment: {releases.path(release)}/install --venv {releases.venv}"
        )
        current = releases.current or "nothing"
        if code == GateFailed.exit_code:
            raise GateFailed(
                f"{release} does not meet the limits on this device: {' '.join(command)} failed with code {code}, see "
                f"above; {current} is still current",
                hint=hint,
                code="TP7050",
            )
        raise BuildFailed(
            f"{release} can't be used on this device: {' '.join(command)} failed with code {code}, see above; "
            f"{current} is still current",
            hint=hint,
            code="TP7051",
        )


def _healthy(releases: Releases, options: Options) -> bool:
    """Restart the service and check its health until it is healthy or the time limit is reached."""
    _restart(options)
    end = time.monotonic() + options.health_seconds
    while True:
        if options.health is None:
            code = _answers(releases, "selftest")
        else:
            code = _run(["/bin/sh", "-c", options.health], max(end - time.monotonic(), _MIN_SECONDS))
        if not code:
            return True
        if options.health is None or time.monotonic() >= end:  # repeating a self-test gives the same result
            return False
        time.sleep(_BETWEEN_SECONDS)


def _go_back(releases: Releases, switch: Switch, options: Options) -> None:
    releases.undo(switch)
    _restart(options)


def _restart(options: Options) -> None:
    """Run the restart command. A failure is only logged: the health check decides."""
    if options.restart is not None:
        code = _run(["/bin/sh", "-c", options.restart])
        if code:
            log.warning("the restart command failed with code %d: %s", code, options.restart)


def _answers(releases: Releases, command: str) -> int:
    return _run([str(releases.root / "current" / "trtpoets"), command])


def _run(command: list[str], seconds: float | None = None) -> int:
    """Run a program with its output on stderr. It is ended with this process, even if this process is killed.

    Returns its exit code, or 124 if it exceeded `seconds` and was ended with its child processes.
    """
    log.info("$ %s", " ".join(map(quote, command)))
    sys.stderr.flush()
    # Signals are blocked until the program is started, so that their handlers can end it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        # The process has no threads, so preexec_fn is safe.
        begin = partial(_end_with_parent, mask)
        started = subprocess.Popen(
            command,
            stdout=2,
            env=child_environment(),
            start_new_session=True,
            preexec_fn=begin,  # noqa: PLW1509
        )
        with started as running:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                return running.wait(seconds)
            except BaseException as error:
                os.killpg(running.pid, signal.SIGKILL)
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                log.warning("%s took longer than %g s", command[-1], seconds)
                return 124
    except OSError as error:
        log.warning("%s can't be started: %s", command[0], error.strerror)
        return 127
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _end_with_parent(mask: Iterable[int]) -> None:
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    _LIBC.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
