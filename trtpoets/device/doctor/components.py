"""Findings about the parts of a machine: hardware, drivers, libraries, packages."""

from __future__ import annotations

from trtpoets.device.capability import version_of
from trtpoets.device.doctor import remedies
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.device.doctor.software import Software
from trtpoets.device.doctor.system import Jetson, System
from trtpoets.device.gpu.libcuda import Gpu

_TRAINING: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("TensorFlow", ("tensorflow", "tensorflow-cpu"), "retraining, export, the baseline"),
    ("tf2onnx", ("tf2onnx",), "export"),
    ("ONNX", ("onnx",), "checking ONNX files"),
    ("ONNX Runtime", ("onnxruntime", "onnxruntime-gpu"), "bottlenecks, quantising, scores on the CPU"),
)
"""Requirements of training: name, packages that provide it, purpose."""

_NOT_INSTALLED = "not installed"


def parts_of(system: System, software: Software) -> tuple[Finding, ...]:
    """The findings about all parts, in the order of their dependencies."""
    return (
        _python(system),
        Finding("system", State.READY, f"{system.name}, {system.architecture}"),
        Finding("CPU", State.READY, f"{system.cpu}, {system.cores} cores to use, {system.memory_gib:.0f} GiB"),
        *([_board(system.jetson)] if system.jetson else []),
        *_power(system),
        _gpu(system, software),
        *([_cuda(system, software)] if software.gpus else []),
        _tensorrt(system, software),
        _rtx(system, software),
        _pycuda(system, software),
        *_training(system, software),
    )


def _python(system: System) -> Finding:
    python = system.python
    kind = "its own virtual environment" if python.in_venv else "the system's"
    if python.in_venv and python.sees_system:
        kind = "a virtual environment that sees the system's packages"
    return Finding("Python", State.READY, f"{python.version}, {kind}")


def _board(jetson: Jetson) -> Finding:
    pack = jetson.jetpack
    if pack is None:
        board = f"{jetson.model}, L4T {jetson.l4t or 'unknown'}: a JetPack that is not in our table"
        return Finding("Jetson", State.DOUBTFUL, board, "", "update trtpoets: a later version may support it")
    board = f"{jetson.model}, L4T {jetson.l4t}: JetPack {pack.version} (TensorRT {pack.tensorrt}, CUDA {pack.cuda})"
    return Finding("Jetson", State.READY, board, "running engines")


def _power(system: System) -> list[Finding]:
    jetson = system.jetson
    if jetson and jetson.power_mode:
        fastest = jetson.full_power
        if fastest is None or jetson.power_mode == fastest.name:
            return [Finding("power", State.READY, jetson.power_mode, "speed")]
        hint = f"for full speed ({fastest.name}): sudo nvpmodel -m {fastest.number} && sudo jetson_clocks"
        return [Finding("power", State.DOUBTFUL, f"{jetson.power_mode}, which limits clocks", "speed", hint)]
    if system.governor == "powersave":
        hint = "for steady timings: sudo cpupower frequency-set -g performance"
        return [Finding("power", State.DOUBTFUL, "the CPU's governor is powersave", "speed", hint)]
    return [Finding("power", State.READY, f"the CPU's governor is {system.governor}")] if system.governor else []


def _gpu(system: System, software: Software) -> Finding:
    serves = "running engines; building TensorRT engines"
    if software.gpus:
        return Finding("NVIDIA GPU", State.READY, "; ".join(map(_named, software.gpus)), serves)
    hint = remedies.no_gpu(system, software)
    return Finding("NVIDIA GPU", State.MISSING if hint else State.IDLE, software.gpu_problem, serves, hint)


def _named(gpu: Gpu) -> str:
    number = "{}.{}".format(*gpu.compute_capability)
    return f"{gpu.title}, compute capability {number}, {gpu.memory_bytes / 2**30:.0f} GiB"


def _cuda(system: System, software: Software) -> Finding:
    toolkit = f"toolkit {system.toolkit}" if system.toolkit else "a toolkit" if system.nvcc else "no toolkit"
    versions = f"driver {software.driver or 'unknown'}, for CUDA up to {software.driver_cuda}; {toolkit}"
    return Finding("CUDA", State.READY, versions, "running engines; installing pycuda")


