"""Which machine it is: asked first, in a process of its own, as a driver that is broken may end it."""

from __future__ import annotations

from typing import Any

from contact.asked import Given
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.optional import installed
from trtpoets.core.types import Flavour
from trtpoets.device.gpu.libcuda import cuda_version, driver_version, gpus
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.judge.bench.conditions import conditions


def look(given: Given) -> dict[str, Any]:
    """The GPU's name, the conditions, and the setting: what has to be equal for answers to stand in one file."""
    try:
        found, problem = gpus(), ""
    except TrtPoetsError as error:
        found, problem = (), error.message
    libraries = {}
    for flavour in Flavour:
        try:
            libraries[flavour.value] = load_tensorrt(flavour).version
        except TrtPoetsError:
            libraries[flavour.value] = None
    now = conditions()
    setting = {
        "trtpoets": now["versions"].get("trtpoets"),
        "target": found[0].target if found else None,
        "driver": driver_version(),
        "cuda": cuda_version() if found else None,
        **libraries,
        "pycuda": installed(["pycuda"]).get("pycuda"),
        "torch": installed(["torch"]).get("torch"),
        "power_mode": (now["jetson"] or {}).get("power_mode"),
    }
    return {"gpu": found[0].name if found else "", "problem": problem, "conditions": now, "setting": setting}
