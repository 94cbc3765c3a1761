"""Calls the CUDA driver through ctypes: properties of GPUs, and graph capture, which pycuda does not have."""

from __future__ import annotations

import ctypes
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Callable

from trtpoets.core.errors import RunFailed, TrtPoetsError
from trtpoets.core.system_files import l4t_release, system_text

_ROOT = Path("/")
"""The folder of the system's files."""

_MULTIPROCESSORS, _SHARES_MEMORY = 16, 18
"""CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT and _INTEGRATED of cuda.h."""

_THREAD_LOCAL = 1
"""CU_STREAM_CAPTURE_MODE_THREAD_LOCAL: allocations of other threads do not invalidate the capture."""

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_INTEGRATED, _CAN_MAP_HOST_MEMORY = 18, 19  # CU_DEVICE_ATTRIBUTE_*


@dataclass(frozen=True)
class Gpu:
    """The properties of a GPU.

    All Jetson Orin modules, from the AGX Orin with 16 multiprocessors to the Orin Nano with 4, have the name "Orin" and
    compute capability 8.7. They are distinguished by `multiprocessors` (None: unknown) and `board`: the model in the
    device tree if the GPU is `integrated`, else None; also None if it can't be read (in Docker).
    """

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    multiprocessors: int | None = None
    integrated: bool = False
    board: str | None = None

    @property
    def identity(self) -> tuple[str, str, int | None, int, str | None]:
        """The properties of the GPU that are part of the keys of engines and caches."""
        return self.name, self.target, self.multiprocessors, self.memory_gib, self.board

    @property
    def memory_gib(self) -> int:
        """The memory in whole GiB; for a Jetson the installed memory (4, 8, 16, ...), as the usable part varies."""
        if self.integrated:
            return 1 << max(self.memory_bytes - 1, 0).bit_length() >> 30
        return round(self.memory_bytes / 2**30)

    @property
    def title(self) -> str:
        """Its name, for a Jetson with SMs and model: "Orin (16 SMs, Jetson AGX Orin)"."""
        if not self.integrated:
            return self.name
        count = f"{self.multiprocessors or 'an unknown number of'} SMs"
        return f"{self.name} ({', '.join(filter(None, (count, self.board)))})"

    @property
    def target(self) -> str:
        """The compute capability in the form of engine targets: "sm86"."""
        return "sm{}{}".format(*self.compute_capability)


def load_driver() -> Any:
    """Load and initialise the CUDA driver library. Raises RunFailed with the reason if that fails."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise RunFailed(
            f"no NVIDIA driver here: {error}",
            hint="run it on a machine with an NVIDIA GPU and its driver",
            code="TP4065",
        ) from error
    code = driver.cuInit(0)
    if code:
        raise RunFailed(
            f"the NVIDIA driver does not start: {error_name(driver, code)}",
            hint="check with nvidia-smi; in a container, start it with --gpus all",
            code="TP4066",
        )
    return driver


def keeping_gil(driver: Any) -> Any:
    """The driver library for calls that keep the GIL: use it only for calls that return immediately.

    Releasing the GIL takes longer than such a call, and another thread may then hold it for milliseconds.
    """
    return ctypes.PyDLL(driver._name, handle=driver._handle)


def error_name(driver: Any, code: int) -> str:
    """The driver's name of an error code, such as CUDA_ERROR_NO_DEVICE."""
    text = ctypes.c_char_p()
    driver.cuGetErrorName(code, ctypes.byref(text))
    return text.value.decode() if text.value else f"error {code}"


def gpus() -> tuple[Gpu, ...]:
    """The GPUs that this process can use. Raises RunFailed if there is no working driver or no GPU."""
    driver = load_driver()
    count = ctypes.c_int()
    check(driver, driver.cuDeviceGetCount(ctypes.byref(count)), "cuDeviceGetCount")
    if not count.value:
        raise RunFailed(
            "the NVIDIA driver finds no GPU", hint="check nvidia-smi and CUDA_VISIBLE_DEVICES", code="TP4067"
        )
    return tuple(_gpu(driver, index) for index in range(count.value))


@dataclass(frozen=True)
class Detected:
    """What the driver reports: the GPUs that this process can use, and the newest CUDA version that it supports.

    Without a working driver or a GPU, `problem` is the reason.
    """

    gpus: tuple[Gpu, ...] = ()
    cuda: str | None = None
    problem: TrtPoetsError | None = None


def detect() -> Detected:
    """Detect the GPUs of this machine. Raises nothing; `gpus` is for callers that need a GPU."""
    usable: tuple[Gpu, ...] = ()
    try:
        usable = gpus()
        return Detected(usable, cuda_version())
    except TrtPoetsError as error:
        return Detected(usable, problem=error)


def device_at(driver: Any, index: int) -> ctypes.c_int:
    """The driver's handle of the GPU with this index. Raises RunFailed."""
    device = ctypes.c_int()
    check(driver, driver.cuDeviceGet(ctypes.byref(device), index), "cuDeviceGet")
    return device


