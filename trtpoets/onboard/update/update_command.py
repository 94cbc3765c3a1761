"""A new bundle beside the old one: built, proven, switched to in one step, and back again if it fails.

Killed anywhere, a device keeps a `current` that works, and the next run goes on from there (releases.py).
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
"""Between two looks at the health of a service that is starting."""

_LEAST_SECONDS = 5.0
"""A look at the health takes its time too, even the last one."""

_LIBC = ctypes.CDLL(None)

_DIE_WITH_PARENT = 1
"""PR_SET_PDEATHSIG of prctl(2)."""


@dataclass(frozen=True)
class Options:
    """How a service takes up a new release, and how its health is told: shell commands, which must end with 0.

    Without `health` the release's own self-test tells. It may fail for `health_seconds`, since services take time to
    start. With `strict` a release whose engine is not of the first precision is no release. `downgrade` takes a bundle
    that is older than the one that runs.
    """

    restart: str | None = None
    health: str | None = None
    health_seconds: float = 60.0
    strict: bool = False
    downgrade: bool = False


@dataclass(frozen=True)
class Updated:
    """What runs now, what ran before, whether that changed, and which releases were deleted."""

    current: str
    previous: str
    changed: bool
    pruned: tuple[str, ...] = ()


def update(bundle: Bundle, root: Path, options: Options = Options()) -> Updated:
    """Make `bundle` the current release of `root`: copy it in, build, self-test, switch, restart, look at its health.

    Until the switch nothing that runs is touched. Where its health fails, the device goes back to what ran before. An
    update that was cut short is finished or undone first. A bundle that is current already is left as it is.

    No program of the bundle is run before its files, its age and, where the device asks for one, its signature were
    checked.

    Raises BadArtefact for a bundle that was changed, or not signed by an allowed signer; BadInput for one that is older
    than what runs; Busy while another update runs; BuildFailed or GateFailed where the new release can't be built or
    does not answer as it should; GateFailed after going back; StorageFailed.
    """
    releases = Releases(root)
    with releases.writing():
        releases.require_signed(bundle.folder)
        _require_not_older(releases, bundle, options)
        _settle(releases, options)
        if releases.current == releases.name_of(bundle) and _answers(releases, "selftest") == 0:
            return Updated(releases.current, releases.previous, changed=False)
        release = releases.add(bundle)
        _prove(releases, release, options.strict)
        if releases.current == release:  # it was mended where it lies
            return Updated(release, releases.previous, changed=False)
        switch = releases.switch(release)
        if not _healthy(releases, options):
            _go_back(releases, switch, options)
            raise GateFailed(
                f"{release} failed its health check after the switch, and {switch.since or 'nothing'} is current again",
                hint=f"see what it says: {quote(releases.path(release) / 'selftest')}",
                code="TP7048",
            )
        releases.settle()
        return Updated(release, switch.since, changed=True, pruned=releases.prune())


def rollback(root: Path, restart: str | None = None) -> Updated:
    """Go back to the release that ran before, after its self-test. Raises MissingArtefact, GateFailed, Busy."""
    releases, options = Releases(root), Options(restart)
    with releases.writing():
        finished = _settle(releases, options)
        if finished is not None and finished.to == finished.previous == releases.current:
            return Updated(
                releases.current, releases.previous, changed=True
            )  # it was this going back that was cut short
        release = releases.require(releases.previous, "previous")
        _prove(releases, release, strict=False)
        switch = releases.switch(release)
        _restart(options)
        releases.settle()
        return Updated(release, switch.since, changed=True)


def recover(root: Path, restart: str | None = None) -> Updated:
    """Finish an update that was cut short if what is current answers as it should, else undo it; for boot.

    Does nothing where none was cut short. Raises MissingArtefact where nothing is current, Busy.
    """
    releases = Releases(root)
    with releases.writing():
        changed = _settle(releases, Options(restart, health_seconds=0)) is not None
        releases.require(releases.current, "current")
        return Updated(releases.current, releases.previous, changed)


def _require_not_older(releases: Releases, bundle: Bundle, options: Options) -> None:
    """Raise BadInput for a downgrade: old bundles have the flaws that newer ones were made for."""
    if options.downgrade or not releases.current:
        return
    try:
        current = read_manifest(releases.path(releases.current))
    except (MissingArtefact, BadArtefact) as error:
        log.warning("how old the current release is can't be told: %s", error.message)
        return
    if bundle.manifest.created < current.created:
        back = [f"{releases.root}/current/trtpoets", "rollback", "--root", str(releases.root)]
        raise BadInput(
            f"this bundle was made {_when(bundle.manifest.created)}, and the one that runs {_when(current.created)}",
            hint="to take it all the same, add --allow-downgrade; to go back to the one before: "
            + " ".join(map(quote, back)),
            code="TP7049",
        )


def _when(created: int) -> str:
    """In words; without a zone, as a device may have any."""
    return time.strftime("on %Y-%m-%d at %H:%M:%S UTC", time.gmtime(created)) if created else "by an earlier trtpoets"


def _settle(releases: Releases, options: Options) -> Switch | None:
    """Finish or undo a switch that was cut short. Returns it, if there was one."""
    switch = releases.unsettled()
    if switch is None:
        return None
    log.warning("the switch to %s was cut short: looking at its health", switch.to)
    if _healthy(releases, options):
        releases.settle()
    else:
        _go_back(releases, switch, options)
        log.warning("%s is not healthy: %s is current again", switch.to, switch.since or "nothing")
    return switch


def _prove(releases: Releases, release: str, strict: bool) -> None:
    """Build a release and test it where it lies, by its own programs. Raises BuildFailed or GateFailed."""
    for command in (["build", "--strict"] if strict else ["build"], ["selftest"]):
        code = _run([str(releases.path(release) / "trtpoets"), *command])
        if code:
            kind = GateFailed if code == GateFailed.exit_code else BuildFailed
            raise kind(
                f"{release} can't be used here: {' '.join(command)} ended with code {code}, for the reason above; "
                f"{releases.current or 'nothing'} is current as before",
                hint="mend that, and update again: what was copied and built is kept"
                if releases.venv.exists()
                else f"has this device its environment? {releases.path(release)}/install --venv {releases.venv}",
            )


def _healthy(releases: Releases, options: Options) -> bool:
    """Restart the service, and look until it is well, or the time is up."""
    _restart(options)
    end = time.monotonic() + options.health_seconds
    while True:
        if options.health is None:
            code = _answers(releases, "selftest")
        else:
            code = _run(["/bin/sh", "-c", options.health], max(end - time.monotonic(), _LEAST_SECONDS))
        if not code:
            return True
        if options.health is None or time.monotonic() >= end:  # a self-test does not get better with time
            return False
        time.sleep(_BETWEEN_SECONDS)


def _go_back(releases: Releases, switch: Switch, options: Options) -> None:
    releases.undo(switch)
    _restart(options)


def _restart(options: Options) -> None:
    """What the restart makes of it shows in the health."""
    if options.restart is not None:
        code = _run(["/bin/sh", "-c", options.restart])
        if code:
            log.warning("the restart ended with code %d: %s", code, options.restart)


def _answers(releases: Releases, command: str) -> int:
    return _run([str(releases.root / "current" / "trtpoets"), command])


def _run(command: list[str], seconds: float | None = None) -> int:
    """Run a program, its words on stderr; it ends when this one does, even if this one is killed.

    Returns its exit code; 124 where it took longer than `seconds`, and was ended with all that it had started.
    """
    log.info("$ %s", " ".join(map(quote, command)))
    sys.stderr.flush()
    # A signal that comes while the program starts has to find it, to end it.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
    try:
        # An updater has no threads, so what runs between fork and exec is safe.
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
