"""Driver calls with prepared arguments for the path of each batch, where every microsecond counts."""

from __future__ import annotations

import ctypes
from functools import partial
from typing import Any, Callable

from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda


class PreparedCalls:
    """Calls for the context that is current at construction. `push` and `pop` return the driver's code (0: success).

    They bypass pycuda's context stack, so no pycuda objects (memory, events, streams) may be created between them;
    copies, launches and waiting are allowed.
    """

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        context = ctypes.c_void_p()
        libcuda.check(driver, driver.cuCtxGetCurrent(ctypes.byref(context)), "cuCtxGetCurrent")
        quick = libcuda.keeping_gil(driver)
        self._popped = ctypes.c_void_p()
        self.push: Callable[[], int] = partial(quick.cuCtxPushCurrent_v2, context)
        self.pop: Callable[[], int] = partial(quick.cuCtxPopCurrent_v2, ctypes.byref(self._popped))

    def waiter(self, stream: int) -> Callable[[], int]:
        """A function that waits for a stream (cuStreamSynchronize) without the GIL and returns the driver's code."""
        return partial(self._driver.cuStreamSynchronize, ctypes.c_void_p(stream))

    def failed(self, call: str, code: int) -> RunFailed:
        """The error of a call that returned `code`."""
        return RunFailed(
            f"the GPU failed: {call} failed: {libcuda.error_name(self._driver, code)}",
            hint="check it with nvidia-smi",
            code="TP4069",
        )
