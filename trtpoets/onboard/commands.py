"""The commands of a bundle: parse, one call, print. Results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Mapping, Sequence

from trtpoets.core.console import json_text, messages, printable, progress_lines
from trtpoets.core.errors import Interrupted
from trtpoets.core.progress import Progress
from trtpoets.core.signals import interrupted, is_heeded, note
from trtpoets.core.streams import write_message, writing_results
from trtpoets.core.types import Flavour, Precision
from trtpoets.device.build.build_plan import require_possible
from trtpoets.device.build.engine import default_flavour
from trtpoets.device.build.engine_config import EngineConfig, batch_range
from trtpoets.device.doctor import doctor
from trtpoets.device.gpu.gpu_wait import Wait
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.judge.bench.bench_options import bench_config
from trtpoets.judge.bench.speed_gate import require_limits, require_speed
from trtpoets.onboard.bench_command import bench
from trtpoets.onboard.build_command import build, plan_build, require_first
from trtpoets.onboard.bundle_options import parser
from trtpoets.onboard.classify.classify_command import ClassifyConfig, Line, classify
from trtpoets.onboard.classify.sources import source_of
from trtpoets.onboard.install import install, python_outside, require_ready, set_signers
from trtpoets.onboard.installed_bundle import bundle_here, check_bundle_name, runner_in
from trtpoets.onboard.result_lines import (
    bench_lines,
    build_lines,
    count_line,
    finding_lines,
    install_lines,
    plan_lines,
    selftest_lines,
    update_lines,
)
from trtpoets.onboard.selftest import require_passed, selftest
from trtpoets.onboard.update.incoming import incoming
from trtpoets.onboard.update.update_command import Options, recover, rollback, update


def run(words: Sequence[str]) -> int:
    """Carry out one command; returns its exit code. Raises TrtPoetsError; SystemExit for wrong usage and for help."""
    given = parser().parse_args(words)
    with _showing() as progress:
        return _COMMANDS[given.command](given, progress)


@contextmanager
def _showing() -> Iterator[Progress]:
    """Progress and warnings on stderr. Raises Interrupted on Ctrl-C."""

    try:
        with messages(lambda line, _: write_message(line + "\n")):
            yield progress_lines(write_message)
    except KeyboardInterrupt:
        message = f"{interrupted()}; what was finished is kept"
        raise Interrupted(message, hint="the same command goes on from here", code="TP7015") from None


def _show(given: argparse.Namespace, value: Any, lines: Callable[[], Iterator[str]]) -> None:
    """Print a result as one JSON document, or as lines for people."""
    told = json_text(value) if given.json else "\n".join(map(printable, lines()))
    with writing_results():
        sys.stdout.write(told + "\n")


def _install(given: argparse.Namespace, _: Progress) -> int:
    bundle = bundle_here()
    if given.signers is not None:
        set_signers(given.signers, given.root, dry_run=given.dry_run)
    python = python_outside(bundle, given.venv)
    if python is not None:
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - this program, in another Python
    found = install(bundle, venv=given.venv, pip=not given.no_pip, dry_run=given.dry_run)
    _show(given, found, lambda: install_lines(found, given.dry_run))
    require_ready(found)
    return 0


def _doctor(given: argparse.Namespace, _: Progress) -> int:
    found = doctor()
    _show(given, found, lambda: finding_lines((*found.parts, *found.works)))
    return 0


def _build(given: argparse.Namespace, progress: Progress) -> int:
    bundle = bundle_here()
    check_bundle_name(bundle, given.name)
    config = EngineConfig(
        flavour=default_flavour() if given.flavour == "auto" else Flavour(given.flavour),
        batch=batch_range(given.batch),
        workspace_mib=given.workspace,
        optimization_level=given.optimization_level,
        version_compatible=given.version_compatible,
        dla_core=given.dla,
        timeout_seconds=given.timeout,
    )
    precisions = tuple(map(Precision, given.precision or ()))
    if given.dry_run:
        plans = plan_build(bundle, config, precisions)
        _show(given, plans, lambda: plan_lines(plans))
        require_possible(plans)
        return 0
    built = build(bundle, config, precisions, force=given.force, progress=progress)
    # As in a workspace: the engines that were built. What was tried before it is in built/build.json.
    _show(given, [built.engine], lambda: build_lines(built))
    if given.strict:
        require_first(built)
    return 0


def _selftest(given: argparse.Namespace, _: Progress) -> int:
    found = selftest(bundle_here(), runner=given.runner, precision=_precision(given))
    _show(given, found, lambda: selftest_lines(found))
    require_passed(found)
    return 0


def _bench(given: argparse.Namespace, progress: Progress) -> int:
    bundle = bundle_here()
    check_bundle_name(bundle, given.name)
    require_limits(given.fail_below, given.max_p99)
    config = bench_config(
        given.batch,
        given.seconds,
        given.threads,
        scenario=Scenario(given.scenario) if given.scenario else None,
        max_p99=given.max_p99,
        target_qps=given.target_qps,
        loadgen=given.loadgen,
    )
    found = bench(bundle, config, compare=given.compare, progress=progress)
    _show(given, found, lambda: bench_lines(found))
    require_speed(bundle.manifest.name, found, given.fail_below, given.max_p99)
    return 0


def _precision(given: argparse.Namespace) -> Precision | None:
    return Precision(given.precision) if given.precision else None


def _classify(given: argparse.Namespace, progress: Progress) -> int:
    bundle = bundle_here()
    sources = [source_of(word) for word in given.sources]
    config = ClassifyConfig(given.top, given.threshold, given.batch, given.patience, given.frames)
    # The GPU is waited for asleep: a board that looks at a camera all day has better things to do with a core.
    runner, _ = runner_in(bundle, given.runner, _precision(given), Wait.BLOCKING)
    stop, pressed = threading.Event(), threading.Event()

    def interrupt(number: int, _: object) -> None:
        stop.set()
        pressed.set()
        note(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # the second Ctrl-C does not wait

    # systemd and others end a service so, and people: what is under way is answered, and the engine is freed. SIGTERM
    # is how a service is ended, and no failure.
    if is_heeded(signal.SIGTERM):
        signal.signal(signal.SIGTERM, lambda *_: stop.set())

    def tell(line: Line) -> None:
        with writing_results():
            sys.stdout.write(json_text(line, indent=None) + "\n")

    with runner:
        for number in (signal.SIGINT, signal.SIGHUP):
            if is_heeded(number):  # a shell's job in the background is not meant
                signal.signal(number, interrupt)
        count = classify(runner, sources, config, tell, stop)
    write_message(count_line(count))
    if pressed.is_set():
        raise KeyboardInterrupt
    return 1 if count.failed else 0


def _update(given: argparse.Namespace, progress: Progress) -> int:
    options = Options(given.restart, given.health, given.health_seconds, given.strict, given.allow_downgrade)
    with incoming(given.source, given.sha256) as bundle:
        found = update(bundle, given.root, options)
    _show(given, found, lambda: update_lines(found))
    return 0


def _rollback(given: argparse.Namespace, progress: Progress) -> int:
    found = rollback(given.root, given.restart)
    _show(given, found, lambda: update_lines(found))
    return 0


def _recover(given: argparse.Namespace, progress: Progress) -> int:
    found = recover(given.root, given.restart)
    _show(given, found, lambda: update_lines(found))
    return 0


_COMMANDS: Mapping[str, Callable[[argparse.Namespace, Progress], int]] = {
    "install": _install,
    "doctor": _doctor,
    "build": _build,
    "selftest": _selftest,
    "classify": _classify,
    "bench": _bench,
    "update": _update,
    "rollback": _rollback,
    "recover": _recover,
}
