"""The command line of a bundle's program, with the same options as trtpoets for the commands that both have."""

from __future__ import annotations

import argparse
from typing import NoReturn

from trtpoets import __version__
from trtpoets.core.console import printable
from trtpoets.core.paths import path_argument
from trtpoets.core.types import Flavour, Precision
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.judge.bench.bench_config import Scenario
from trtpoets.onboard.classify.classify_command import ClassifyConfig
from trtpoets.onboard.installed_bundle import ENGINE, RUNNERS

_SOURCES = "photos, folders, videos; camera, camera:1, csi, /dev/video0, rtsp://…, or a GStreamer pipeline"


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
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return top


def _no_options(command: argparse.ArgumentParser) -> None:
    """Add no options."""


def _install(command: argparse.ArgumentParser) -> None:
    command.add_argument("--venv", type=path_argument, help="folder of the environment (default: built/venv)")
    command.add_argument("--no-pip", action="store_true", help="install no packages; only show what is missing")
    command.add_argument("--dry-run", action="store_true", help="show what would be done, without doing it")
    command.add_argument("--root", type=path_argument, help="with --signers: the folder of the releases")
    command.add_argument(
        "--signers", type=path_argument, help="public keys: accept only updates signed with one of them"
    )


def _build(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _name(command)
    _precisions(command, "precision to try, in this order (repeatable; default: the bundle's order)")
    add(
        "--flavour",
        choices=["auto", *(flavour.value for flavour in Flavour)],
        default="auto",
        help="library of the engine",
    )
    add("--batch", default="1:8:32", help="batch sizes of the engine, minimum:optimum:maximum (default: %(default)s)")
    add(
        "--workspace",
        type=int,
        default=EngineConfig.workspace_mib,
        help="workspace memory for building in MiB (default: %(default)s)",
    )
    add("--optimization-level", type=int, help="0 (quick build) to 5 (fast engine); default: TensorRT's default")
    add("--version-compatible", action="store_true", help="build an engine that later versions of TensorRT can run")
    add("--dla", type=int, help="DLA core of a Jetson; unsupported layers run on the GPU")
    add("--timeout", type=float, help="time limit for building each engine in seconds")
    add("--strict", action="store_true", help="exit with code 3 unless the first precision succeeds")
    add("--dry-run", action="store_true", help="show what would be built and whether this device can")
    add("--force", action="store_true", help="build again even if nothing changed")


def _selftest(command: argparse.ArgumentParser) -> None:
    _runner(command)


def _classify(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("sources", nargs="+", metavar="SOURCE", help=_SOURCES)
    add("--top", type=int, default=ClassifyConfig.top, help="number of labels per photo (default: %(default)s)")
    add("--threshold", type=float, default=ClassifyConfig.threshold, help="smallest score to report, 0 to 1")
    add("--batch", type=int, default=ClassifyConfig.batch, help="batch size for photo files (default: %(default)s)")
    add("--frames", type=int, default=ClassifyConfig.frames, help="stop after this number of frames; 0: no limit")
    add(
        "--patience",
        type=float,
        default=ClassifyConfig.patience,
        help="seconds without a frame before a camera is given up (default: %(default)g)",
    )
    _runner(command)


def _bench(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _name(command)
    add("--batch", type=int, action="append", help="batch size (repeatable; default 1 and 8)")
    add("--seconds", type=float, default=2.0, help="shortest time of each measurement (default: %(default)g)")
    add("--threads", type=int, default=0, help="CPU threads of every runner; 0: the runner's default")
    add("--scenario", choices=[scenario.value for scenario in Scenario], help="MLPerf scenario")
    add("--target-qps", type=float, default=0.0, help="requested photos per second, for the server scenario")
    add("--loadgen", action="store_true", help="also run MLPerf's LoadGen and keep its logs")
    add("--compare", type=path_argument, help="older benchmark.json to compare with")
    add(
        "--fail-below",
        type=float,
        help="required speedup of the fastest runner over the baseline; else exit with code 3",
    )
    add("--max-p99", type=float, help="largest p99 latency in ms (also for the server scenario); else exit with code 3")


def _update(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _root(command)
    add("--restart", metavar="COMMAND", help="command that restarts the service, such as: systemctl restart NAME")
    add("--health", metavar="COMMAND", help="health check after the restart (default: the new bundle's self-test)")
    add(
        "--health-seconds",
        type=float,
        default=60.0,
        help="time until the health check must succeed (default: %(default)g)",
    )
    add("--strict", action="store_true", help="no update unless the first precision succeeds")
    add(
        "--from",
        dest="source",
        type=path_argument,
        metavar="BUNDLE",
        help="the bundle to install: folder or .tar.zst",
    )
    add("--sha256", help="sha256 of the .tar.zst given by --from, as printed by `trtpoets bundle`")
    add("--allow-downgrade", action="store_true", help="accept a bundle that is older than the current one")


def _rollback(command: argparse.ArgumentParser) -> None:
    _root(command)
    command.add_argument("--restart", metavar="COMMAND", help="command that restarts the service")


def _recover(command: argparse.ArgumentParser) -> None:
    _rollback(command)


def _root(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", type=path_argument, required=True, help="folder of releases/ and current")


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="name of the bundle (optional)")


def _precisions(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--precision", action="append", choices=_WORDS, help=text)


def _runner(command: argparse.ArgumentParser) -> None:
    text = "what to run: the engine, or an ONNX file (default: %(default)s)"
    command.add_argument("--runner", choices=RUNNERS, default=ENGINE, help=text)
    command.add_argument("--precision", choices=_WORDS, help="precision of the ONNX file")
