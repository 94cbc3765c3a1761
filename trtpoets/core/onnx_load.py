"""ONNX files read into one ModelProto that holds all of its weights, wherever the file keeps them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Iterator, Mapping

from trtpoets.core.errors import BadArtefact
from trtpoets.core.onnx_external import external_entries, identity, require_external
from trtpoets.core.optional import needs
from trtpoets.core.protobuf import TooManyFields, require_modest
from trtpoets.core.reading import read_bytes

_EXTERNAL = 1
"""TensorProto.DataLocation.EXTERNAL"""

_AGAIN = "export it again, or copy it again"


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


def read_whole(path: Path) -> LoadedOnnx:
    """Read an ONNX file and its external data, each once. Nothing is checked but that the data is there.

    Raises BadArtefact, MissingArtefact for weights that are missing, MissingDependency where external data is met
    without the `onnx` package, OSError.
    """
    content = read_bytes(path)
    require_parts(path, content)
    files = require_external(path, content)
    if not files:
        return LoadedOnnx(content)
    weights = {each.location: read_bytes(path.parent / each.location) for each in files}
    with needs("train", reason="reading ONNX files with external data"):
        import onnx
    model = onnx.load_model_from_string(content)
    put_inside(model, weights, path)
    own = hashlib.sha256(content).hexdigest()
    sha256 = {location: hashlib.sha256(each).hexdigest() for location, each in weights.items()}
    return LoadedOnnx(model.SerializeToString(deterministic=True), identity(own, sha256))


def require_parts(path: Path, content: bytes) -> None:
    """Raise BadArtefact for a file with more parts than any network: the parser takes a hundred bytes for each."""
    try:
        require_modest(memoryview(content))
    except TooManyFields as error:
        raise BadArtefact(f"{path} is not a valid ONNX file: {error}", hint=_AGAIN, code="TP1045") from error
    except ValueError:
        return  # no protobuf: the parser says so


def without_external(content: bytes) -> bool:
    """Whether a serialised ModelProto holds all of its weights; what is no ModelProto has none elsewhere."""
    try:
        return not external_entries(content)
    except ValueError:
        return True


def put_inside(model: Any, weights: Mapping[str, bytes], path: Path) -> None:
    """Copy external data into the tensors of a ModelProto. `weights` is by location. Raises BadArtefact."""
    for tensor in tensors_of(model):
        if tensor.data_location != _EXTERNAL:
            continue
        entry = {each.key: each.value for each in tensor.external_data}
        data = weights.get(entry.get("location", ""))
        if data is None:
            raise BadArtefact(
                f"{path} is not a valid ONNX file: it does not say where {tensor.name} is", hint=_AGAIN, code="TP1046"
            )
        start = int(entry.get("offset", 0))
        size = int(entry["length"]) if "length" in entry else len(data) - start
        expected = _bytes_of(tensor)
        if expected not in (None, size):
            raise BadArtefact(
                f"{path} can't be used: {tensor.name} has {size:,} bytes in the weights file {entry['location']}, and "
                f"its shape and type need {expected:,}",
                hint=_AGAIN,
                code="TP1047",
            )
        tensor.raw_data = data[start : start + size]
        tensor.data_location = 0
        del tensor.external_data[:]


def tensors_of(model: Any) -> Iterator[Any]:
    """Every TensorProto of a ModelProto: of its graph, of graphs in nodes, and of its functions."""
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
    """How many bytes a tensor's numbers have; None for types that share bytes, and for text."""
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
