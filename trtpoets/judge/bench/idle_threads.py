"""Waits until the threads of a process are idle, so that they do not slow down what is measured next."""

from __future__ import annotations

import time

_IDLE_WINDOW, _IDLE_SHARE, _IDLE_LIMIT = 0.005, 0.1, 0.25
"""The threads of a process are idle if they use less than the share `_IDLE_SHARE` of a core in `_IDLE_WINDOW` seconds.
`_IDLE_LIMIT` is the time limit in seconds."""


def wait_until_idle(limit: float = _IDLE_LIMIT) -> bool:
    """Wait until the threads of this process are idle, for `limit` seconds at most; return whether they are.

    The threads of ONNX Runtime and TensorFlow spin for a while after an inference, in case the next one follows. They
    would take the cores from the runner that is measured next.
    """
    deadline = time.monotonic() + limit
    while True:
        used, began = time.process_time(), time.monotonic()
        time.sleep(_IDLE_WINDOW)
        now = time.monotonic()
        if time.process_time() - used < _IDLE_SHARE * (now - began):
            return True
        if now >= deadline:
            return False
