"""Reads an ONNX file with its external data into one self-contained ModelProto."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_external import external_entries, identity, require_external
from trtpoets.core.optional import needs
from trtpoets.core.protobuf import TooManyFields, check_field_count
from trtpoets.core.reading import read_bytes

_EXTERNAL = 1
"""TensorProto.DataLocation.EXTERNAL"""

_REDO_HINT = "export it again, or copy it again"


@dataclass(frozen=True)
class LoadedOnnx:
    """An ONNX file in memory. `content` is a self-contained file of it.

    `content` is the file's own bytes where it has no external data, and so it needs no `onnx` package. `with_external`
    is the identity of a file with external data; empty for others.
    """

    content: bytes
    with_external: str = ""

    @property
    def sha256(self) -> str:
        """The identity of what was read."""
        return self.with_external or hashlib.sha256(self.content).hexdigest()


def load_self_contained(path: Path) -> LoadedOnnx:
    """Read an ONNX file and its external data, each once. Checks only that the external data is complete.

    Raises BadArtefact, MissingArtefact if weights are missing, MissingDependency if there is external data
    but no `onnx` package, OSError.
    """
    content = read_bytes(path)
    check_part_count(path, content)
    files = require_external(path, content)
    if not files:
        return LoadedOnnx(content)
    weights = {file.location: read_bytes(path.parent / file.location) for file in files}
    with needs("train", reason="reading ONNX files with external data"):
        import onnx
    model = onnx.load_model_from_string(content)
    embed_external_data(model, weights, path)
    own = hashlib.sha256(content).hexdigest()
    sha256 = {location: hashlib.sha256(data).hexdigest() for location, data in weights.items()}
    return LoadedOnnx(model.SerializeToString(deterministic=True), identity(own, sha256))


def check_part_count(path: Path, content: bytes) -> None:
    """Raise BadArtefact if a file has too many protobuf fields: the parser allocates about 100 bytes for each."""
    try:
        check_field_count(memoryview(content))
    except TooManyFields as error:
        raise BadArtefact(f"{path} is not a valid ONNX file: {error}", hint=_REDO_HINT, code="TP1045") from error
    except ValueError:
        return  # not a protobuf: the parser reports that


def is_self_contained(content: bytes) -> bool:
    """Whether a serialised ModelProto has no external data; True also if it is not a ModelProto."""
    try:
        return not external_entries(content)
    except ValueError:
        return True


def embed_external_data(model: Any, weights: Mapping[str, bytes], path: Path) -> None:
    """Copy external data into the tensors of a ModelProto; `weights` maps locations to bytes. Raises BadArtefact."""
    for tensor in tensors_of(model):
        if tensor.data_location != _EXTERNAL:
            continue
        entry = {pair.key: pair.value for pair in tensor.external_data}
        data = weights.get(entry.get("location", ""))
        if data is None:
            raise BadArtefact(
                f"{path} is not a valid ONNX file: {tensor.name} has no location of its external data",
                hint=_REDO_HINT,
                code="TP1046",
            )
        start = int(entry.get("offset", 0))
        size = int(entry["length"]) if "length" in entry else len(data) - start
        expected = _bytes_of(tensor)
        if expected not in (None, size):
            raise BadArtefact(
                f"{path} can't be used: {tensor.name} has {size:,} bytes in the weights file {entry['location']}, but "
                f"{expected:,} are expected for its shape and type",
                hint=_REDO_HINT,
                code="TP1047",
            )
        tensor.raw_data = data[start : start + size]
        tensor.data_location = 0
        del tensor.external_data[:]


def tensors_of(model: Any) -> Iterator[Any]:
    """Every TensorProto of a ModelProto: in its graph, its subgraphs and its functions."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Any) -> Iterator[Any]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(graph)


def _bytes_of(tensor: Any) -> int | None:
    """The number of bytes of a tensor's elements; None for types smaller than a byte, and for strings."""
    with needs("train", reason="reading ONNX files with external data"):
        from onnx import helper

    count = 1
    for size in tensor.dims:
        count *= size
    try:
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    except (KeyError, ValueError):
        return None
    if dtype.kind == "O" or (dtype.kind == "V" and dtype.itemsize == 1):
        return None
    return int(count * dtype.itemsize)
