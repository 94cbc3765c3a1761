"""The process in which a TFLite network is loaded and run once, before any other process may load it.

TFLite trusts what it loads: a damaged network can abort the process, or write outside of its memory. So the network's
bytes come by stdin, after a line of JSON with the options, and one line of JSON goes back: {"failure": reason}, empty
where the network could be loaded and run.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from trtpoets.device.build.build_child import memory_to_use

_MOST_INPUT = 1 << 28
"""Bytes: no photo that a network takes is larger."""


def main() -> None:
    """Answer the one order on stdin."""
    order = json.loads(sys.stdin.buffer.readline())
    network = sys.stdin.buffer.read()
    _limit_resources()
    # The answer has its own descriptor: the interpreter writes to stdout and stderr as it likes.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        answers.write(json.dumps({"failure": failure_of(network, order["threads"], order["own_kernels"])}) + "\n")


def failure_of(network: bytes, threads: int, own_kernels: bool) -> str:
    """Load a network and run it on black and on noise; what goes wrong, in a line, or nothing."""
    from trtpoets.device.runners.tflite import loaded_interpreter

    try:
        interpreter = loaded_interpreter(network, threads, own_kernels)
        (given,), (asked,) = interpreter.get_input_details(), interpreter.get_output_details()
        size, kind = [int(each) for each in given["shape"]], np.dtype(given["dtype"])
        if min(size, default=0) < 1 or np.prod(size, dtype=float) * kind.itemsize > _MOST_INPUT:
            return f"it takes an input of {size}"
        noise = np.random.default_rng(0).integers(0, 256, size)
        for photo in (np.zeros(size, kind), noise.astype(kind)):
            interpreter.set_tensor(given["index"], photo)
            interpreter.invoke()
            interpreter.get_tensor(asked["index"])
    except Exception as error:  # noqa: BLE001 - the interpreter raises whatever it likes
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ""


def _limit_resources() -> None:
    """No more memory than is free, no core file; and this process is the first to go when memory runs out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    free = memory_to_use()
    size = free if hard == resource.RLIM_INFINITY else min(free, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
