"""Photos in, a dictionary for each out: what bundles' classifiers share. What runs the network is handed in."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "runtime"))

import numpy as np

from trtpoets.core.console import error_text, json_text, printable
from trtpoets.core.errors import BadPhoto
from trtpoets.core.images import photo_to_array
from trtpoets.core.paths import path_argument
from trtpoets.core.program import run_program
from trtpoets.core.streams import write_message, writing_results
from trtpoets.core.types import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def model_spec() -> ModelSpec:
    """What the network answers to, and how it wants its photos."""
    return ModelSpec.from_json((HERE / "model.json").read_text(encoding="utf-8"), "model.json")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with words that may be names of files without what a terminal would obey."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        super().error(printable(message))


def arguments(doc: str) -> argparse.ArgumentParser:
    """The arguments that every classifier takes."""
    parser = Parser(description=doc.split("\n", maxsplit=1)[0])
    parser.add_argument("photos", nargs="+", type=path_argument, help="photo files, or folders of them")
    parser.add_argument("--top", type=int, default=5, help="how many labels a photo")
    parser.add_argument("--threshold", type=float, default=0.0, help="leave out labels with a lower score")
    return parser


def print_answers(
    infer: Callable[[np.ndarray], np.ndarray], spec: ModelSpec, given: argparse.Namespace, batch: int
) -> int:
    """Print a line of JSON for each photo that the arguments name; the exit code: 1 where one was no photo.

    Raises BrokenPipeError where the reader has gone, StorageFailed where lines can't be written.
    """
    bad = 0
    asked = {"batch": batch, "top": given.top, "threshold": given.threshold}
    for answer in answers(infer, spec, files_in(given.photos), **asked):
        bad += "error" in answer
        with writing_results():
            print(json_text(answer, indent=None))
    return 1 if bad else 0


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program of the bundle and exit: errors and Ctrl-C end it with a message on stderr, without a traceback."""
    sys.exit(run_program(main, lambda error: write_message(error_text(error)), keeps_results=False))


def files_in(paths: list[Path]) -> Iterator[Path]:
    """The files that are named, and those below folders that are, in the order of their names."""
    for path in paths:
        if path.is_dir():
            yield from (each for each in sorted(path.rglob("*")) if each.is_file() and not each.name.startswith("."))
        else:
            yield path


def answers(
    infer: Callable[[np.ndarray], np.ndarray],
    spec: ModelSpec,
    files: Iterator[Path],
    *,
    batch: int,
    top: int,
    threshold: float,
) -> Iterator[dict[str, Any]]:
    """What each photo shows, in order; one that is no photo gives its error.

    `infer` takes at most `batch` photos, uint8 (N, H, W, 3), and gives scores, float32 (N, C).
    """
    waiting: list[tuple[Path, Any]] = []

    def flush() -> Iterator[dict[str, Any]]:
        arrays = [photo for _, photo in waiting if not isinstance(photo, BadPhoto)]
        rows = iter(infer(np.stack(arrays)) if arrays else ())
        for path, photo in waiting:
            if isinstance(photo, BadPhoto):
                yield {"photo": str(path), "error": photo.message}
                continue
            row = next(rows)
            best = [i for i in np.argsort(-row, kind="stable")[:top] if row[i] >= threshold]
            yield {
                "photo": str(path),
                "labels": [spec.labels[i] for i in best],
                "scores": [float(row[i]) for i in best],
            }
        waiting.clear()

    for path in files:
        try:
            waiting.append((path, photo_to_array(path, spec.preprocess)))
        except BadPhoto as error:
            waiting.append((path, error))
        if len(waiting) == batch:
            yield from flush()
    yield from flush()
