"""Reads classifiers in TensorFlow's formats: what they take, what they return, and a graph for wrapping them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.adoption.foreign import Clues, ForeignModel
from trtpoets.adoption.tensorflow.batches import for_any_batch
from trtpoets.adoption.tensorflow.decoders import EXPORT_PIXELS
from trtpoets.adoption.tensorflow.execution import Run, example_values, function_of, shape_of
from trtpoets.adoption.tensorflow.frozen_graphs import (
    graph_of_file,
    output_of,
    require_no_suppression,
)
from trtpoets.adoption.tensorflow.graph import Graph
from trtpoets.adoption.tensorflow.inputs import Cut, cut_to_image
from trtpoets.adoption.tensorflow.keras_files import network_of_file
from trtpoets.adoption.tensorflow.leading import fixed_pixels
from trtpoets.adoption.tensorflow.meaning import answers_of
from trtpoets.adoption.tensorflow.saved_models import SAVED_MODEL, signature_of
from trtpoets.adoption.vectors import require_scores
from trtpoets.core.errors import BadArtefact, MissingArtefact, first_line
from trtpoets.core.file_kinds import kind_of_file, other_kind
from trtpoets.core.files import sha256_of_file, sha256_of_folder, storage_errors
from trtpoets.core.optional import tensorflow
from trtpoets.core.original import Answers, Format, Layout, OriginalInput, OriginalOutput
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import LARGEST_SIDE

KINDS = {
    "keras": Format.KERAS,
    "keras-h5": Format.KERAS,
    "hdf5": Format.KERAS,
    "saved-model": Format.SAVED_MODEL,
    "graph-def": Format.GRAPH_DEF,
}
"""The kinds of files (`core/file_kinds.py`) that this module reads."""

_SIDE_TO_TRY = 224
"""Height and width of the random images for a network that takes any size."""

_TYPES = ("float32", "float16", "uint8", "int8", "int32", "float64")
_MAX_NODES = 2000
_MAX_TEXT = 1 << 20


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedTensorFlow:
    """A classifier file, loaded: `run` runs it as it is, `graph` is the same network for any number of photos."""

    model: ForeignModel
    run: Run
    graph: Graph


@dataclass(frozen=True)
class _Network:
    """What the readers of the formats return: a GraphDef, its output, and what people call input and output."""

    definition: Any
    tensor: str
    input: str
    output: str
    run: Run | None
    clues: Clues


def format_of(path: Path) -> Format | None:
    """Return the format of a file or folder by its content; None if it is none of TensorFlow's."""
    if path.is_dir():
        return Format.SAVED_MODEL if (path / SAVED_MODEL).is_file() else None
    kind = kind_of_file(path)
    return None if kind is None else KINDS.get(kind.name)


def read_tensorflow(path: Path, format_: Format | None = None, *, allow_code: bool = False) -> LoadedTensorFlow:
    """Load a classifier of Keras, a SavedModel (its folder or saved_model.pb), or a frozen graph.

    `format_` is that of the content, found if None. With `allow_code`, Lambda layers and operators that reach files or
    Python are run. Raises BadArtefact that says what the file is and what to do, MissingArtefact, MissingDependency,
    NotReadable, StorageFailed.
    """
    if not path.exists():
        raise MissingArtefact(f"{path} does not exist", hint="give the path of the network", code="TP9134")
    with storage_errors(path, "read"):
        format_ = format_ or format_of(path)
        if format_ is None:
            raise _other(path)
        if format_ is Format.SAVED_MODEL and not path.is_dir():
            path = path.parent
        with _damage(path):
            network = _READERS[format_](path, allow_code)
        sha256 = sha256_of_folder(path) if path.is_dir() else sha256_of_file(path)
    return _analysed(path, format_, sha256, network, allow_code)


