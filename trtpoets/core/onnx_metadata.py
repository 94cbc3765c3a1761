"""What an ONNX file says about itself, read without the `onnx` package: a device does not have it.

Only the outermost fields of the protobuf are read (github.com/onnx/onnx, onnx.proto: ModelProto has its operator sets
in field 8 and its metadata in field 14). Nothing here checks the graph: that was done before somebody vouched for the
file by its sha256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.onnx_file import described
from trtpoets.core.protobuf import fields, message, text
from trtpoets.core.spec import OnnxModel

_GRAPH, _OPSET_IMPORT, _METADATA = 7, 8, 14
_NODE, _NODE_NAME, _NODE_OPERATOR = 1, 3, 4


@dataclass(frozen=True)
class OnnxFacts:
    """An ONNX file's metadata, and the newest operator set of the standard ones that it is written in."""

    metadata: Mapping[str, str]
    opset: int


def facts_of(path: Path) -> OnnxFacts:
    """Read an ONNX file's own description. Raises MissingArtefact, or BadArtefact where it is no ONNX file."""
    if not path.is_file():
        raise MissingArtefact(f"{path} is not there", hint="make it: trtpoets export NAME, then trtpoets quantize NAME")
    metadata: dict[str, str] = {}
    opset = 1
    try:
        for number, value in fields(memoryview(path.read_bytes())):
            if number not in (_OPSET_IMPORT, _METADATA):
                continue
            inside = dict(fields(message(value)))
            if number == _METADATA:
                metadata[text(inside.get(1, b""))] = text(inside.get(2, b""))
            elif text(inside.get(1, b"")) in ("", "ai.onnx"):
                opset = max(opset, int(inside.get(2, 1)))
    except (ValueError, TypeError) as error:
        raise BadArtefact(f"{path} is not a valid ONNX file: {error}", hint="export it again") from error
    return OnnxFacts(metadata, opset)


def read_vouched_onnx(path: Path) -> OnnxModel:
    """An ONNX file of trtpoets that somebody vouches for, by what it says about itself. Raises as `facts_of` does."""
    return described(path, facts_of(path).metadata)


def node_of(content: bytes, index: int) -> tuple[str, str]:
    """Name and operator of node `index` of the ONNX file `content`; both empty where there is no such node."""
    try:
        graphs = [message(value) for number, value in fields(memoryview(content)) if number == _GRAPH]
        nodes = [message(value) for graph in graphs for number, value in fields(graph) if number == _NODE]
        if not 0 <= index < len(nodes):
            return "", ""
        inside = dict(fields(nodes[index]))
        return text(inside.get(_NODE_NAME, b"")), text(inside.get(_NODE_OPERATOR, b""))
    except ValueError:  # not a protobuf: the parser's own message is all there is
        return "", ""
