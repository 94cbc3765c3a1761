"""PyTorch kernels with the interface of TensorRtSession, as a substitute on a GPU without TensorRT.

Like an engine, they run on a given stream (torch.cuda.ExternalStream) in the primary context, and read and write given
addresses (CUDA array interface). Memory is allocated when a shape is set, so that a graph capture records only kernels.
"""

from __future__ import annotations

from typing import Any

from contact.question_inputs import NotAnswered
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, BatchRange

TITLE = "PyTorch kernels (no TensorRT for this GPU)"

SIDE, CLASSES = 224, 1000
"""Photo size and number of classes, as in many networks."""

NARROW, WIDTH, LAYERS = 256, 2048, 20
"""Sizes of the matrices: the computation takes about as long as a small network."""


def need_torch() -> Any:
    """Import and return torch. Raises NotAnswered if it is not installed or finds no GPU."""
    try:
        import torch
    except ImportError as error:
        raise NotAnswered("PyTorch, which could replace an engine, is not installed") from error
    if not torch.cuda.is_available():
        raise NotAnswered("PyTorch, which could replace an engine, finds no GPU")
    return torch


class _Address:
    """GPU memory for other libraries: __cuda_array_interface__, version 3."""

    def __init__(self, address: int, shape: tuple[int, ...], kind: str) -> None:
        self.__cuda_array_interface__ = {"data": (address, False), "shape": shape, "typestr": kind, "version": 3}


class TorchSession:
    """Substitute for TensorRtSession. One set of weights, any number of contexts."""

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
        """The batch range in the card of the substitute engine."""
        from contact.networks import BATCH

        return BATCH

    def new_context(self, memory: int = 0) -> TorchContext:
        """Create a context."""
        return TorchContext(self)

    def drop(self, context: TorchContext) -> None:
        """Free a context."""
        context.close()

    def runtime_cache(self) -> None:
        """Return None: nothing is compiled."""

    def reason(self) -> str:
        """Return a fixed text: PyTorch raises its errors."""
        return "PyTorch gave no reason"

    def close(self) -> None:
        """Free the weights."""
        self.first = self.into = self.middle = self.last = None
        self.torch.cuda.empty_cache()


class TorchContext:
    """Substitute for EngineContext."""

    def __init__(self, session: TorchSession) -> None:
        self._session = session
        self._addresses: dict = {}
        self._shapes: dict = {}
        self._tensors: Any = None

    def set_shape(self, photos: tuple[int, ...], scores: tuple[int, ...]) -> None:
        """Allocate the intermediate tensors."""
        torch, count = self._session.torch, photos[0]
        half = {"device": "cuda", "dtype": torch.float16}
        self._shapes = {INPUT_NAME: photos, OUTPUT_NAME: scores}
        sizes = (SIDE * SIDE * 3, NARROW, WIDTH, WIDTH, CLASSES)
        self._tensors = [torch.empty((count, size), **half) for size in sizes]
        self._real = torch.empty((count, CLASSES), device="cuda", dtype=torch.float32)
        self._view()

    def bind(self, name: str, address: int) -> None:
        """Set the address of a tensor."""
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
        """Free the intermediate tensors."""
        self._tensors = self._real = self._photos = self._scores = None
