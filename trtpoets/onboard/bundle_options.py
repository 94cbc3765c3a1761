"""The command line of a bundle's program, with the same options as trtpoets for the commands that both have."""

from __future__ import annotations

import argparse
from typing import Any, NoReturn

from trtpoets import __version__
from trtpoets.core import shared_options as shared
from trtpoets.core.console import printable
from trtpoets.core.paths import path_argument
from trtpoets.core.shared_options import SharedOption
from trtpoets.core.types import Flavour, Precision
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.onboard.classify.classify_command import ClassifyConfig
from trtpoets.onboard.installed_bundle import ENGINE, RUNNERS

_SOURCES = "Photos, folders, videos; camera, camera:1, csi, /dev/video0, rtsp://…, or a GStreamer pipeline."


_WORDS = [precision.value for precision in Precision]


class _Parser(argparse.ArgumentParser):
    """Escapes control characters in error messages, which may contain file names."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; the chosen one is in `command`."""
    top = _Parser(prog="trtpoets", description="A bundle of trtpoets: build, check and run its network on this device.")
    top.add_argument("--version", action="version", version=f"trtpoets {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text, add in (
        ("install", "Check this device and create the Python environment of the commands.", _install),
        ("doctor", "Show what this machine supports and how to fix what is missing.", _no_options),
        ("build", "Build the engine for this device and check it with the golden photos.", _build),
        ("selftest", "Compare the scores of the golden photos and measure the latency.", _selftest),
        ("classify", "Classify photos and frames; one line of JSON for each.", _classify),
        ("bench", "Measure the speed of the built engines.", _bench),
        ("update", "Replace the running bundle by this one; go back if it fails.", _update),
        ("rollback", "Go back to the previous bundle.", _rollback),
        ("recover", "Finish or undo an interrupted update; for use at boot.", _recover),
    ):
        command = commands.add_parser(name, help=text, description=text)
        add(command)
        if name != "classify":
            _shared(command, shared.JSON)
    return top


def _shared(command: argparse.ArgumentParser, option: SharedOption[Any], **settings: Any) -> None:
    """Add an option that `trtpoets` has too; `settings` are further arguments of `add_argument`."""
    if option.default is False:
        settings["action"] = "store_true"
    default = "" if option.default in (None, False, 0) else " Default: %(default)s."
    text = option.help.replace("%", "%%") + default
    command.add_argument(option.flag, default=option.default, help=text, **settings)


def _no_options(command: argparse.ArgumentParser) -> None:
    """Add no options."""


def _install(command: argparse.ArgumentParser) -> None:
    command.add_argument("--venv", type=path_argument, help="Folder of the environment (default: built/venv).")
    command.add_argument("--no-pip", action="store_true", help="Install no packages; only show what is missing.")
    command.add_argument("--dry-run", action="store_true", help="Show what would be done, without doing it.")
    command.add_argument("--root", type=path_argument, help="With --signers: the folder of the releases.")
    command.add_argument(
        "--signers", type=path_argument, help="Public keys: accept only updates signed with one of them."
    )


def _build(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _name(command)
    _precisions(command, "Precision to try, in this order (repeatable; default: the bundle's order).")
    add(
        "--flavour",
        choices=["auto", *(flavour.value for flavour in Flavour)],
        default="auto",
        help="Library of the engine.",
    )
    _shared(command, shared.BATCH_RANGE)
    _shared(command, shared.WORKSPACE, type=int)
    _shared(command, shared.OPTIMIZATION_LEVEL, type=int)
    _shared(command, shared.VERSION_COMPATIBLE)
    _shared(command, shared.DLA, type=int)
    _shared(command, shared.TIMEOUT, type=float)
    add("--strict", action="store_true", help="Exit with code 3 unless the first precision succeeds.")
    _shared(command, shared.DRY_RUN)
    _shared(command, shared.FORCE)


def _selftest(command: argparse.ArgumentParser) -> None:
    _runner(command)


def _classify(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("sources", nargs="+", metavar="SOURCE", help=_SOURCES)
    add("--top", type=int, default=ClassifyConfig.top, help="Number of labels per photo (default: %(default)s).")
    add("--threshold", type=float, default=ClassifyConfig.threshold, help="Smallest score to report, 0 to 1.")
    add("--batch", type=int, default=ClassifyConfig.batch, help="Batch size for photo files (default: %(default)s).")
    add("--frames", type=int, default=ClassifyConfig.frames, help="Stop after this number of frames; 0: no limit.")
    add(
        "--patience",
        type=float,
        default=ClassifyConfig.patience,
        help="Seconds without a frame before a camera is given up (default: %(default)g).",
    )
    _runner(command)


def _bench(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _name(command)
    _shared(command, shared.BENCH_BATCH, type=int, action="append")
    _shared(command, shared.SECONDS, type=float)
    _shared(command, shared.THREADS, type=int)
    _shared(command, shared.SCENARIO, choices=[scenario.value for scenario in Scenario])
    _shared(command, shared.TARGET_QPS, type=float)
    _shared(command, shared.LOADGEN)
    _shared(command, shared.COMPARE, type=path_argument)
    add(
        "--fail-below",
        type=float,
        help="Required speedup of the fastest runner over the baseline; else exit with code 3.",
    )
    _shared(command, shared.MAX_P99, type=float)


def _update(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _root(command)
    add("--restart", metavar="COMMAND", help="Command that restarts the service (for example systemctl restart NAME).")
    add("--health", metavar="COMMAND", help="Health check after the restart (default: the new bundle's self-test).")
    add(
        "--health-seconds",
        type=float,
        default=60.0,
        help="Time until the health check must succeed (default: %(default)g).",
    )
    add("--strict", action="store_true", help="No update unless the first precision succeeds.")
    add(
        "--from",
        dest="source",
        type=path_argument,
        metavar="BUNDLE",
        help="The bundle to install: folder or .tar.",
    )
    add("--sha256", help="SHA-256 of the .tar given by --from, as printed by `trtpoets bundle`.")
    add("--allow-downgrade", action="store_true", help="Accept a bundle that is older than the current one.")


def _rollback(command: argparse.ArgumentParser) -> None:
    _root(command)
    command.add_argument("--restart", metavar="COMMAND", help="Command that restarts the service.")


def _recover(command: argparse.ArgumentParser) -> None:
    _rollback(command)


def _root(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", type=path_argument, required=True, help="Folder of releases/ and current.")


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="Name of the bundle (optional).")


def _precisions(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--precision", action="append", choices=_WORDS, help=text)


def _runner(command: argparse.ArgumentParser) -> None:
    text = "What to run: the engine, or an ONNX file (default: %(default)s)."
    command.add_argument("--runner", choices=RUNNERS, default=ENGINE, help=text)
    command.add_argument("--precision", choices=_WORDS, help="Precision of the ONNX file.")