def _tensorrt(system: System, software: Software) -> Finding:
    serves = "engines for the GPU of this machine"
    library, mixed = software.tensorrt, remedies.mixed_cuda(software, "tensorrt")
    if mixed:
        return Finding("TensorRT", State.MISSING, mixed[0], serves, mixed[1])
    if not library.version:
        if not software.gpus and not system.jetson:
            return Finding("TensorRT", State.IDLE, "of no use without an NVIDIA GPU", serves)
        problem = _why(library.problem)
        if problem == _NOT_INSTALLED and system.system_tensorrt:
            problem = f"{system.system_tensorrt} is not seen by this Python"
        return Finding("TensorRT", State.MISSING, problem, serves, remedies.tensorrt(system, software))
    if not remedies.usable_tensorrt(software):
        problem = f"{library.version}, and trtpoets needs 8.5 or later"
        return Finding("TensorRT", State.MISSING, problem, serves, remedies.old_jetpack(system.jetson))
    pack = system.jetson.jetpack if system.jetson else None
    if pack and version_of(pack.tensorrt) != version_of(library.version):
        problem = f"{library.version}; JetPack {pack.version} brings {pack.tensorrt}"
        hint = remedies.foreign_tensorrt(system, software)
        return Finding("TensorRT", State.DOUBTFUL if hint else State.READY, problem, serves, hint)
    return Finding("TensorRT", State.READY, library.version, serves)


def _why(problem: str) -> str:
    """A short reason for the table."""
    return _NOT_INSTALLED if problem.startswith("No module named") else problem


def _rtx(system: System, software: Software) -> Finding:
    serves = "engines for RTX GPUs, built without one"
    library, mixed = software.rtx, remedies.mixed_cuda(software, "tensorrt-rtx")
    if mixed and software.gpus:
        return Finding("TensorRT-RTX", State.DOUBTFUL, mixed[0], serves, mixed[1])
    if library.version:
        return Finding("TensorRT-RTX", State.READY, f"{library.version}, for {', '.join(library.targets)}", serves)
    if system.jetson or system.architecture != "x86_64":
        return Finding("TensorRT-RTX", State.IDLE, "it builds for no Jetson", serves)
    return Finding("TensorRT-RTX", State.MISSING, _why(library.problem), serves, remedies.rtx(software))


def _pycuda(system: System, software: Software) -> Finding:
    serves, library = "running engines", software.pycuda
    if library.version:
        return Finding("pycuda", State.READY, f"{software.packages.get('pycuda', '')}, CUDA {library.version}", serves)
    if not software.gpus and not system.jetson:
        return Finding("pycuda", State.IDLE, "of no use without an NVIDIA GPU", serves)
    return Finding("pycuda", State.MISSING, _why(library.problem), serves, remedies.pycuda(system, software))


def _training(system: System, software: Software) -> list[Finding]:
    """The findings about packages for training. On a Jetson or with an old Python, missing ones are not reported."""
    elsewhere = system.jetson is not None or system.python.minor < remedies.OLDEST_PYTHON_TO_TRAIN
    findings = []
    for what, names, serves in _TRAINING:
        here = [name for name in names if name in software.packages]
        if here:
            text, hint = _package(what, here, software)
            state = State.DOUBTFUL if hint else State.READY
            if remedies.MODULES[what] in software.problems:
                state = State.MISSING
            findings.append(Finding(what, state, text, serves, hint))
        elif not elsewhere:
            findings.append(Finding(what, State.MISSING, _NOT_INSTALLED, serves, "pip install 'trtpoets[train]'"))
        elif what == "TensorFlow":
            findings.append(Finding(what, State.IDLE, "retrain on a PC, and bring the ONNX files", serves))
    return findings


def _package(what: str, here: list[str], software: Software) -> tuple[str, str]:
    """The text and the hint about the installed packages `here` of a requirement."""
    version = software.packages[here[0]]
    if len(here) > 1:
        conflict = f"{here[0]} and {here[1]} are both installed, and overwrite each other"
        return conflict, f"pip uninstall -y {' '.join(here)} && pip install {here[0]}"
    problem = software.problems.get(remedies.MODULES[what])
    if problem:
        return f"{version}, and it does not import: {problem}", f"pip install --force-reinstall {here[0]}"
    if what == "TensorFlow":
        return remedies.tensorflow(software, version)
    if what == "ONNX Runtime" and not software.providers:
        return f"{version}, and it does not import", f"pip install --force-reinstall {here[0]}"
    if what == "ONNX Runtime":
        return f"{version}; {', '.join(name.replace('ExecutionProvider', '') for name in software.providers)}", ""
    return version, ""
