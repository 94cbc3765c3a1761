"""Runs the commands of a bundle. It writes results to stdout, and messages and progress to stderr.

Each command imports its own modules: on a small device, importing all of them takes longer than some commands run.
"""

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
from trtpoets.core.signals import interrupted, is_not_ignored, record_signal
from trtpoets.core.streams import write_message, writing_results
from trtpoets.core.types import Flavour, Precision
from trtpoets.onboard.bundle_options import parser
from trtpoets.onboard.installed_bundle import bundle_here, check_bundle_name, runner_in


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code. Raises TrtPoetsError; SystemExit for usage errors and --help."""
    options = parser().parse_args(arguments)
    with _messages_on_stderr() as progress:
        return _COMMANDS[options.command](options, progress)


@contextmanager
def _messages_on_stderr() -> Iterator[Progress]:
    """Within the context, write log messages to stderr; yields a callback that writes progress there.

    Raises Interrupted on Ctrl-C.
    """
    try:
        with messages(lambda line, _: write_message(line + "\n")):
            yield progress_lines(write_message)
    except KeyboardInterrupt:
        message = f"{interrupted()}; finished results are kept"
        raise Interrupted(message, hint="run the same command again", code="TP7015") from None


def _show(options: argparse.Namespace, value: Any, lines: Callable[[], Iterator[str]]) -> None:
    """Print a result as one JSON document, or as lines for people."""
    text = json_text(value) if options.json else "\n".join(map(printable, lines()))
    with writing_results():
        sys.stdout.write(text + "\n")


def _install(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.onboard.install import install, python_outside, require_ready, set_signers
    from trtpoets.onboard.result_lines import install_lines

    bundle = bundle_here()
    if options.signers is not None:
        set_signers(options.signers, options.root, dry_run=options.dry_run)
    python = python_outside(bundle, options.venv)
    if python is not None:
        os.execv(python, [str(python), *sys.argv])  # noqa: S606 - this program, in another Python
    installation = install(bundle, venv=options.venv, pip=not options.no_pip, dry_run=options.dry_run)
    _show(options, installation, lambda: install_lines(installation, options.dry_run))
    require_ready(installation)
    return 0


def _doctor(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.device.doctor import doctor
    from trtpoets.onboard.result_lines import finding_lines

    diagnosis = doctor()
    _show(options, diagnosis, lambda: finding_lines((*diagnosis.parts, *diagnosis.works)))
    return 0


def _build(options: argparse.Namespace, progress: Progress) -> int:
    from trtpoets.device.build.build_plan import require_possible
    from trtpoets.device.build.engine import default_flavour
    from trtpoets.device.build.engine_config import EngineConfig, batch_for, batch_range
    from trtpoets.onboard.build_command import build, plan_build, require_first
    from trtpoets.onboard.result_lines import build_lines, plan_lines

    bundle = bundle_here()
    check_bundle_name(bundle, options.name)
    precisions = tuple(map(Precision, options.precision or ()))
    first = bundle.onnx((*precisions, *bundle.manifest.order)[0])
    config = EngineConfig(
        flavour=default_flavour() if options.flavour == "auto" else Flavour(options.flavour),
        batch=batch_for(first, None if options.batch is None else batch_range(options.batch)),
        workspace_mib=options.workspace,
        optimization_level=options.optimization_level,
        version_compatible=options.version_compatible,
        dla_core=options.dla,
        timeout_seconds=options.timeout,
    )
    if options.dry_run:
        plans = plan_build(bundle, config, precisions)
        _show(options, plans, lambda: plan_lines(plans))
        require_possible(plans)
        return 0
    built = build(bundle, config, precisions, force=options.force, progress=progress)
    # As in trtpoets build: a list of engines. The failed attempts are in built/build.json.
    _show(options, [built.engine], lambda: build_lines(built))
    if options.strict:
        require_first(built)
    return 0


def _selftest(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.onboard.result_lines import selftest_lines
    from trtpoets.onboard.selftest import require_passed, selftest

    result = selftest(bundle_here(), runner=options.runner, precision=_precision(options))
    _show(options, result, lambda: selftest_lines(result))
    require_passed(result)
    return 0


def _bench(options: argparse.Namespace, progress: Progress) -> int:
    from trtpoets.judge.bench.bench_config import Scenario
    from trtpoets.judge.bench.bench_options import bench_config
    from trtpoets.judge.bench.speed_gate import require_limits, require_speed
    from trtpoets.onboard.bench_command import bench
    from trtpoets.onboard.result_lines import bench_lines

    bundle = bundle_here()
    check_bundle_name(bundle, options.name)
    require_limits(options.fail_below, options.max_p99)
    config = bench_config(
        options.batch,
        options.seconds,
        options.threads,
        scenario=Scenario(options.scenario) if options.scenario else None,
        max_p99=options.max_p99,
        target_qps=options.target_qps,
        loadgen=options.loadgen,
    )
    details = bench(bundle, config, compare=options.compare, progress=progress)
    _show(options, details, lambda: bench_lines(details))
    require_speed(bundle.manifest.name, details, options.fail_below, options.max_p99)
    return 0


def _precision(options: argparse.Namespace) -> Precision | None:
    return Precision(options.precision) if options.precision else None


def _classify(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.device.gpu.gpu_wait import Wait
    from trtpoets.onboard.classify.classify_command import ClassifyConfig, Line, classify
    from trtpoets.onboard.classify.sources import source_of
    from trtpoets.onboard.result_lines import count_line

    bundle = bundle_here()
    sources = [source_of(word) for word in options.sources]
    config = ClassifyConfig(options.top, options.threshold, options.batch, options.patience, options.frames)
    # BLOCKING leaves the CPU cores free while the GPU works.
    runner = runner_in(bundle, options.runner, _precision(options), Wait.BLOCKING)[0]

    stop, interruption = threading.Event(), threading.Event()
    _stop_on_sigterm(stop)

    def report(line: Line) -> None:
        with writing_results():
            sys.stdout.write(json_text(line, indent=None) + "\n")

    with runner:
        _stop_on_interruption(stop, interruption)
        count = classify(runner, sources, config, report, stop)
    write_message(count_line(count))
    if interruption.is_set():
        raise KeyboardInterrupt
    return 1 if count.failed else 0


def _stop_on_sigterm(stop: threading.Event) -> None:
    """Set `stop` on SIGTERM, which ends a service: it is not an error.

    The current photo is still classified, and the engine is freed.
    """
    if is_not_ignored(signal.SIGTERM):
        signal.signal(signal.SIGTERM, lambda *_: stop.set())


def _stop_on_interruption(stop: threading.Event, interruption: threading.Event) -> None:
    """Set both events on SIGINT and SIGHUP; a second Ctrl-C ends the program immediately."""

    def interrupt(number: int, _: object) -> None:
        stop.set()
        interruption.set()
        record_signal(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGHUP):
        if is_not_ignored(number):  # SIGINT is ignored in background jobs of a shell
            signal.signal(number, interrupt)


def _update(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.onboard.result_lines import update_lines
    from trtpoets.onboard.update.incoming import incoming
    from trtpoets.onboard.update.update_command import Options, update

    chosen = Options(options.restart, options.health, options.health_seconds, options.strict, options.allow_downgrade)
    with incoming(options.source, options.sha256) as bundle:
        updated = update(bundle, options.root, chosen)
    _show(options, updated, lambda: update_lines(updated))
    return 0


def _rollback(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.onboard.result_lines import update_lines
    from trtpoets.onboard.update.update_command import rollback

    updated = rollback(options.root, options.restart)
    _show(options, updated, lambda: update_lines(updated))
    return 0


def _recover(options: argparse.Namespace, _: Progress) -> int:
    from trtpoets.onboard.result_lines import update_lines
    from trtpoets.onboard.update.update_command import recover

    updated = recover(options.root, options.restart)
    _show(options, updated, lambda: update_lines(updated))
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
