"""Makes the fixed batch of a network dynamic where its results prove it equivalent, and keeps it fixed otherwise.

Either way the results of a photo must not depend on the other photos of its batch.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import numpy as np

from trtpoets.adoption.onnx.batch_axes import move_batch
from trtpoets.adoption.onnx.probe import run_quietly
from trtpoets.convert.onnx_export import folded
from trtpoets.core.errors import BadArtefact, ConversionFailed, first_line
from trtpoets.core.onnx_file import open_session

_RANGES = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0))
_TOLERANCE = 1e-3
"""Largest difference between results of a photo in two batches, relative to the largest result."""


_log = logging.getLogger(__name__)


def with_proven_batch(model: Any, source: object) -> Any:
    """Return the ModelProto, a float network with one input and one output, with a batch of any size if that is proven.

    The results of a batch of photos are compared with those of the photos one by one. If no form of the network with a
    dynamic batch gives the same, the batch that the file fixes is kept, with a warning: the first size of its input is
    then that number. `source` names the file.
    Raises ConversionFailed if the file fixes none, or if results of a photo depend on the other photos of the batch.
    """
    batch = _batch_of(model)
    expected = _one_by_one(model, batch)
    size = batch or 1
    # Shapes that are computed from the size of the batch are replaced by constants first, if there are any.
    computed = any(node.op_type == "Shape" for node in model.graph.node)
    problem = ""
    for change in (_moved, _unchanged) if computed else (_unchanged, _moved):
        try:
            candidate = change(model, size)
        except ConversionFailed as error:
            reason: str | None = error.message
        else:
            reason = _problem(candidate, expected)
        if reason is None:
            return candidate
        problem = reason if change is _moved else problem
    mixing: str | None = "the file claims to take any number of photos"
    kept = type(model).FromString(model.SerializeToString())
    _set_batch(kept, size)
    if batch:
        mixing = _problem(kept, expected, size)
    if mixing is None:
        _log.warning(
            "the batch of %s stays fixed at %d, because it can't be made dynamic: %s. Engines are built for exactly "
            "%d, and runners fill the last batch",
            *(source, size, problem, size),
        )
        return kept
    name = model.graph.input[0].name
    raise ConversionFailed(
        f"the batch of {source} can't be made dynamic, because its size {size} is fixed inside the graph: {problem}; "
        f"it can't be kept, because {mixing}",
        hint=f"export it again with a dynamic batch: torch.onnx.export(..., dynamic_axes={{{name!r}: {{0: 'N'}}}})",
        code="TP9260",
    )


def _unchanged(model: Any, _size: int) -> Any:
    """Return a copy with a dynamic batch in its input only."""
    copy = type(model).FromString(model.SerializeToString())
    _set_batch(copy, None)
    return copy


def _moved(model: Any, size: int) -> Any:
    """Return a folded copy with a dynamic batch, in which `size` is removed from the constants."""
    copy = type(model).FromString(model.SerializeToString())
    _set_batch(copy, size)
    copy = folded(copy)
    move_batch(copy, size)
    _set_batch(copy, None)
    return copy


def _batch_of(model: Any) -> int:
    """The batch of the input; 0 if it is dynamic."""
    return max(0, int(model.graph.input[0].type.tensor_type.shape.dim[0].dim_value))


def _set_batch(model: Any, batch: int | None) -> None:
    for value in (*model.graph.input, *model.graph.output):
        if value.name == model.graph.output[0].name:
            value.type.tensor_type.ClearField("shape")
            continue
        dim = value.type.tensor_type.shape.dim[0]
        dim.Clear()
        if batch is None:
            dim.dim_param = "N"
        else:
            dim.dim_value = batch
    del model.graph.value_info[:]


def _images(model: Any, count: int) -> np.ndarray:
    random = np.random.default_rng(0)
    sizes = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    images = np.empty((count, *sizes), np.float32)
    for index in range(count):
        low, high = _RANGES[index % len(_RANGES)]
        images[index] = random.random(sizes, np.float32) * (high - low) + low
    return images


def _one_by_one(model: Any, batch: int) -> np.ndarray:
    """Return the result of each of a few images, computed alone: (count, K). A fixed batch repeats the image."""
    session = open_session(model.SerializeToString())
    name, output = model.graph.input[0].name, model.graph.output[0].name
    size = batch or 1
    rows = []
    for image in _images(model, 3 if size != 3 else 5):
        try:
            (result,) = run_quietly(session, [output], {name: np.repeat(image[None], size, axis=0)})
        except Exception as error:
            raise BadArtefact(
                f"ONNX Runtime can't run the converted network: {first_line(error)}",
                hint="export it again with opset 17",
                code="TP9261",
            ) from error
        rows.append(np.asarray(result, np.float32).reshape(size, -1)[0])
    return np.stack(rows)


def _problem(model: Any, expected: np.ndarray, batch: int = 0) -> str | None:
    """Return how the results of a batch differ from those of single images; None if they do not.

    With a fixed `batch`, the images fill as many batches as they need.
    """
    name, output = model.graph.input[0].name, model.graph.output[0].name
    images = _images(model, len(expected))
    try:
        session = open_session(model.SerializeToString())
        if batch:
            result = _in_batches(session, output, name, images, batch)
        else:
            (result,) = run_quietly(session, [output], {name: images})
    except Exception as error:  # noqa: BLE001 - whatever ONNX Runtime raises, the batch does not fit
        node = re.search(r"Name:'([^']*)'", str(error))
        return f"{node.group(1)} fails for a batch of {len(images)}" if node and node.group(1) else first_line(error)
    rows = np.asarray(result, np.float32)
    if rows.size == expected.size and rows.shape[0] == len(images):
        rows = rows.reshape(expected.shape)
        largest = float(np.abs(expected[np.isfinite(expected)]).max(initial=1e-6))
        if np.allclose(rows, expected, rtol=0, atol=_TOLERANCE * largest, equal_nan=True):
            return None
    if batch:
        return "its results for a photo depend on the other photos of the batch"
    return _first_difference(model, images)


def _in_batches(session: Any, output: str, name: str, images: np.ndarray, batch: int) -> np.ndarray:
    """Return the results of images, (count, K), in batches of exactly this size; the images are repeated to fill it."""
    count = -(-len(images) // batch) * batch
    filled = images[np.arange(count) % len(images)]
    rows = []
    for start in range(0, count, batch):
        (result,) = run_quietly(session, [output], {name: filled[start : start + batch]})
        rows.append(np.asarray(result, np.float32).reshape(batch, -1))
    return np.concatenate(rows)[: len(images)]


def _first_difference(model: Any, images: np.ndarray) -> str:
    """Name the first node whose results in a batch are not those of the single images."""
    names = [name for node in model.graph.node for name in node.output if name]
    copy = type(model).FromString(model.SerializeToString())
    del copy.graph.output[:]
    for name in names:
        copy.graph.output.add().name = name
    try:
        session = open_session(copy.SerializeToString(), as_written=True)
        source = model.graph.input[0].name
        together = run_quietly(session, names, {source: images})
        alone = [run_quietly(session, names, {source: image[None]}) for image in images]
    except Exception as error:  # noqa: BLE001 - a single image may fail too
        return first_line(error)
    producers = {name: node for node in model.graph.node for name in node.output}
    for index, name in enumerate(names):
        single = [np.asarray(results[index]) for results in alone]
        whole = np.asarray(together[index])
        same = all(np.array_equal(whole, one) for one in single)  # does not depend on the photos
        if not same and whole.size != sum(one.size for one in single):
            return f"{producers[name].name or name} ({producers[name].op_type})"
    return "its results for a photo depend on the other photos of the batch"
