"""The child process that loads and runs a TFLite network once, before another process may load it.

TFLite does not check what it loads: a damaged network can abort the process or write outside of its memory. The
request is {"threads": n, "own_kernels": bool, "network": base64}, the reply {"sound": true} or {"failure": reason}.
"""

from __future__ import annotations

import base64
import json
import resource
import sys

import numpy as np

from trtpoets.core.child_process import limit_memory, replies
from trtpoets.core.errors import first_line
from trtpoets.core.optional import loaded_interpreter
from trtpoets.core.system_files import available_memory

_MAX_INPUT = 1 << 28
"""Largest input of a network in bytes."""


def main() -> None:
    """Execute the request on stdin."""
    request = json.loads(sys.stdin.readline())
    network = base64.b64decode(request["network"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # no core file
    limit_memory(available_memory())
    with replies() as send:
        failure = failure_of(network, request["threads"], request["own_kernels"])
        send({"failure": failure} if failure else {"sound": True})


def failure_of(network: bytes, threads: int, own_kernels: bool) -> str:
    """Load a network and run it on a black image and on noise. Returns the error in one line, "" on success."""
    try:
        interpreter = loaded_interpreter(network, threads, own_kernels)
        (input_details,), (output_details,) = interpreter.get_input_details(), interpreter.get_output_details()
        size, kind = [int(length) for length in input_details["shape"]], np.dtype(input_details["dtype"])
        if min(size, default=0) < 1 or np.prod(size, dtype=float) * kind.itemsize > _MAX_INPUT:
            return f"its input has the invalid shape {size}"
        noise = np.random.default_rng(0).integers(0, 256, size)
        for photo in (np.zeros(size, kind), noise.astype(kind)):
            interpreter.set_tensor(input_details["index"], photo)
            interpreter.invoke()
            interpreter.get_tensor(output_details["index"])
    except Exception as error:  # noqa: BLE001 - the interpreter raises exceptions of any class
        return first_line(error)
    return ""
