"""Sets how threads wait for the GPU: a flag of the primary context, which all libraries of a process share."""

from __future__ import annotations

import ctypes
import logging
from enum import Enum
from typing import Any

from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda

log = logging.getLogger(__name__)

_MASK = 7
"""CU_CTX_SCHED_MASK. Other bits of the flags are left unchanged."""


class Wait(Enum):
    """How a thread waits for the GPU: CU_CTX_SCHED_* of cuDevicePrimaryCtxSetFlags."""

    AUTO = "auto"
    """CUDA chooses: it spins if there are no more contexts than cores; on a Jetson, by the power profile."""
    SPIN = "spin"
    """Busy waiting: lowest latency, one core fully used. For measurements."""
    YIELD = "yield"
    """Busy waiting that yields to other threads."""
    BLOCKING = "blocking"
    """The thread sleeps until the GPU has finished: tens of microseconds slower, no core used. For cameras."""


_FLAGS = {Wait.AUTO: 0, Wait.SPIN: 1, Wait.YIELD: 2, Wait.BLOCKING: 4}


def set_wait(driver: Any, index: int, wait: Wait) -> None:
    """Set how the threads of this process wait for a GPU. Call it before the primary context is retained.

    Up to CUDA 10.2 the flags of an active context can't be changed (CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE); since 11.0 they
    can (cuDevicePrimaryCtxSetFlags "overwrites previously set flags"). A refusal is logged; `waits` returns the mode in
    effect. Raises RunFailed if the GPU does not exist.
    """
    device, flags = _device(driver, index), _state(driver, index)
    if flags & _MASK == _FLAGS[wait]:
        return
    call = "cuDevicePrimaryCtxSetFlags_v2"  # 11.0 and later
    function = getattr(driver, call) if hasattr(driver, call) else driver.cuDevicePrimaryCtxSetFlags
    code = function(device, ctypes.c_uint(flags & ~_MASK | _FLAGS[wait]))
    if code:
        log.info("the wait mode %r could not be set: %s", wait.value, libcuda.error_name(driver, code))


def waits(driver: Any, index: int) -> Wait:
    """The current wait mode of this process for a GPU. Raises RunFailed."""
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
