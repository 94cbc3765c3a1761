"""The words that a bundle's commands take: those of trtpoets where it has the same command."""

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
    """Says what is wrong with words that may be names of files without what a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        super().error(printable(message))


def parser() -> argparse.ArgumentParser:
    """The parser of all commands; what was chosen is in `command`."""
    top = _Parser(prog="trtpoets", description="A bundle of trtpoets: build, check and run its network on this device.")
    top.add_argument("--version", action="version", version=f"trtpoets {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text, add in (
        ("install", "Check this device, and make the environment that the commands use.", _install),
        ("doctor", "Say what this machine can do, and how to mend the rest.", _nothing),
        ("build", "Build the engine for this device, and prove it by the golden photos.", _build),
        ("selftest", "Ask the golden photos again: same scores? How long does it take?", _selftest),
        ("classify", "Say what photos show, a line of JSON each.", _classify),
        ("bench", "Measure the speed of what was built.", _bench),
        ("update", "Put this bundle in the place of the one that runs; go back if it fails.", _update),
        ("rollback", "Go back to the bundle that ran before.", _rollback),
        ("recover", "Finish or undo an update that was cut short; for boot.", _recover),
    ):
        command = commands.add_parser(name, help=text, description=text)
        add(command)
        if name != "classify":
            command.add_argument("--json", action="store_true", help="one JSON document on stdout")
    return top


def _nothing(command: argparse.ArgumentParser) -> None:
    """No words of its own."""


def _install(command: argparse.ArgumentParser) -> None:
    command.add_argument("--venv", type=path_argument, help="where the environment goes (default: built/venv)")
    command.add_argument("--no-pip", action="store_true", help="fetch nothing; say what is missing")
    command.add_argument("--dry-run", action="store_true", help="only look, and say what would be done")
    command.add_argument("--root", type=path_argument, help="with --signers: the root of the updates")
    command.add_argument("--signers", type=path_argument, help="public keys; updates take only what one of them signed")


def _build(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _name(command)
    _precisions(command, "to try, in this order (repeatable; default: the bundle's order)")
    add("--flavour", choices=["auto", *(each.value for each in Flavour)], default="auto", help="whose engines")
    add("--batch", default="1:8:32", help="batch sizes of the engine, least:best:most (default: %(default)s)")
    add("--workspace", type=int, default=EngineConfig.workspace_mib, help="MiB for building (default: %(default)s)")
    add("--optimization-level", type=int, help="0 builds quickly, 5 for speed; default: TensorRT's own")
    add("--version-compatible", action="store_true", help="later versions of TensorRT shall run it too")
    add("--dla", type=int, help="a Jetson's DLA core; what it lacks runs on the GPU")
    add("--timeout", type=float, help="give up each engine after so many seconds")
    add("--strict", action="store_true", help="exit 3 if the first precision could not be had")
    add("--dry-run", action="store_true", help="say what would be built, and whether it can here")
    add("--force", action="store_true", help="build again even if nothing changed")


def _selftest(command: argparse.ArgumentParser) -> None:
    _runner(command)


def _classify(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("sources", nargs="+", metavar="SOURCE", help=_SOURCES)
    add("--top", type=int, default=ClassifyConfig.top, help="labels a photo (default: %(default)s)")
    add("--threshold", type=float, default=ClassifyConfig.threshold, help="least score that is told, 0 to 1")
    add("--batch", type=int, default=ClassifyConfig.batch, help="photo files at a time (default: %(default)s)")
    add("--frames", type=int, default=ClassifyConfig.frames, help="end after so many frames; 0: never")
    add(
        "--patience",
        type=float,
        default=ClassifyConfig.patience,
        help="seconds that a camera may be gone (default: %(default)g)",
    )
    _runner(command)


def _bench(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _name(command)
    add("--batch", type=int, action="append", help="repeatable; default 1 and 8")
    add("--seconds", type=float, default=2.0, help="measure at least so long, each (default: %(default)g)")
    add("--threads", type=int, default=0, help="CPU threads of every runner; 0: its own choice")
    add("--scenario", choices=[each.value for each in Scenario], help="MLPerf's")
    add("--target-qps", type=float, default=0.0, help="photos a second that a server is asked for")
    add("--loadgen", action="store_true", help="let MLPerf's LoadGen judge too; its logs are kept")
    add("--compare", type=path_argument, help="an older benchmark.json: what changed since")
    add("--fail-below", type=float, help="a gate: the fastest, in times the baseline; exit 3 if it fails")
    add("--max-p99", type=float, help="a gate, or a server's bound, in ms; exit 3 if it fails")


def _update(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    _root(command)
    add("--restart", metavar="COMMAND", help="how the service takes up the new bundle, as: systemctl restart NAME")
    add("--health", metavar="COMMAND", help="must succeed after that (default: the new bundle's self-test)")
    add("--health-seconds", type=float, default=60.0, help="how long it may take (default: %(default)g)")
    add("--strict", action="store_true", help="no update where the first precision could not be had")
    add(
        "--from",
        dest="source",
        type=path_argument,
        metavar="BUNDLE",
        help="the bundle to install: folder or .tar.zst",
    )
    add("--sha256", help="of the .tar.zst that --from names, as `trtpoets bundle` told it")
    add("--allow-downgrade", action="store_true", help="take a bundle that is older than the one that runs")


def _rollback(command: argparse.ArgumentParser) -> None:
    _root(command)
    command.add_argument("--restart", metavar="COMMAND", help="how the service takes it up")


def _recover(command: argparse.ArgumentParser) -> None:
    _rollback(command)


def _root(command: argparse.ArgumentParser) -> None:
    command.add_argument("--root", type=path_argument, required=True, help="the folder of releases/ and current")


def _name(command: argparse.ArgumentParser) -> None:
    command.add_argument("name", nargs="?", metavar="NAME", help="the bundle's name; there is only one")


def _precisions(command: argparse.ArgumentParser, text: str) -> None:
    command.add_argument("--precision", action="append", choices=_WORDS, help=text)


def _runner(command: argparse.ArgumentParser) -> None:
    text = "what answers: the engine, or an ONNX file (default: %(default)s)"
    command.add_argument("--runner", choices=RUNNERS, default=ENGINE, help=text)
    command.add_argument("--precision", choices=_WORDS, help="of an ONNX file: which")
