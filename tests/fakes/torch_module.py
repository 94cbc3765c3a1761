"""The part of PyTorch that `benchmarks/contact/torch_session.py` uses, over the fake GPU.

Every operation is queued on the current stream, or captured with it; using another stream breaks a rule. It was not
compared with PyTorch on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from tests.fakes.gpu import FakeGpu


class Tensor:
    """An array of its own or at a GPU address; `get` returns its values when the work is done."""

    def __init__(self, torch: Any, get: Callable[[], np.ndarray], shape: tuple[int, ...], address: int = 0) -> None:
        self.torch, self.get, self.shape, self.address = torch, get, tuple(shape), address

    def view(self, shape: tuple[int, ...]) -> Tensor:
        return Tensor(self.torch, lambda: self.get().reshape(shape), shape, self.address)

    def copy_(self, other: Tensor) -> None:
        assert self.shape == other.shape
        self.torch.queue("copy", lambda: np.copyto(self.get(), other.get(), casting="unsafe"), self, other)

    def relu_(self) -> None:
        self.torch.queue("relu", lambda: np.maximum(self.get(), 0, out=self.get()), self)

    def __truediv__(self, number: float) -> Tensor:
        result = self.get() / number
        return Tensor(self.torch, lambda: result, self.shape)


def fake_torch(gpu: FakeGpu) -> Any:
    """The module `torch`."""
    module: Any = ModuleType("torch")
    streams: list[int] = []

    def queue(what: str, do: Callable[[], Any], *tensors: Tensor) -> None:
        gpu.rule(bool(streams), f"{what} on PyTorch's own stream")
        gpu.submit(streams[-1], what, do, *(tensor.address for tensor in tensors if tensor.address))

    def tensor_of(array: np.ndarray) -> Tensor:
        gpu.rule(not gpu.capturing, "PyTorch allocates while this thread captures a graph")
        return Tensor(module, lambda: array, array.shape)

    def as_tensor(thing: Any, device: str) -> Tensor:
        interface = thing.__cuda_array_interface__
        (address, read_only), shape, kind = (
            interface["data"],
            interface["shape"],
            np.dtype(interface["typestr"]),
        )
        gpu.rule(not read_only and interface["version"] == 3, "not the CUDA array interface")
        size = int(np.prod(shape)) * kind.itemsize
        return Tensor(module, lambda: gpu.at(address, size).view(kind).reshape(shape), shape, address)

    def product(one: Tensor, other: Tensor, out: Tensor) -> None:
        queue("mm", lambda: np.copyto(out.get(), one.get() @ other.get()), one, other, out)

    def softmax(values: Tensor, dim: int, out: Tensor) -> None:
        def do() -> None:
            powers = np.exp(values.get() - values.get().max(axis=dim, keepdims=True))
            out.get()[:] = powers / powers.sum(axis=dim, keepdims=True)

        queue("softmax", do, values, out)

    @contextmanager
    def stream(handle: int) -> Iterator[None]:
        streams.append(handle)
        try:
            yield
        finally:
            streams.pop()

    seeded = [np.random.default_rng(0)]
    module.queue, module.as_tensor, module.mm, module.softmax, module.no_grad = (
        *(queue, as_tensor, product, softmax),
        nullcontext,
    )
    module.float16, module.float32 = np.float32, np.float32
    module.manual_seed = lambda seed: seeded.__setitem__(0, np.random.default_rng(seed))
    module.randn = lambda shape, device, dtype: tensor_of(np.asarray(seeded[0].normal(size=shape)).astype(dtype))
    module.empty = lambda shape, device, dtype: tensor_of(np.zeros(shape, dtype))
    module.zeros = lambda count, device: tensor_of(np.zeros(count))
    module.cuda = SimpleNamespace(
        is_available=lambda: True, stream=stream, ExternalStream=lambda handle: handle, empty_cache=lambda: None
    )
    return module
