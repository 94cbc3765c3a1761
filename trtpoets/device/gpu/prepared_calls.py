"""The driver's calls around one batch, through ctypes with their arguments made once: microseconds count there."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, Callable

from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda


class HotCalls:
    """`push` and `pop` make the context that is current now the calling thread's, and undo it: codes, 0 for success.

    They go around pycuda's own stack of contexts, so nothing that belongs to a pycuda context (memory, events, streams)
    may be made in between; copies, launches and waiting may.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        context = ctypes.c_void_p()
        libcuda.check(driver, driver.cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
        quick = libcuda.holding_lock(driver)
        self._popped = ctypes.c_void_p()
        self.push: Callable[[], int] = partial(quick.cuCtxPushCurrent_v2, context)
        self.pop: Callable[[], int] = partial(quick.cuCtxPopCurrent_v2, ctypes.byref(self._popped))

    def waiter(self, stream: int) -> Callable[[], int]:
        """Wait for a stream (cuStreamSynchronize), without Python's lock: a code, 0 for success."""
        return partial(self._driver.cuStreamSynchronize, ctypes.c_void_p(stream))

    def failed(self, call: str, code: int) -> RunFailed:
        """The error of a call that returned `code`."""
        return RunFailed(
            f"the GPU failed: {call} failed: {libcuda.error_name(self._driver, code)}",
            hint="check it with nvidia-smi",
            code="TP4069",
        )