def _gpu(driver: Any, index: int) -> Gpu:
    device, memory = device_at(driver, index), ctypes.c_size_t()
    name = ctypes.create_string_buffer(256)
    check(driver, driver.cuDeviceGetName(name, len(name), device), "cuDeviceGetName")
    check(driver, driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device), "cuDeviceTotalMem")

    def attribute(which: int) -> int:
        value = ctypes.c_int()
        check(driver, driver.cuDeviceGetAttribute(ctypes.byref(value), which, device), "cuDeviceGetAttribute")
        return value.value

    integrated = bool(attribute(_SHARES_MEMORY))
    return Gpu(
        name.value.decode("utf-8", "replace"),
        (attribute(_MAJOR), attribute(_MINOR)),
        memory.value,
        attribute(_MULTIPROCESSORS) or None,
        integrated,
        (system_text(_ROOT / "proc/device-tree/model") or None) if integrated else None,
    )


def cuda_version() -> str:
    """The newest CUDA version that the driver supports, such as "12.6". Raises RunFailed if there is no driver."""
    driver = load_driver()
    number = ctypes.c_int()
    check(driver, driver.cuDriverGetVersion(ctypes.byref(number)), "cuDriverGetVersion")
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def driver_version() -> str | None:
    """The driver's own version: "550.54.15" on a desktop or server, "L4T R36.4.3" on a Jetson; None without one.

    Jetsons since Orin also have the kernel module's file ("NVRM version: NVIDIA UNIX Open Kernel Module for
    aarch64  540.4.0"), so the Jetson's own file is read first.
    """
    release = l4t_release(system_text(_ROOT / "etc/nv_tegra_release"))
    return "L4T R" + ".".join(map(str, release)) if release else module_version()


def module_version(root: Path | None = None) -> str | None:
    """The version of NVIDIA's kernel module, such as "570.133.20"; None if there is none, as on Jetsons before Orin.

    `root` is the folder of the system's files.
    """
    text = system_text((root or _ROOT) / "proc/driver/nvidia/version")
    match = re.search(r"Kernel Module.*?\s(\d+(?:\.\d+)+)", text)
    return match.group(1) if match else None


def check(driver: Any, code: int, call: str) -> None:
    """Raise RunFailed if a driver call failed."""
    if code:
        raise RunFailed(
            f"{call} failed: {error_name(driver, code)}", hint="check the GPU with nvidia-smi", code="TP4068"
        )


def pop_context(driver: Any) -> None:
    """Pop the top context of the calling thread's stack."""
    popped = ctypes.c_void_p()
    check(driver, driver.cuCtxPopCurrent_v2(ctypes.byref(popped)), "cuCtxPopCurrent")


def maps_host_memory(driver: Any, index: int) -> bool:
    """Whether GPU and CPU share memory and the GPU can map host memory, so that no copies are needed (zero-copy).

    A discrete GPU accesses host memory over PCIe each time, so one copy is faster there (CUDA for Tegra, memory
    management; CU_DEVICE_ATTRIBUTE_INTEGRATED and _CAN_MAP_HOST_MEMORY).
    """
    device, value = device_at(driver, index), ctypes.c_int()
    for which in (_INTEGRATED, _CAN_MAP_HOST_MEMORY):
        check(driver, driver.cuDeviceGetAttribute(ctypes.byref(value), which, device), "cuDeviceGetAttribute")
        if not value.value:
            return False
    return True


class CudaGraph:
    """An instantiated CUDA graph, which can be launched on a stream. `close` frees it.

    It contains the addresses and shapes of the capture: capture again if they change.
    """

    def __init__(self, driver: Any, executable: ctypes.c_void_p) -> None:
        self._driver = driver
        self._executable = executable

    def launch(self, stream: int) -> None:
        """Queue the whole graph on the stream. Raises RunFailed."""
        check(self._driver, self._driver.cuGraphLaunch(self._executable, ctypes.c_void_p(stream)), "cuGraphLaunch")

    def launcher(self, stream: int) -> Callable[[], int]:
        """A function that launches the graph on a stream and returns the driver's code (0: success)."""
        return partial(keeping_gil(self._driver).cuGraphLaunch, self._executable, ctypes.c_void_p(stream))

    def close(self) -> None:
        """Free the graph. Call it only once."""
        self._driver.cuGraphExecDestroy(self._executable)


def capture(driver: Any, stream: int, enqueue: Callable[[], None]) -> CudaGraph:
    """Capture the work that `enqueue` queues on the stream without running it. Raises RunFailed if that fails.

    The capture is always ended, so that the stream remains usable. Run the same shapes once before.
    """
    handle, graph = ctypes.c_void_p(stream), ctypes.c_void_p()
    check(driver, driver.cuStreamBeginCapture_v2(handle, _THREAD_LOCAL), "cuStreamBeginCapture")
    try:
        enqueue()
    except BaseException:
        driver.cuStreamEndCapture(handle, ctypes.byref(graph))
        if graph.value:
            driver.cuGraphDestroy(graph)
        raise
    check(driver, driver.cuStreamEndCapture(handle, ctypes.byref(graph)), "cuStreamEndCapture")
    executable = ctypes.c_void_p()
    try:
        check(driver, _instantiate(driver, executable, graph), "cuGraphInstantiate")
    finally:
        driver.cuGraphDestroy(graph)
    return CudaGraph(driver, executable)


def _instantiate(driver: Any, executable: ctypes.c_void_p, graph: ctypes.c_void_p) -> int:
    if hasattr(driver, "cuGraphInstantiateWithFlags"):  # CUDA 11.4 and later
        return int(driver.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_ulonglong(0)))
    return int(driver.cuGraphInstantiate(ctypes.byref(executable), graph, None, None, ctypes.c_size_t(0)))
