"""PyTorch's kernels with the interface of TensorRtSession: a stand-in where there is no TensorRT for a GPU.

They run on our stream (torch.cuda.ExternalStream) and read and write our addresses (the CUDA array interface), in the
primary context, as an engine does. All memory is allocated when a shape is set: a capture records kernels alone.
"""

from __future__ import annotations

from typing import Any

from contact.asked import NotAnswered
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, BatchRange

TITLE = "PyTorch's kernels (no TensorRT for this GPU is here)"

SIDE, CLASSES = 224, 1000
"""Of photos and scores: what many networks take and give."""

NARROW, WIDTH, LAYERS = 256, 2048, 20
"""Of the matrices in between: about as long as a small network takes."""


def need_torch() -> Any:
    """The module torch. Raises NotAnswered where there is none, or it sees no GPU."""
    try:
        import torch
    except ImportError as error:
        raise NotAnswered("PyTorch, whose kernels could stand in for an engine, is not installed") from error
    if not torch.cuda.is_available():
        raise NotAnswered("PyTorch, whose kernels could stand in for an engine, sees no GPU")
    return torch


class _Address:
    """Memory of the GPU as other libraries take it: __cuda_array_interface__, version 3."""

    def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"data": (address, False), "shape": shape, "typestr": kind, "version": 3}


class TorchSession:
    """See TensorRtSession: the words are the same. One set of weights, any number of contexts."""

    captures_itself = False
    shares_memory = False
    several_contexts = True
    memory_bytes = 0

    def __init__(
        self,
        library: Any,
        plan: bytes,
        cache: Any = None,
        *,
        graphs: bool = True,
        host_code: bool = False,
        dla_core: Any = None,
    ) -> None:
        torch = self.torch = need_torch()
        torch.manual_seed(0)
        half = {"device": "cuda", "dtype": torch.float16}
        self.first = torch.randn((SIDE * SIDE * 3, NARROW), **half) / 4096
        self.into = torch.randn((NARROW, WIDTH), **half) / 16
        self.middle = torch.randn((WIDTH, WIDTH), **half) / WIDTH**0.5
        self.last = torch.randn((WIDTH, CLASSES), **half) / WIDTH**0.5

    @property
    def batch(self) -> BatchRange:
        """As the stand-in's card says."""
        from contact.networks import BATCH

        return BATCH

    def new_context(self, memory: int = 0) -> TorchContext:
        """One more context."""
        return TorchContext(self)

    def drop(self, context: TorchContext) -> None:
        """Free a context."""
        context.close()

    def runtime_cache(self) -> None:
        """Nothing is compiled."""

    def reason(self) -> str:
        """PyTorch raises."""
        return "PyTorch gave no reason"

    def close(self) -> None:
        """Free the weights."""
        self.first = self.into = self.middle = self.last = None
        self.torch.cuda.empty_cache()


class TorchContext:
    """See EngineContext."""

    def __init__(self, session: TorchSession) -> None:
        self._session = session
        self._addresses: dict = {}
        self._shapes: dict = {}
        self._tensors: Any = None

    def set_shape(self, photos: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Allocate what is between photos and scores."""
        torch, count = self._session.torch, photos[0]
        half = {"device": "cuda", "dtype": torch.float16}
        self._shapes = {INPUT_NAME: photos, OUTPUT_NAME: scores}
        sizes = (SIDE * SIDE * 3, NARROW, WIDTH, WIDTH, CLASSES)
        self._tensors = [torch.empty((count, size), **half) for size in sizes]
        self._real = torch.empty((count, CLASSES), device="cuda", dtype=torch.float32)
        self._view()

    def bind(self, name: str, address: int) -> None:
        """Say where a tensor lies."""
        self._addresses[name] = address
        self._view()

    def _view(self) -> None:
        if len(self._addresses) == 2 and self._shapes:
            torch = self._session.torch
            kinds = {INPUT_NAME: "|u1", OUTPUT_NAME: "<f4"}
            self._photos, self._scores = (
                torch.as_tensor(_Address(self._addresses[name], self._shapes[name], kinds[name]), device="cuda")
                for name in (INPUT_NAME, OUTPUT_NAME)
            )

    def enqueue(self, stream: int) -> None:
        """Queue one inference on the stream."""
        session, torch = self._session, self._session.torch
        flat, narrow, one, other, logits = self._tensors
        with torch.cuda.stream(torch.cuda.ExternalStream(stream)), torch.no_grad():
            flat.copy_(self._photos.view(flat.shape))
            torch.mm(flat, session.first, out=narrow)
            torch.mm(narrow, session.into, out=one)
            for _ in range(LAYERS // 2):
                torch.mm(one, session.middle, out=other)
                other.relu_()
                torch.mm(other, session.middle, out=one)
            torch.mm(one, session.last, out=logits)
            self._real.copy_(logits)
            torch.softmax(self._real, 1, out=self._scores)

    def close(self) -> None:
        """Free what is between."""
        self._tensors = self._real = self._photos = self._scores = None
