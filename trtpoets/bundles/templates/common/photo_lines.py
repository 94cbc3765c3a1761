"""Shared by the classify programs of bundles: reads photos, and prints one line of JSON for each."""

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
    """Return the labels and the preprocessing of the network."""
    return ModelSpec.from_json((HERE / "model.json").read_text(encoding="utf-8"), "model.json")


class Parser(argparse.ArgumentParser):
    """An argument parser that escapes control characters in its error messages."""

    def error(self, message: str) -> NoReturn:
        """End the program with exit code 2."""
        super().error(printable(message))


def arguments(doc: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that all classify programs have."""
    parser = Parser(description=doc.split("\n", maxsplit=1)[0])
    parser.add_argument("photos", nargs="+", type=path_argument, help="photo files, or folders of them")
    parser.add_argument("--top", type=int, default=5, help="number of labels per photo")
    parser.add_argument("--threshold", type=float, default=0.0, help="leave out labels with a lower score")
    return parser


def print_answers(
    infer: Callable[[np.ndarray], np.ndarray], spec: ModelSpec, options: argparse.Namespace, batch: int
) -> int:
    """Print a line of JSON for each photo in `options`, and return the exit code: 1 if a photo could not be read.

    Raises BrokenPipeError if the reader has closed the pipe, StorageFailed if output cannot be written.
    """
    failed = 0
    limits = {"batch": batch, "top": options.top, "threshold": options.threshold}
    for answer in answers(infer, spec, files_in(options.photos), **limits):
        failed += "error" in answer
        with writing_results():
            print(json_text(answer, indent=None))
    return 1 if failed else 0


def run(main: Callable[[], int]) -> NoReturn:
    """Run a program of the bundle and exit. Errors and Ctrl-C print a message on stderr, without a traceback."""
    sys.exit(run_program(main, lambda error: write_message(error_text(error)), keeps_results=False))


def files_in(paths: list[Path]) -> Iterator[Path]:
    """Yield the files in `paths`, and the files below each folder in `paths`, sorted by name, without hidden files."""
    for path in paths:
        if path.is_dir():
            yield from (file for file in sorted(path.rglob("*")) if file.is_file() and not file.name.startswith("."))
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
    """Yield the labels and scores of each photo, or its error, in the order of `files`.

    `infer` maps at most `batch` photos, uint8 (N, H, W, 3), to scores, float32 (N, C). At most `top` labels are given,
    those with a score of at least `threshold`.
    """
    pending: list[tuple[Path, Any]] = []

    def flush() -> Iterator[dict[str, Any]]:
        arrays = [photo for _, photo in pending if not isinstance(photo, BadPhoto)]
        rows = iter(infer(np.stack(arrays)) if arrays else ())
        for path, photo in pending:
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
        pending.clear()

    for path in files:
        try:
            pending.append((path, photo_to_array(path, spec.preprocess)))
        except BadPhoto as error:
            pending.append((path, error))
        if len(pending) == batch:
            yield from flush()
    yield from flush()
