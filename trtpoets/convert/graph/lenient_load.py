"""Reads ONNX files for description only: without external data, and also if ONNX's checker rejects them.

Models from here must not be passed to TensorRT's parser; that requires files that `check_onnx` accepted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtpoets.convert.graph.multiply_adds import all_nodes
from trtpoets.core.errors import BadArtefact
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.onnx_external import ExternalFile, external_files
from trtpoets.core.onnx_file import check_size
from trtpoets.core.onnx_load import check_part_count
from trtpoets.core.optional import needs
from trtpoets.core.reading import read_bytes

_MAX_LINES = 10
"""Number of complaints that are kept per check."""


@dataclass(frozen=True)
class UncheckedOnnx:
    """A ModelProto as in its file, the complaints of ONNX's checker, and the external files that contain weights."""

    model: Any
    complaints: tuple[str, ...]
    external: tuple[ExternalFile, ...]


def read_unchecked(path: Path) -> UncheckedOnnx:
    """Read an ONNX file without its external data. Raises BadArtefact if it cannot be parsed, MissingDependency."""
    with needs("train", reason="reading ONNX files"):
        import onnx
    require_kind(path, "onnx", expected="a valid ONNX file")
    content = read_bytes(path)
    check_part_count(path, content)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:
        raise BadArtefact(
            f"{path} is not a valid ONNX file: {_lines(error)[0]}",
            hint="export or copy the file again",
            code="TP3007",
        ) from error
    if not (model.graph.node or model.graph.output or model.functions):
        raise BadArtefact(
            f"{path} is not a valid ONNX file: it contains no graph", hint="export it again", code="TP3008"
        )
    external = external_files(path, content)
    return UncheckedOnnx(model, tuple(dict.fromkeys(_complaints(model))), external)


def _complaints(model: Any) -> list[str]:
    import onnx

    try:
        check_size(model)
    except ValueError as error:
        return _lines(error)  # ONNX's checker would take too long
    standalone = _without_external(model)
    complaints = _unknown_operators(model)
    for check in (
        lambda: onnx.checker.check_model(standalone),
        lambda: onnx.shape_inference.infer_shapes(standalone, check_type=True, strict_mode=True),
    ):
        try:
            check()
        except Exception as error:  # noqa: BLE001 - the checks raise several types of errors; each is a complaint
            complaints += _lines(error)[:_MAX_LINES]
    return complaints


def _unknown_operators(model: Any) -> list[str]:
    """Return complaints about all unknown operators; the checker reports only its first finding."""
    from onnx import defs

    own = {function.name for function in model.functions if function.domain in ("", "ai.onnx")}
    names = [node.op_type for node in all_nodes(model.graph) if node.domain in ("", "ai.onnx")]
    unknown = Counter(name for name in names if name not in own and not defs.has(name))
    return [f"ONNX has no operator {name}, which is used by {count:,} nodes" for name, count in unknown.items()]


def _without_external(model: Any) -> Any:
    """Return a copy with external weights as inputs: the checker would look for them in the current directory."""
    import onnx

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outside = [tensor for tensor in copy.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    named = {value.name for value in copy.graph.input}
    for tensor in outside:
        if tensor.name not in named:
            copy.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
        copy.graph.initializer.remove(tensor)
    return copy


def _lines(error: Exception) -> list[str]:
    """Return the lines of an error's message, without the node that ONNX's checker prints."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    node_lines = ("==>", "input:", "output:", "op_type:", "name:", "domain:")
    return [line for line in lines if not line.startswith(node_lines)] or lines or [type(error).__name__]
