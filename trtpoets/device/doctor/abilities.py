"""Findings about what works on a machine: training, building and running engines, with hints for what does not."""

from __future__ import annotations

from typing import Iterable, Mapping

from trtpoets.core.types import Flavour, Precision
from trtpoets.device.capability import fast_types_of, least_capability, opset_ceiling
from trtpoets.device.doctor import remedies
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.software import Software
from trtpoets.device.doctor.system import System
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.jetson.jetpack import has_dla

_PACKAGES = {
    "TensorFlow": ("tensorflow", "tensorflow-cpu"),
    "tf2onnx": ("tf2onnx",),
    "ONNX": ("onnx",),
    "ONNX Runtime": ("onnxruntime", "onnxruntime-gpu"),
}


def works_of(system: System, software: Software, parts: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings about commands. Hints are taken from the findings `parts`."""
    hints = {part.what: part.hint for part in parts}
    return (
        _retrains(system, software, hints),
        _builds(system, software, hints),
        _builds_rtx(software),
        _runs(system, software, hints),
        _scores(system, software),
    )


def _retrains(system: System, software: Software, hints: Mapping[str, str]) -> Finding:
    what, serves = "retrain, export, quantize", "trtpoets run"
    lacking = [name for name, packages in _PACKAGES.items() if not set(packages) & software.packages.keys()]
    if system.python.minor < remedies.OLDEST_PYTHON_TO_TRAIN:
        reason = f"not with Python {system.python.version}: on a PC, with 3.10 or later"
        return Finding(what, State.IDLE, reason, serves)
    if lacking and system.jetson:
        return Finding(what, State.IDLE, "on a PC: bring the ONNX files here, and build", serves)
    if lacking:
        return Finding(what, State.MISSING, f"no {', '.join(lacking)}", serves, "pip install 'trtpoets[train]'")
    broken = [name for name, module in remedies.MODULES.items() if module in software.problems]
    if broken:
        reason = f"{', '.join(broken)}: installed, and {'does' if len(broken) == 1 else 'do'} not import"
        return Finding(what, State.MISSING, reason, serves, next(hints[name] for name in broken))
    return Finding(what, State.READY, "on the GPU" if software.tensorflow_gpus else "on the CPU", serves)


def _builds(system: System, software: Software, hints: Mapping[str, str]) -> Finding:
    what, serves = "build TensorRT engines", "trtpoets build"
    lacking = ["NVIDIA GPU"] * (not software.gpus) + ["TensorRT"] * (not remedies.usable_tensorrt(software))
    if lacking:
        return _lacks(what, serves, system, software, lacking, hints)
    version, gpu = software.tensorrt.version, software.gpus[0]
    least = least_capability(Flavour.TENSORRT, version)
    if least and gpu.compute_capability < least:
        number, oldest = ("{}.{}".format(*capability) for capability in (gpu.compute_capability, least))
        reason = f"TensorRT {version} begins at compute capability {oldest}, this GPU has {number}"
        return Finding(what, State.MISSING, reason, serves, "use an older TensorRT, or a newer GPU")
    ceiling = opset_ceiling(Flavour.TENSORRT, version)
    upto = f"; ONNX operator sets up to {ceiling}" if ceiling else ""
    return Finding(what, State.READY, f"{_precisions(gpu)}{upto}{_accelerator(system)}", serves)


def _lacks(
    what: str, serves: str, system: System, software: Software, lacking: list[str], hints: Mapping[str, str]
) -> Finding:
    """The finding for a missing requirement: MISSING with the first hint if it can be installed, else IDLE."""
    reason = f"needs {' and '.join('an ' + name if name == 'NVIDIA GPU' else name for name in lacking)}"
    hint = next((hints[name] for name in lacking if hints.get(name)), "")
    if hint and (software.gpus or system.jetson or system.nvidia_card):
        return Finding(what, State.MISSING, reason, serves, hint)
    return Finding(what, State.IDLE, reason, serves)


def _precisions(gpu: Gpu) -> str:
    able = fast_types_of(gpu.compute_capability)
    none = [precision.value for precision in Precision if not able.has(precision)]
    return ", ".join(precision.value for precision in able.precisions) + (
        f"; no gain from {', '.join(none)}" if none else ""
    )


def _accelerator(system: System) -> str:
    jetson = system.jetson
    if jetson is None or jetson.chip is None or jetson.jetpack is None:
        return ""
    return "; DLA" if jetson.jetpack.dla and has_dla(jetson.chip, jetson.model) else "; no DLA"


def _builds_rtx(software: Software) -> Finding:
    what, serves = "build RTX engines", "trtpoets build --flavour rtx"
    if not software.rtx.version:
        return Finding(what, State.IDLE, "needs TensorRT-RTX", serves)
    able = ", ".join(precision.value for precision in Precision)
    return Finding(what, State.READY, f"{able}; without a GPU, and not for Jetsons or Hopper", serves)


def _runs(system: System, software: Software, hints: Mapping[str, str]) -> Finding:
    what, serves = "run engines", "trtpoets label, evaluate, bench"
    if not software.gpus:
        return _lacks(what, serves, system, software, ["NVIDIA GPU"], hints)
    gpu = software.gpus[0]
    flavours = ["TensorRT"] * remedies.usable_tensorrt(software)
    if gpu.target in software.rtx.targets and not remedies.mixed_cuda(software, "tensorrt-rtx"):
        flavours.append("TensorRT-RTX")
    lacking = ["TensorRT"] * (not flavours) + ["pycuda"] * (not software.pycuda.version)
    if lacking:
        return _lacks(what, serves, system, software, lacking, hints)
    return Finding(what, State.READY, f"{' and '.join(flavours)}, on {gpu.name}", serves)


def _scores(system: System, software: Software) -> Finding:
    what, serves = "run ONNX files on the CPU", "trtpoets label, evaluate, bench"
    if software.providers:
        return Finding(what, State.READY, ", ".join(precision.value for precision in Precision), serves)
    hint = "" if system.jetson else "pip install onnxruntime"
    return Finding(what, State.MISSING if hint else State.IDLE, "needs ONNX Runtime", serves, hint)
