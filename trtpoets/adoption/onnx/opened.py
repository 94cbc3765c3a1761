"""Opens an ONNX file of another program as one self-contained graph whose constants are initializers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trtpoets.adoption.onnx.branches import take_branches
from trtpoets.adoption.sizes import too_large
from trtpoets.core.errors import BadArtefact, MissingArtefact, TrtPoetsError, first_line
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.onnx_external import LARGEST_NETWORK
from trtpoets.core.onnx_file import FORM_KEY, SPEC_KEY, check_size, metadata_of, opset_of
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.optional import needs
from trtpoets.core.shell_commands import command
from trtpoets.core.storage import storage_errors
from trtpoets.core.types import Int8Form

OPSETS = range(7, 24)
"""Opsets of the standard operators that can be read; ONNX Runtime supports them from 7 on."""

_OLDEST_IR = 3
_REDO_HINT = "export it again, or copy it again"


@dataclass(frozen=True)
class OpenedOnnx:
    """An ONNX file in memory.

    `model` is a ModelProto without external data, without functions of its own and without Constant nodes; constants
    are not among its inputs. `sha256` identifies the file together with its external data. If nodes whose condition is
    the same for all photos are replaced by the branch that is taken; `control_flow` says why the other nodes of control
    flow are not, by their names.
    """

    path: Path
    model: Any
    sha256: str
    control_flow: Mapping[str, str] = field(default_factory=dict)


def open_onnx(path: Path) -> OpenedOnnx:
    """Read an ONNX file of another program. Custom operators are not checked.

    Raises MissingArtefact if the file or its external data is missing; BadArtefact if it is another kind of file,
    rejected by ONNX's checker, or has an unsupported opset or IR version; StorageFailed.
    """
    with needs("train", reason="reading ONNX files"):
        import onnx
        from onnx import inliner
    if not path.is_file():
        raise MissingArtefact(f"{path} does not exist", hint="check the path", code="TP9200")
    require_kind(path, "onnx", expected="an ONNX file")
    with storage_errors(path, "read"):
        loaded = load_self_contained(path)
    try:
        model = onnx.load_model_from_string(loaded.content)
        check_size(model)
        _require_size_in_float32(path, model)
        _require_text(model)
        _require_graph(path, model)
        _require_versions(path, model)
        if model.functions:
            model = inliner.inline_local_functions(model)
        constants_as_initializers(model)
        _replace_image_scalers(model)
        _check(onnx, model)
        control_flow = take_branches(model)
        constants_as_initializers(model)  # those of the branches
    except TrtPoetsError:
        raise
    except Exception as error:
        raise BadArtefact(
            f"{path} is not a valid ONNX file: {first_line(error)}", hint=_REDO_HINT, code="TP9201"
        ) from error
    return OpenedOnnx(path, model, loaded.sha256, control_flow)


def constants_as_initializers(model: Any) -> None:
    """Replace Constant nodes by initializers, and remove initializers from the inputs (as IR version 3 lists them)."""
    import numpy as np
    from onnx import numpy_helper

    graph = model.graph
    others = []
    for node in graph.node:
        if node.op_type != "Constant" or node.domain not in ("", "ai.onnx") or len(node.attribute) != 1:
            others.append(node)
            continue
        (entry,) = node.attribute
        kinds = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}
        if entry.name == "value":
            constant = graph.initializer.add()
            constant.CopyFrom(entry.t)
        elif entry.name in kinds:
            field = {"value_float": entry.f, "value_int": entry.i}.get(entry.name)
            value = field if field is not None else list(entry.floats if "float" in entry.name else entry.ints)
            constant = graph.initializer.add()
            constant.CopyFrom(numpy_helper.from_array(np.asarray(value, kinds[entry.name])))
        else:  # a string or a sparse tensor
            others.append(node)
            continue
        constant.name = node.output[0]
    del graph.node[:]
    graph.node.extend(others)
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [value for value in graph.input if value.name not in constants]
    if len(inputs) != len(graph.input):
        del graph.input[:]
        graph.input.extend(inputs)
    # Initializers that are not inputs are allowed from IR version 4 on.
    model.ir_version = max(model.ir_version, 4)


def _check(onnx: Any, model: Any) -> None:
    """Run ONNX's checker; unlike the checker, ONNX Runtime accepts inputs and outputs without a shape."""
    shapeless = [
        value.type.tensor_type
        for value in (*model.graph.input, *model.graph.output)
        if value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape")
    ]
    for kind in shapeless:
        kind.shape.SetInParent()
    onnx.checker.check_model(model)
    for kind in shapeless:
        kind.ClearField("shape")


