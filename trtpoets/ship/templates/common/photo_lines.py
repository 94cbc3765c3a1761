"""Photos in, a dictionary for each out: what bundles' classifiers share. What runs the network is handed in."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "runtime"))

import numpy as np

from trtpoets.core.errors import BadPhoto
from trtpoets.core.images import photo_to_array
from trtpoets.core.spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def model_spec() -> ModelSpec:
    """What the network answers to, and how it wants its photos."""
    return ModelSpec.from_json((HERE / "model.json").read_text(encoding="utf-8"), "model.json")


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
