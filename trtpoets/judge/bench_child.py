"""The process in which one runner is measured: a request on stdin, one JSON line on stdout for each thing it learnt.

    python -m trtpoets.judge.bench_child < request.json

Lines: {"loaded": seconds}, {"measurement": {...}, "answers": [...]}, {"failure": text, "batch": n or null}.
"""

from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Mapping

import numpy as np

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.images import photo_batches
from trtpoets.core.spec import Classifier, ModelSpec, OnnxModel, Precision, label_indices
from trtpoets.device.runners import Runnable, open_runner
from trtpoets.device.runners.base import Runner
from trtpoets.judge.measure import BenchConfig, measurement_from_runner

Opener = Callable[[Runnable, int], Runner]


def description_from_artefact(artefact: Runnable) -> dict[str, str]:
    """What the child needs to find an artefact again, as JSON."""
    if isinstance(artefact, Classifier):
        return {"kind": "classifier", "path": str(artefact.folder.resolve()), "spec": artefact.spec.to_json()}
    if isinstance(artefact, OnnxModel):
        return {
            "kind": "onnx",
            "path": str(artefact.path.resolve()),
            "spec": artefact.spec.to_json(),
            "precision": artefact.precision.value,
        }
    return {"kind": "engine", "path": str(artefact.path.resolve())}


def artefact_from_description(value: Mapping[str, str]) -> Runnable:
    """Read what `description_from_artefact` wrote. An engine's card is checked against its file again.

    The ONNX file is not: the parent did, and the `onnx` package would add to the memory that is measured.
    """
    path = Path(value["path"])
    if value["kind"] == "classifier":
        return Classifier(path, ModelSpec.from_json(value["spec"], str(path)))
    if value["kind"] == "onnx":
        return OnnxModel(path, Precision(value["precision"]), ModelSpec.from_json(value["spec"], str(path)))
    from trtpoets.device.engine import load_engine

    return load_engine(path)


def main(opener: Opener | None = None) -> None:
    """Serve one request. `opener` makes the runner; tests hand in their own."""
    request = json.loads(sys.stdin.read())
    # Native libraries write to stdout as they like: what they write there goes to stderr, our lines have it alone.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        os.dup2(2, 1)

        def tell(**value: Any) -> None:
            lines.write(json.dumps(value) + "\n")
            lines.flush()

        try:
            _serve(request, opener, tell)
        except Exception as error:  # noqa: BLE001 - whatever it is, it costs this runner's rows and no more
            tell(failure=_words(error), batch=None)


def _serve(request: Mapping[str, Any], opener: Opener | None, tell: Callable[..., None]) -> None:
    config = BenchConfig(**{**request["config"], "batches": tuple(request["config"]["batches"])})
    if config.threads:
        # Before any library counts the cores. A library that ignores its thread option can't get more than the others.
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: config.threads])
    runner = (opener or open_runner)(artefact_from_description(request["artefact"]), config.threads)
    photos, truth = _photos(request, runner.spec)
    _forget_peak()
    began = time.perf_counter()
    with runner:
        load_seconds = time.perf_counter() - began
        tell(loaded=load_seconds)
        for batch in config.batches:
            try:
                measured, answers = measurement_from_runner(runner, photos, truth, batch, config, load_seconds)
            except Exception as error:  # noqa: BLE001 - the other batch sizes may still work
                tell(failure=_words(error), batch=batch)
            else:
                tell(measurement=asdict(measured), answers=answers)


def _photos(request: Mapping[str, Any], spec: ModelSpec) -> tuple[np.ndarray, list[int]]:
    """The decoded photos uint8 (P, H, W, 3), and the index of each one's label (-1: none of the classifier's)."""
    paths = [Path(path) for path in request["photos"]]
    truth = label_indices(request["labels"], spec.labels)
    return np.concatenate(list(photo_batches(paths, spec.preprocess, 16))), truth


def _forget_peak() -> None:
    """Begin the peak memory anew: decoding the photos is not the runner's doing."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _words(error: Exception) -> str:
    if isinstance(error, TrtPoetsError):
        return f"{error.message} ({error.hint})" if error.hint else error.message
    return f"{type(error).__name__}: {error}"


if __name__ == "__main__":
    main()