def _replace_image_scalers(model: Any) -> None:
    """Replace ImageScaler, which converters for WinML wrote before ONNX was released: x * scale + bias of a channel."""
    import numpy as np
    from onnx import helper, numpy_helper

    from trtpoets.convert.graph.graph_edits import replace_nodes
    from trtpoets.convert.graph.graph_view import attribute

    nodes = []
    for node in model.graph.node:
        if node.op_type != "ImageScaler" or node.domain not in ("", "ai.onnx"):
            nodes.append(node)
            continue
        name = node.output[0]
        constants = {
            f"{name}.scale": np.float32(attribute(node, "scale", 1.0)),
            f"{name}.bias": np.asarray(attribute(node, "bias", ()), np.float32).reshape(-1, 1, 1),
        }
        model.graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in constants.items())
        layer = node.name or "ImageScaler"
        nodes += [
            helper.make_node("Mul", [node.input[0], f"{name}.scale"], [f"{name}.scaled"], name=f"{layer}/Mul"),
            helper.make_node("Add", [f"{name}.scaled", f"{name}.bias"], [name], name=f"{layer}/Add"),
        ]
    if len(nodes) != len(model.graph.node):
        replace_nodes(model, nodes)


def _require_text(model: Any) -> None:
    """Raise ValueError if a name is not UTF-8: protobuf returns bytes for it."""
    texts = [model.producer_name, model.producer_version, model.domain, model.doc_string, model.graph.name]
    texts += [text for entry in model.metadata_props for text in (entry.key, entry.value)]
    texts += [entry.domain for entry in model.opset_import]
    for body in (model.graph, *model.functions):
        for node in body.node:
            texts += [node.name, node.op_type, node.domain, *node.input, *node.output]
            texts += [entry.name for entry in node.attribute]
    graph = model.graph
    texts += [value.name for value in (*graph.input, *graph.output, *graph.value_info, *graph.initializer)]
    texts.append(graph.doc_string)
    if any(isinstance(text, bytes) for text in texts):
        raise ValueError("it contains text that is not UTF-8")


def _require_graph(path: Path, model: Any) -> None:
    if not model.graph.node or not model.graph.output:
        raise BadArtefact(
            f"{path} is not a network: it has no operators or no outputs", hint="export it again", code="TP9202"
        )
    metadata = metadata_of(model)
    if SPEC_KEY in metadata:
        for_cpus = metadata.get(FORM_KEY) == Int8Form.CPU.value  # TensorRT does not build this form
        raise BadArtefact(
            f"{path} was written by trtpoets: it is wrapped already",
            hint=command("inspect" if for_cpus else "build", path),
            code="TP9203",
        )


def _require_size_in_float32(path: Path, model: Any) -> None:
    """Raise BadArtefact if the weights of float16 or integers are too large for an ONNX file in float32."""
    size = sum(4 * math.prod(tensor.dims) for tensor in model.graph.initializer if tensor.raw_data)
    if size > LARGEST_NETWORK:
        raise too_large(path, size, what=" of weights in float32")


def _require_versions(path: Path, model: Any) -> None:
    if model.ir_version < _OLDEST_IR:
        raise BadArtefact(
            f"{path} has the ONNX IR version {model.ir_version}, and {_OLDEST_IR} or later is supported",
            hint="export it again with a newer version of the program that wrote it",
            code="TP9204",
        )
    opset = opset_of(model)
    if opset not in OPSETS:
        raise BadArtefact(
            f"{path} has the ONNX opset {opset}, and {OPSETS[0]} to {OPSETS[-1]} are supported",
            hint="export it again with opset 17",
            code="TP9205",
        )
