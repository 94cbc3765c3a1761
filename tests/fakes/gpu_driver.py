"""libcuda of the fake GPU: the calls that `device/gpu/libcuda.py` makes through ctypes."""

from __future__ import annotations

import ctypes
import threading
from typing import Any

from tests.fakes.gpu import FakeGpu, Queue

_ERRORS = {
    100: b"CUDA_ERROR_NO_DEVICE",
    101: b"CUDA_ERROR_INVALID_DEVICE",
    700: b"CUDA_ERROR_ILLEGAL_ADDRESS",
    708: b"CUDA_ERROR_PRIMARY_CONTEXT_ACTIVE",
    900: b"CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
}


class FakeDriver:
    """libcuda through ctypes: the calls of `libcuda.py`."""

    def __init__(self, gpu: FakeGpu, *, old: bool = False) -> None:
        self.gpu = gpu
        # CUDA before 11.4 has this function under another name, with more arguments; before 11.0, flags have no _v2.
        setattr(self, "cuGraphInstantiate" if old else "cuGraphInstantiateWithFlags", self._instantiate)
        second = "" if gpu.cuda < 11000 else "_v2"
        setattr(self, f"cuDevicePrimaryCtxSetFlags{second}", self._set_flags)

    def cuInit(self, flags: int) -> int:
        return 0

    def cuGetErrorName(self, code: int, text: Any) -> int:
        text._obj.value = _ERRORS.get(code)
        return 0

    def cuDriverGetVersion(self, number: Any) -> int:
        number._obj.value = self.gpu.cuda
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:
        device._obj.value = index
        return 101 if index else 0

    def cuDeviceGetPCIBusId(self, text: Any, length: int, device: Any) -> int:
        text.value = b"0000:3B:00.0"
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:
        name.value = b"Paper GPU"
        return 0

    def cuDeviceTotalMem_v2(self, memory: Any, device: Any) -> int:
        memory._obj.value = 8 << 30
        return 0

    def cuDeviceGetAttribute(self, value: Any, which: int, device: Any) -> int:
        value._obj.value = {16: 28, 18: int(self.gpu.integrated), 19: 1, 75: 8, 76: 6}[which]
        return 0

    def cuDevicePrimaryCtxGetState(self, device: ctypes.c_int, flags: Any, active: Any) -> int:
        self.gpu.rule(isinstance(device, ctypes.c_int), "a device is passed by its index")
        flags._obj.value, active._obj.value = self.gpu.wait_flags, int(self.gpu.holds > 0)
        return 0

    def _set_flags(self, device: ctypes.c_int, flags: ctypes.c_uint) -> int:
        if self.gpu.holds and self.gpu.cuda < 11000:
            return 708
        self.gpu.rule(flags.value & 7 in (0, 1, 2, 4), "more than one way to wait")
        self.gpu.journal.append(f"wait flags {flags.value}")
        self.gpu.wait_flags = flags.value
        return 0

    def cuCtxGetCurrent(self, context: Any) -> int:
        stack = self.gpu.stacks.driver
        context._obj.value = stack[-1].number if stack else None
        return 0

    def cuCtxPushCurrent_v2(self, context: ctypes.c_void_p) -> int:
        primary = self.gpu.primary
        self.gpu.rule(context.value == primary.number and primary.alive, "a context that does not exist is pushed")
        self.gpu.stacks.driver.append(primary)
        self.gpu.journal.append("push driver")
        return 0

    def cuStreamSynchronize(self, stream: ctypes.c_void_p) -> int:
        self.gpu.finish(self._queue(stream).handle)
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: ctypes.c_int) -> int:
        self.gpu.rule(isinstance(device, ctypes.c_int), "a device is passed by its index")
        self.gpu.retain()
        context._obj.value = self.gpu.primary.number
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:
        self.gpu.let_go()
        self.gpu.journal.append("release")
        return 0

    def cuCtxPopCurrent_v2(self, context: Any) -> int:
        self.gpu.rule(bool(self.gpu.stacks.driver), "a context is popped off an empty stack")
        top = self.gpu.stacks.driver[-1:]
        self.gpu.rule(not top or top[0].alive, "a context is popped after it was released")
        self.gpu.stacks.driver.pop()
        self.gpu.journal.append("pop driver")
        return 0

    def cuStreamBeginCapture_v2(self, stream: ctypes.c_void_p, mode: int) -> int:
        self.gpu.current("begin capture")
        self.gpu.rule(mode == 1, "other threads would spoil a capture that is not thread-local")
        queue = self._queue(stream)
        self.gpu.rule(not self.gpu.capturing, "a capture is begun within a capture")
        queue.captured, queue.capturer = [], threading.get_ident()
        return 0

    def cuStreamEndCapture(self, stream: ctypes.c_void_p, graph: Any) -> int:
        self.gpu.current("end capture")
        queue = self._queue(stream)
        recorded, queue.captured = queue.captured, None
        self.gpu.rule(recorded is not None, "a capture is ended that was not begun")
        if self.gpu.fail_capture:
            return 900
        graph._obj.value = self._keep(recorded)
        return 0

    def _instantiate(self, executable: Any, graph: ctypes.c_void_p, *flags: Any) -> int:
        self.gpu.current("instantiate")
        executable._obj.value = self._keep(self.gpu.graphs[self._known(graph)])
        return 0

    def cuGraphDestroy(self, graph: ctypes.c_void_p) -> int:
        return self._destroy(graph, "graph")

    def cuGraphExecDestroy(self, executable: ctypes.c_void_p) -> int:
        self.gpu.idle("a graph is freed", executable.value or 0)
        return self._destroy(executable, "executable")

    def cuGraphLaunch(self, executable: ctypes.c_void_p, stream: ctypes.c_void_p) -> int:
        known = self._known(executable)
        work = self.gpu.graphs[known]
        queue = self._queue(stream)
        self.gpu.current("launch")
        self.gpu.rule(queue.captured is None, "a graph is launched into a capture")
        for item in work:
            self.gpu.queue(queue, item, "launch", known)
        return 0

    def _keep(self, work: Any) -> int:
        handle = self.gpu.number()
        self.gpu.graphs[handle] = work
        self.gpu.alive.append(handle)
        return handle

    def _known(self, handle: ctypes.c_void_p) -> int:
        self.gpu.rule(handle.value in self.gpu.graphs, "a freed graph is used")
        assert handle.value is not None
        return handle.value

    def _destroy(self, handle: ctypes.c_void_p, what: str) -> int:
        known = self._known(handle)
        self.gpu.current(f"destroy {what}")
        self.gpu.alive.remove(known)
        del self.gpu.graphs[known]
        return 0

    def _queue(self, stream: ctypes.c_void_p) -> Queue:
        self.gpu.rule(stream.value in self.gpu.queues, "a stream that is not one of ours")
        assert stream.value is not None
        return self.gpu.queues[stream.value]
