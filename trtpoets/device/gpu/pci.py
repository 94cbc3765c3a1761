"""Where on the PCI bus the GPU is that CUDA calls device 0: what other libraries know it by.

CUDA numbers the GPUs by $CUDA_VISIBLE_DEVICES and $CUDA_DEVICE_ORDER, fastest first by default; NVML numbers all of the
machine by bus id and reads neither (CUDA C++ Programming Guide, "CUDA Environment Variables"; NVML API reference,
nvmlDeviceGetHandleByIndex). So an index of one library is no index of the other; the bus id is the same in both.
"""

from __future__ import annotations

import ctypes

from trtpoets.core.errors import RunFailed
from trtpoets.device.gpu import libcuda

_LENGTH = 32
"""Characters, the 0 at the end included; cuDeviceGetPCIBusId asks for 13 at least: "0000:3B:00.0" (cuda.h)."""


def cuda_bus_id(index: int = 0) -> str | None:
    """The PCI bus id of a CUDA device of this process, as "0000:3B:00.0"; None without a driver or without that GPU.

    An instance of a GPU that MIG divides has the bus id of the whole GPU. This makes no CUDA context.
    """
    try:
        driver = libcuda.load_driver()
        device, text = ctypes.c_int(), ctypes.create_string_buffer(_LENGTH)
        libcuda.check(driver, driver.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
        libcuda.check(driver, driver.cuDeviceGetPCIBusId(text, _LENGTH, device), "cuDeviceGetPCIBusId")
    except RunFailed:
        return None
    return text.value.decode("ascii", "replace") or None
