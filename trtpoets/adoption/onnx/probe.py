"""Runs an ONNX graph on random images, to learn the shapes and values of its tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.onnx.float32 import computes_in_double
from trtpoets.adoption.onnx.image_input import ImageInput
from trtpoets.adoption.onnx.tensors import content_with_outputs
from trtpoets.core.errors import BadArtefact, TrtPoetsError, first_line
from trtpoets.core.onnx_file import open_session
from trtpoets.core.optional import onnxruntime
from trtpoets.core.original import Layout

_SIDES = (224, 192, 299, 227, 256, 96, 128, 64, 32, 28)
"""Sizes that are tried where a file does not fix them; a network that takes two of them takes any."""

_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))


def random_images(image: ImageInput, count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Return random values for an input, (count, ...) in its type and layout, in the ranges that networks take."""
    random = np.random.default_rng(seed)
    sizes = (height, width, image.channels) if image.input.layout is Layout.NHWC else (image.channels, height, width)
    if image.input.dtype in ("uint8", "int8"):
        limits = np.iinfo(image.input.dtype)
        return random.integers(limits.min, limits.max + 1, (count, *sizes)).astype(image.input.dtype)
    images = np.empty((count, *sizes), image.input.dtype)
    for index in range(count):
        low, high = _RANGES[index % len(_RANGES)]
        images[index] = random.random(sizes, np.float32) * (high - low) + low
    return images


def run_quietly(session: Any, outputs: list[str], inputs: Mapping[str, np.ndarray]) -> list[Any]:
    """Run an ONNX Runtime session without its log: a failure is only raised. Raises what ONNX Runtime raises."""
    options = onnxruntime().RunOptions()
    options.log_severity_level = 4
    results: list[Any] = session.run(outputs, dict(inputs), options)
    return results


class Prober:
    """Runs a graph on a few random images. `height` and `width` are 0 after `find_size` if it takes any size."""

    def __init__(self, path: Path, model: Any, image: ImageInput) -> None:
        self._path = path
        self._model = model
        self._image = image
        self.height, self.width = image.height, image.width
        self._size = (image.height, image.width)

    def __call__(self, tensors: list[str]) -> Mapping[str, np.ndarray]:
        """Return tensors for three random images: the first axis is the image. Raises BadArtefact."""
        try:
            session = open_session(content_with_outputs(self._model, tensors))
        except BadArtefact as error:
            if computes_in_double(self._model):
                raise BadArtefact(
                    f"{self._path} computes in float64, and ONNX Runtime can't run it, so that no conversion can be "
                    f"compared with it: {error.reason}",
                    hint="export it in float32: torch.onnx.export(net.float().eval(), torch.zeros(1, 3, 224, 224), "
                    "'net.onnx', opset_version=17)",
                    code="TP9595",
                ) from error
            raise BadArtefact(
                f"{self._path} can't be run by ONNX Runtime: {error.reason}",
                hint="export it again, with opset 17",
                code="TP9243",
            ) from error
        if not all(self._size):
            self._find_size(session, tensors)
        return dict(zip(tensors, self._run(session, tensors, *self._size), strict=True))

    def _find_size(self, session: Any, tensors: list[str]) -> None:
        accepted: list[tuple[int, int]] = []
        problem: TrtPoetsError | None = None
        for side in _SIDES:
            size = (self._image.height or side, self._image.width or side)
            try:
                self._run(session, tensors, *size)
            except BadArtefact as error:
                problem = error
                continue
            accepted.append(size)
            if len(accepted) == 2:
                break
        if not accepted:
            assert problem is not None
            raise problem
        self._size = accepted[0]
        if len(accepted) == 1:
            self.height, self.width = accepted[0]

    def _run(self, session: Any, tensors: list[str], height: int, width: int) -> list[np.ndarray]:
        batch = self._image.input.batch or 1
        images = random_images(self._image, 3, height, width)
        parts: list[list[np.ndarray]] = []
        for start in range(0, 3, batch):
            taken = images[start : start + batch]
            padded = np.concatenate([taken, np.repeat(taken[-1:], batch - len(taken), axis=0)])
            try:
                results = run_quietly(session, tensors, {self._image.input.name: padded})
            except Exception as error:
                raise BadArtefact(
                    f"{self._path} can't be run by ONNX Runtime on an image of {height} x {width} pixels: "
                    f"{first_line(error)}",
                    hint="export it again, with opset 17",
                    code="TP9244",
                ) from error
            parts.append([_by_image(result, batch)[: len(taken)] for result in results])
        return [np.concatenate(pieces) for pieces in zip(*parts, strict=True)]


def _by_image(result: Any, batch: int) -> np.ndarray:
    """Return a tensor with the image as its first axis; a squeezed batch of 1 is restored."""
    if not isinstance(result, np.ndarray):  # a sequence or a map
        return np.full((batch, 1), "", object)
    if result.ndim and result.shape[0] == batch:
        return result
    if batch == 1:
        return result[None]
    return result.reshape(batch, -1) if result.size % batch == 0 else np.broadcast_to(result, (batch, *result.shape))
