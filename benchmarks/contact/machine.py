"""Identifies the machine. This question runs first, in a child process, because a broken driver may crash it."""

from __future__ import annotations

from typing import Any

from contact.question_inputs import QuestionInputs
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.optional import installed
from trtpoets.core.serialization import to_json
from trtpoets.core.types import Flavour
from trtpoets.device.gpu.libcuda import cuda_version, driver_version, gpus
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.judge.bench.conditions import conditions


def describe_machine(inputs: QuestionInputs) -> dict[str, Any]:
    """Return the GPU's name, the conditions, and the setting, which is the same for all answers in a file."""
    try:
        devices, problem = gpus(), ""
    except TrtPoetsError as error:
        devices, problem = (), error.message
    libraries = {}
    for flavour in Flavour:
        try:
            libraries[flavour.value] = load_tensorrt(flavour).version
        except TrtPoetsError:
            libraries[flavour.value] = None
    now = to_json(conditions())
    setting = {
        "trtpoets": now["versions"].get("trtpoets"),
        "target": devices[0].target if devices else None,
        "driver": driver_version(),
        "cuda": cuda_version() if devices else None,
        **libraries,
        "pycuda": installed(["pycuda"]).get("pycuda"),
        "torch": installed(["torch"]).get("torch"),
        "power_mode": (now["jetson"] or {}).get("power_mode"),
    }
    return {"gpu": devices[0].name if devices else "", "problem": problem, "conditions": now, "setting": setting}
