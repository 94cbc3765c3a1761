"""The commands with which the doctor's hints fix problems."""

from __future__ import annotations

from trtpoets.core.shell_commands import command
from trtpoets.device.capability import version_of
from trtpoets.device.doctor.software import Software
from trtpoets.device.doctor.system import Jetson, System
from trtpoets.device.gpu.cuda_wheels import cuda_of_driver, wheels_for

OLDEST_TENSORRT = (8, 5)
"""The oldest supported TensorRT: since 8.5, tensors are addressed by name."""

OLDEST_PYTHON_TO_TRAIN = (3, 10)

MODULES = {"TensorFlow": "tensorflow", "tf2onnx": "tf2onnx", "ONNX": "onnx", "ONNX Runtime": "onnxruntime"}
"""Requirements of training, and their modules in `imports.NAMES`."""

_HEADERS = "sudo apt install -y build-essential python3-dev"
_SHARE = "python3 -m venv --system-site-packages .venv"


def usable_tensorrt(software: Software) -> bool:
    """Whether TensorRT can be loaded, is new enough, and matches the driver."""
    version = software.tensorrt.version
    return bool(version) and version_of(version) >= OLDEST_TENSORRT and mixed_cuda(software, "tensorrt") is None


def old_jetpack(jetson: Jetson | None) -> str:
    """The hint for a JetPack whose TensorRT is older than 8.5."""
    if jetson is None:
        return "install TensorRT 8.5 or later"
    jetpack = ["--jetpack", jetson.jetpack.version] if jetson.jetpack else []
    # The bundle needs other ONNX files: this TensorRT does not support uint8 inputs.
    bundle = f"on a PC, for trtexec: {command('bundle', 'NAME', '--for', 'jetson', *jetpack)}"
    if jetson.chip and jetson.chip.compute_capability < (7, 2):
        return bundle
    return f"flash JetPack 5.1 or later (TensorRT 8.5.2); until then, {bundle}"


def no_gpu(system: System, software: Software) -> str:
    """The hint if no GPU can be used; empty if the machine has none."""
    if system.jetson:
        return "in a container: start it with --runtime nvidia; on the board itself: sudo apt install -y nvidia-jetpack"
    if system.nvidia_card:
        return "sudo ubuntu-drivers install && sudo reboot"
    if software.driver:
        return software.gpu_hint
    return "where the host has a GPU: start the container with --gpus all" if system.container else ""


def mixed_cuda(software: Software, package: str) -> tuple[str, str] | None:
    """The problem of a TensorRT from PyPI with the driver and the command that fixes it; None if there is none.

    Wheels for CUDA 12 and CUDA 13 install the same modules, so only one may be installed. Those for CUDA
    13 need a driver for CUDA 13; those for CUDA 12 also run with later drivers.
    """
    here = [name for name in software.packages if name.startswith(f"{package}-cu")]
    majors = sorted({name[len(package) + 3 :].split("-")[0] for name in here})
    driver = _cuda_major(software)
    newest = int(majors[-1]) if majors else 0
    too_new, without_code = driver is not None and newest > driver, newest > wheels_for(None, software.gpus)
    if not majors or (len(majors) == 1 and not too_new and not without_code):
        return None
    if len(majors) > 1:
        problem = f"wheels for CUDA {' and '.join(majors)} are both installed, and overwrite each other"
    elif too_new:
        served = software.driver_cuda or f"CUDA {driver}"
        problem = f"{here[0]} needs a driver for CUDA {majors[0]}; this one serves {served}"
    else:
        problem = f"{here[0]} has nothing for this {software.gpus[0].name}: CUDA {majors[0]} begins at 7.5"
    rest = [name for name in (package,) if name in software.packages]
    return problem, f"pip uninstall -y {' '.join([*rest, *sorted(here)])} && pip install {_wheel(package, software)}"


def _wheel(package: str, software: Software) -> str:
    """The PyPI package that the driver and the GPU support, quoted for a command."""
    wheel = f"{package}-cu{wheels_for(_cuda_major(software), software.gpus)}"
    old = package == "tensorrt" and any(gpu.compute_capability < (7, 5) for gpu in software.gpus)
    return f"'{wheel}<10.5'" if old else wheel  # TensorRT 10.5 and later need compute capability 7.5


def _cuda_major(software: Software) -> int | None:
    return cuda_of_driver(software.driver_cuda, software.driver)


def tensorrt(system: System, software: Software) -> str:
    """The hint if TensorRT can't be imported."""
    if system.jetson:
        return _jetson_tensorrt(system, system.jetson)
    broken = [name for name in software.packages if name.startswith("tensorrt") and "rtx" not in name]
    if broken:
        return f"pip install --force-reinstall {' '.join(sorted(broken))}"
    major = _cuda_major(software)
    if major is not None and major < 12:
        return "update the driver to one for CUDA 12 or later: sudo ubuntu-drivers install && sudo reboot"
    return f"pip install {_wheel('tensorrt', software)}"


def rtx(software: Software) -> str:
    """The hint if TensorRT-RTX can't be imported."""
    major = _cuda_major(software)
    return f"pip install 'trtpoets[rtx{'' if major is None else f'-cu{wheels_for(major, software.gpus)}'}]'"


def _jetson_tensorrt(system: System, jetson: Jetson) -> str:
    python, pack = system.python, jetson.jetpack
    if pack and not pack.runs_trtpoets:
        return old_jetpack(jetson)
    if system.system_tensorrt is None:
        return "sudo apt update && sudo apt install -y nvidia-jetpack python3-libnvinfer"
    if pack and ".".join(map(str, python.minor)) != pack.python:
        return f"TensorRT is for the system's Python {pack.python}: /usr/bin/{_SHARE}"
    if python.in_venv and not python.sees_system:
        config = f"{python.prefix}/pyvenv.cfg"
        return f"sed -i 's/^include-system-site-packages.*/include-system-site-packages = true/' {config}"
    return "sudo apt install -y --reinstall python3-libnvinfer libnvinfer-bin"


def foreign_tensorrt(system: System, software: Software) -> str:
    """The hint for a TensorRT on a Jetson that is not from its JetPack; empty if that is supported."""
    pack = system.jetson.jetpack if system.jetson else None
    wheels = sorted(name for name in software.packages if name.startswith("tensorrt-cu"))
    return f"pip uninstall -y {' '.join(wheels)}" if wheels and pack and not pack.by_pip else ""


def pycuda(system: System, software: Software) -> str:
    """The hint if pycuda can't be imported: it is compiled with the CUDA toolkit."""
    again = " --force-reinstall --no-cache-dir" if "pycuda" in software.packages else ""
    install = f"pip install{again} pycuda"
    if system.nvcc:
        return f"{_HEADERS} && PATH={system.nvcc}:$PATH {install}"
    if system.jetson:
        return f"{_HEADERS} nvidia-jetpack && PATH=/usr/local/cuda/bin:$PATH {install}"
    return f"{_HEADERS} nvidia-cuda-toolkit && {install}"


def tensorflow(software: Software, version: str) -> tuple[str, str]:
    """The text about TensorFlow and the GPU, and the hint."""
    if not software.gpus:
        return f"{version}, on the CPU", ""
    if "tensorflow-cpu" in software.packages:
        return f"{version}, built for CPUs", "pip uninstall -y tensorflow-cpu && pip install 'tensorflow[and-cuda]'"
    if software.tensorflow_gpus:
        return f"{version}, sees the GPU", ""
    return f"{version}, does not see the GPU", "pip install 'tensorflow[and-cuda]'"
