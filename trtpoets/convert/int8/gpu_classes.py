"""Tables the GPUs for which times are estimated: the Jetson modules, and the T4 that `layer_costs` uses.

The numbers of CUDA cores and tensor cores, clocks and bandwidths are those of NVIDIA's data sheets for the largest
version of each module at its highest clock. Rates follow from them: a CUDA core takes one multiply-add in FP32 per
clock, two in FP16 and, where it has DP4A, four in INT8. A tensor core of Volta takes 64 multiply-adds in FP16 per
clock, one of Orin 256, and twice as many in INT8. For Thor, 2,070 TFLOPS in sparse FP4 are divided by two for each of
sparsity, FP8 and FP16. Nothing has been measured on these modules; real times are longer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from trtpoets.convert.int8.layer_costs import T4, GpuClass

_KERNEL_SECONDS = 5e-6
"""Seconds that a kernel takes besides its work on a Jetson: an assumption."""


def _jetson(
    name: str, cores: int, clock: float, bandwidth: float, tensor_rate: float = 0.0, *, int8: bool = True
) -> GpuClass:
    """Return a module at a `clock` in Hz. `tensor_rate` are multiply-adds per second in FP16; 0 without tensor cores.

    Without `int8`, INT8 is not faster than FP16 on it.
    """
    rate = cores * clock
    vector = {2: 2 * rate, 1: (4 if int8 else 2) * rate}
    tensor = {2: tensor_rate, 1: 2 * tensor_rate} if tensor_rate else vector
    return GpuClass(name, bandwidth, tensor, vector, _KERNEL_SECONDS, batch=1)


GPU_CLASSES: Mapping[str, GpuClass] = MappingProxyType(
    {
        "nano": _jetson("Jetson Nano", 128, 0.92e9, 25.6e9, int8=False),
        "tx1": _jetson("Jetson TX1", 256, 1.0e9, 25.6e9, int8=False),
        "tx2": _jetson("Jetson TX2", 256, 1.3e9, 59.7e9, int8=False),
        "xavier-nx": _jetson("Jetson Xavier NX", 384, 1.1e9, 59.7e9, 48 * 64 * 1.1e9),
        "agx-xavier": _jetson("Jetson AGX Xavier", 512, 1.377e9, 136.5e9, 64 * 64 * 1.377e9),
        "orin-nano": _jetson("Jetson Orin Nano", 1024, 0.625e9, 68e9, 32 * 256 * 0.625e9),
        "orin-nx": _jetson("Jetson Orin NX", 1024, 0.918e9, 102.4e9, 32 * 256 * 0.918e9),
        "agx-orin": _jetson("Jetson AGX Orin", 2048, 1.3e9, 204.8e9, 64 * 256 * 1.3e9),
        "agx-thor": _jetson("Jetson AGX Thor", 2560, 1.575e9, 273e9, 2070e12 / 2 / 2 / 2 / 2 / 2),
        "t4": replace(T4, batch=1),
    }
)
"""GPUs at batch 1 by the names of `--board`."""
