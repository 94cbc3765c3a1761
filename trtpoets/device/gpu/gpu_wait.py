"""How threads wait for the GPU: a flag of the primary context, which all libraries of a process share."""

from __future__ import annotations

import ctypes
import logging
from enum import Enum
from typing import Any

from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda

log = logging.getLogger(__name__)

_MASK = 7
"""CU_CTX_SCHED_MASK: the other bits are not about waiting, and are left as they are."""


class Wait(Enum):
    """CU_CTX_SCHED_*, as cuDevicePrimaryCtxSetFlags documents them."""

    AUTO = "auto"
    """CUDA chooses: it spins where there are no more contexts than cores; on a Jetson, by its power profile."""
    SPIN = "spin"
    """The thread asks again and again: the least latency, and one core is busy. For measuring."""
    YIELD = "yield"
    """As SPIN, but other threads may run in between."""
    BLOCKING = "blocking"
    """The thread sleeps until the GPU wakes it: tens of microseconds more, and no core is busy. For a camera."""


_FLAGS = {Wait.AUTO: 0, Wait.SPIN: 1, Wait.YIELD: 2, Wait.BLOCKING: 4}


def ask_for(driver: Any, index: int, wait: Wait) -> None:
    """Set how the threads of this process wait for a GPU. Call it before the primary context is retained.

    Up to CUDA 10.2 an active context can't be changed any more (CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE); from 11.0 on it can
    (cuDevicePrimaryCtxSetFlags "overwrites previously set flags"). What is refused is logged: `waits` tells what holds.
    Raises RunFailed for a GPU that is not there.
    """
    device, flags = _device(driver, index), _state(driver, index)
    if flags & _MASK == _FLAGS[wait]:
        return
    call = "cuDevicePrimaryCtxSetFlags_v2"  # 11.0 and later
    function = getattr(driver, call) if hasattr(driver, call) else driver.cuDevicePrimaryCtxSetFlags
    code = function(device, ctypes.c_uint(flags & ~_MASK | _FLAGS[wait]))
    if code:
        log.info("threads do not wait for the GPU by %r here: %s", wait.value, libcuda.error_name(driver, code))


def waits(driver: Any, index: int) -> Wait:
    """How the threads of this process wait for a GPU now. Raises RunFailed."""
    scheduling = _state(driver, index) & _MASK
    return next((wait for wait, flag in _FLAGS.items() if flag == scheduling), Wait.AUTO)


def _state(driver: Any, index: int) -> int:
    flags, active = ctypes.c_uint(), ctypes.c_int()
    code = driver.cuDevicePrimaryCtxGetState(_device(driver, index), ctypes.byref(flags), ctypes.byref(active))
    libcuda.check(driver, code, "cuDevicePrimaryCtxGetState")
    return flags.value


def _device(driver: Any, index: int) -> ctypes.c_int:
    device = ctypes.c_int()
    code = driver.cuDeviceGet(ctypes.byref(device), index)
    if code:
        raise RunFailed(
            f"there is no GPU {index}: {libcuda.error_name(driver, code)}", hint="nvidia-smi", code="TP4064"
        )
    return device