@contextmanager
def _damage(path: Path) -> Iterator[None]:
    """Turn what a damaged graph makes of looking into it into BadArtefact: missing nodes, wrong numbers."""
    try:
        yield
    except (KeyError, IndexError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise BadArtefact(
            f"{path} is damaged: {type(error).__name__}: {first_line(error)}",
            hint="copy it again from its source, or export it again",
            code="TP9145",
        ) from error


def _other(path: Path) -> BadArtefact:
    expected = "a Keras file, a SavedModel or a frozen graph of TensorFlow"
    kind = None if path.is_dir() else kind_of_file(path)
    if kind is not None:
        return other_kind(path, kind, expected)
    what = f"a folder without {SAVED_MODEL}" if path.is_dir() else "of an unknown kind"
    return BadArtefact(
        f"{path} is not {expected}: it is {what}", hint="give the file of the network itself", code="TP9135"
    )


def _keras(path: Path, allow_code: bool) -> _Network:
    network = network_of_file(path, allow_code)
    version = network.metadata.get("keras_version", "")
    clues = Clues(f"keras {version}".strip(), network.layers[:_MAX_NODES], dict(network.metadata))
    return _Network(network.definition, network.tensor, network.input, network.output, network.run, clues)


def _saved_model(folder: Path, allow_code: bool) -> _Network:
    signature = signature_of(folder, allow_code)
    labels = {"output.labels": json.dumps(signature.labels)} if signature.labels else {}
    clues = Clues(signature.writer, _names(signature.definition), labels, _texts(folder))
    return _Network(
        signature.definition, signature.output_tensor, signature.input, signature.output, signature.run, clues
    )


def _graph_def(path: Path, _: bool) -> _Network:
    definition = graph_of_file(path)
    tensor = output_of(definition, str(path))
    name = tensor.split(":")[0]
    return _Network(definition, tensor, "", name, None, Clues(nodes=_names(definition)))


_READERS = {Format.KERAS: _keras, Format.SAVED_MODEL: _saved_model, Format.GRAPH_DEF: _graph_def}


def _names(definition: Any) -> tuple[str, ...]:
    """Return the names of the nodes that compute something, and of the inputs."""
    return tuple(node.name for node in definition.node if node.op not in ("Const", "NoOp"))[:_MAX_NODES]


def _texts(folder: Path) -> dict[str, str]:
    """Return the small text files among the assets of a SavedModel, by name."""
    files = [file for part in ("assets", "assets.extra") for file in sorted((folder / part).glob("*"))][:100]
    return {
        file.name: read_bytes(file, _MAX_TEXT).decode("utf-8", "replace")
        for file in files
        if file.suffix in (".txt", ".json", ".csv") and file.is_file() and file.stat().st_size <= _MAX_TEXT
    }


def _analysed(path: Path, format_: Format, sha256: str, network: _Network, allow_code: bool) -> LoadedTensorFlow:
    source = str(path)
    with _damage(path):
        cut = cut_to_image(network.definition, network.tensor, source, allow_code)
    graph = cut.graph
    require_no_suppression(graph, source)
    batch, height, width, channels, layout = _image(cut, source)
    dtype = _dtype(graph, source)
    # A graph whose decoder was removed is no longer what the signature runs; with explicit padding it may not run.
    unchanged = network.run is not None and cut.fixed is None and not cut.separated
    run = network.run if network.run is not None and unchanged else function_of(graph)
    if cut.separated:
        _log.info(
            "TensorFlow runs %d depthwise convolutions of %s with their explicit padding as a Pad node, with the same "
            "results: on some processors oneDNN ends the process otherwise",
            cut.separated,
            path,
        )
    images = example_values(3, height or _SIDE_TO_TRY, width or _SIDE_TO_TRY, channels, layout, dtype)
    single = _padded(run, batch)
    first = single(images[:1])
    size = _size(first, graph, source)
    outputs = np.concatenate([first, *(single(image[None]) for image in images[1:])])
    rows = outputs.reshape(len(images), size).astype(np.float32)
    answers = answers_of(graph, rows, source)
    if answers is Answers.LOGITS:
        require_scores(source, network.output, rows)
    free = for_any_batch(graph, cut.shape, images, outputs, source)
    model = ForeignModel(
        path=path,
        format=format_,
        sha256=sha256,
        height=height,
        width=width,
        channels=channels,
        input=OriginalInput(_input_name(network, cut), dtype, layout, batch=batch),
        output=OriginalOutput(network.output, str(first.dtype), size, answers),
        clues=network.clues,
        fixed=cut.fixed or fixed_pixels(graph, dtype),
        geometry=cut.geometry,
    )
    return LoadedTensorFlow(model, run, free)


def _input_name(network: _Network, cut: Cut) -> str:
    return network.input if network.input and cut.fixed is None else cut.graph.input


def _padded(run: Run, batch: int) -> Run:
    """Return a function for one photo of a network that takes `batch` photos, 0 for any number."""
    if batch <= 1:
        return run
    return lambda value: run(np.repeat(value, batch, axis=0))[:1]


def _image(cut: Cut, source: str) -> tuple[int, int, int, int, Layout]:
    """Return batch, height, width, channels and layout of an input. Unknown lengths of batch and sides are 0."""
    shape = cut.shape
    if len(shape) != 4:
        kind = f"{len(shape)} axes {shape}" if shape else "a shape that the graph does not say"
        what = ", as networks for sequences have" if len(shape) == 3 else ""
        raise BadArtefact(
            f"the input {cut.graph.input} of {source} has {kind}{what}; photos have 4: batch, height, width, channels",
            hint=EXPORT_PIXELS,
            code="TP9136",
        )
    layout = Layout.NCHW if shape[3] not in (1, 3) and shape[1] in (1, 3) else Layout.NHWC
    batch, first, second, third = shape
    height, width, channels = (second, third, first) if layout is Layout.NCHW else (first, second, third)
    if channels not in (1, 3) or any(not 0 < side <= LARGEST_SIDE for side in (height, width) if side is not None):
        raise BadArtefact(
            f"the input {cut.graph.input} of {source} has the shape {shape}; photos have 1 or 3 channels and sides of "
            f"1 to {LARGEST_SIDE:,} pixels",
            hint=EXPORT_PIXELS,
            code="TP9137",
        )
    return batch or 0, height or 0, width or 0, channels, layout


def _dtype(graph: Graph, source: str) -> str:
    name = str(tensorflow().dtypes.as_dtype(graph.nodes[graph.input].attr["dtype"].type).name)
    if name not in _TYPES:
        raise BadArtefact(
            f"the input {graph.input} of {source} has the type {name}; photos are float or uint8",
            hint=EXPORT_PIXELS,
            code="TP9138",
        )
    return name


def _size(output: np.ndarray, graph: Graph, source: str) -> int:
    """Return the number of values for a photo. Raises BadArtefact if they are not one per class."""
    shape = output.shape
    if output.dtype.kind != "f" or not shape or shape[0] != 1 or any(n != 1 for n in sorted(shape[1:])[:-1]):
        declared = shape_of(graph.definition, graph.output)
        raise BadArtefact(
            f"the output {graph.output.split(':')[0]} of {source} is {output.dtype} {declared}; a classifier returns "
            "one float for each class",
            hint="export the network with its class scores as the only output; for other networks use trtexec",
            code="TP9139",
        )
    return int(np.prod(shape[1:], dtype=int))
