"""The PCI bus id of a CUDA device, by which other libraries identify the same GPU.

CUDA numbers the GPUs by $CUDA_VISIBLE_DEVICES and $CUDA_DEVICE_ORDER, fastest first by default; NVML numbers all of the
machine by bus id and ignores both (CUDA C++ Programming Guide, "CUDA Environment Variables"; NVML API reference,
nvmlDeviceGetHandleByIndex). So indices of the two libraries differ, but the bus id is the same.
"""

from __future__ import annotations

import ctypes

from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda

_LENGTH = 32
"""Buffer size with the terminating 0; cuDeviceGetPCIBusId needs at least 13: "0000:3B:00.0" (cuda.h)."""


def cuda_bus_id(index: int = 0) -> str | None:
    """The PCI bus id of a CUDA device, such as "0000:3B:00.0"; None without a driver or if there is no such GPU.

    A MIG instance has the bus id of the whole GPU. Creates no CUDA context.
    """
    try:
        driver = libcuda.load_driver()
        device, text = libcuda.device_at(driver, index), ctypes.create_string_buffer(_LENGTH)
        libcuda.check(driver, driver.cuDeviceGetPCIBusId(text, _LENGTH, device), "cuDeviceGetPCIBusId")
    except RunFailed:
        return None
    return text.value.decode("ascii", "replace") or None
