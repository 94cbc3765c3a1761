"""The child process that loads and runs a TFLite network once, before another process may load it.

TFLite does not check what it loads: a damaged network can abort the process or write outside of its memory. Protocol:
stdin has a line of JSON with the options, then the network; the answer is one line of JSON, {"failure": reason}, with
an empty reason on success.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np

from trtpoets.core.errors import first_line
from trtpoets.device.build.build_child import available_memory

_MOST_INPUT = 1 << 28
"""Largest input of a network in bytes."""


def main() -> None:
    """Execute the request on stdin."""
    order = json.loads(sys.stdin.buffer.readline())
    network = sys.stdin.buffer.read()
    _limit_resources()
    # The answer has its own descriptor, because the interpreter may write to stdout and stderr.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        answers.write(json.dumps({"failure": failure_of(network, order["threads"], order["own_kernels"])}) + "\n")


def failure_of(network: bytes, threads: int, own_kernels: bool) -> str:
    """Load a network and run it on a black image and on noise. Returns the error in one line, "" on success."""
    from trtpoets.device.runners.tflite import loaded_interpreter

    try:
        interpreter = loaded_interpreter(network, threads, own_kernels)
        (input_details,), (output_details,) = interpreter.get_input_details(), interpreter.get_output_details()
        size, kind = [int(length) for length in input_details["shape"]], np.dtype(input_details["dtype"])
        if min(size, default=0) < 1 or np.prod(size, dtype=float) * kind.itemsize > _MOST_INPUT:
            return f"its input has the invalid shape {size}"
        noise = np.random.default_rng(0).integers(0, 256, size)
        for photo in (np.zeros(size, kind), noise.astype(kind)):
            interpreter.set_tensor(input_details["index"], photo)
            interpreter.invoke()
            interpreter.get_tensor(output_details["index"])
    except Exception as error:  # noqa: BLE001 - the interpreter raises exceptions of any class
        return first_line(error)
    return ""


def _limit_resources() -> None:
    """Limit memory to what is free, write no core file, and be ended first if memory runs out."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
    free = available_memory()
    size = free if hard == resource.RLIM_INFINITY else min(free, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (size, size))
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
