"""Runners that fail in chosen ways, in place of a benchmark's real runners, by precision or engine name.

python -m tests.fakes.failing_runners '{"fp32": "good", "int8": "crash"}' < request.json
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from trtpoets.core.types import Engine, OnnxModel
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.base import Timing
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.judge.bench import bench_child
from trtpoets.judge.bench.bench_child import main
from trtpoets.judge.bench.slowdown_watch import GpuLoad, GpuWatch

_NUMBERS = np.linspace(0, 1, 2000)


class Scripted(FakeRunner):
    """Returns the correct scores for photos of `tests.support.photos` by their colours, or fails by `behaviour`."""

    def __init__(self, artefact: Any, behaviour: str) -> None:
        runner = open_runner(artefact)
        super().__init__(runner.spec, identity=runner.identity)
        self.behaviour = behaviour
        self.left = int(behaviour.rsplit(maxsplit=1)[-1]) if behaviour.startswith("hang after") else 0

    def __enter__(self) -> Scripted:
        if self.behaviour == "will not load":
            raise ValueError("no kernel image")
        super().__enter__()
        return self

    def infer(self, photos: np.ndarray) -> np.ndarray:
        special: dict[str, Callable[[np.ndarray], Any]] = {
            "crash": lambda _: os.kill(os.getpid(), signal.SIGSEGV),
            "killed": lambda _: os.kill(os.getpid(), signal.SIGKILL),
            "leave": lambda _: (os.write(2, b"first words\nlast words\n"), os._exit(7)),
            "hang": lambda _: time.sleep(60),
            "raise": lambda _: dict[str, Any]()["scores"],
            "noise": lambda _: os.write(1, b"a library says hello on stdout\n"),
        }
        if self.behaviour in special:
            special[self.behaviour](photos)
        if self.behaviour == "framed" and not (photos[:, 0] == 255).all():
            raise ValueError("photos without their white frames")
        if self.behaviour == "not at 4" and len(photos) == 4:
            raise ValueError("batch 4 is too much")
        if self.behaviour.startswith("work "):  # repeats a computation this number of times
            for _ in range(int(self.behaviour.split()[1])):
                np.sin(_NUMBERS)
        if self.behaviour.startswith("hang after "):
            self.left -= 1
            time.sleep(60 if self.left < 0 else 0.005)  # slow, so that the warm-up takes few of the inferences
        if self.behaviour.endswith("slow"):
            time.sleep(0.02)
        scores = right_scores(photos)
        if self.behaviour == "nan":
            scores[0, 0] = np.nan
        if self.behaviour == "shape":
            return scores[:, :2]
        if self.behaviour.startswith("wrong"):
            return np.roll(scores, 1, axis=1)
        return scores


class OnGpu(Scripted):
    """A runner with a device clock, like runners on a GPU. "gpu hot" reports that the GPU is too hot."""

    def infer_timed(self, photos: np.ndarray) -> tuple[np.ndarray, Timing]:
        return self.infer(photos), Timing(1.0, 2.0, 0.5, 0.1, True)


class Watch(GpuWatch):
    """Reports a GPU state for the benchmark."""

    words: tuple[str, ...] = ()

    def end(self) -> GpuLoad:
        return replace(super().end(), sm_mhz_before=1755.0, sm_mhz=1980.0, throttled=self.words)


def right_scores(photos: np.ndarray) -> np.ndarray:
    """The strongest colour determines the class: red 0, green 1, blue 2."""
    means = photos.mean(axis=(1, 2))
    scores = np.exp((means - means.max(axis=1, keepdims=True)) / 4)
    return np.asarray(scores / scores.sum(axis=1, keepdims=True), dtype=np.float32)


def opener(behaviours: dict[str, str]) -> Callable[..., Scripted]:
    def open_scripted(artefact: Any, threads: int, way: Any, *, batches: Any) -> Scripted:
        key = artefact.precision.value if isinstance(artefact, OnnxModel) else "classifier"
        if isinstance(artefact, Engine):
            key = open_runner(artefact).identity.name
        behaviour = behaviours.get(key, "good")
        if not behaviour.startswith("gpu"):
            return Scripted(artefact, behaviour)
        Watch.words = ("too hot", "at its power limit") if behaviour == "gpu hot" else ()
        vars(bench_child)["GpuWatch"] = Watch
        return OnGpu(artefact, behaviour)

    return open_scripted


if __name__ == "__main__":
    main(opener(json.loads(sys.argv[1])))
