"""ONNX files read to be described only: never refused for what the checker dislikes, and without external data.

What comes from here must not reach TensorRT's parser: that takes files that `check_onnx` has passed.
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

_MOST = 10
"""Complaints that are kept of one check."""


@dataclass(frozen=True)
class UncheckedOnnx:
    """A ModelProto as its file has it, what ONNX's checker says against it, and the files that its weights are in."""

    model: Any
    complaints: tuple[str, ...]
    external: tuple[ExternalFile, ...]


def read_unchecked(path: Path) -> UncheckedOnnx:
    """Read an ONNX file without its external data. Raises BadArtefact for what does not parse, MissingDependency."""
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
            hint="export it again, or copy it again",
            code="TP3007",
        ) from error
    if not (model.graph.node or model.graph.output or model.functions):
        raise BadArtefact(f"{path} is not a valid ONNX file: it holds no graph", hint="export it again", code="TP3008")
    external = external_files(path, content)
    return UncheckedOnnx(model, tuple(dict.fromkeys(_complaints(model))), external)


def _complaints(model: Any) -> list[str]:
    import onnx

    try:
        check_size(model)
    except ValueError as error:
        return _lines(error)  # the checker would not end
    whole = _without_external(model)
    found = _unknown_operators(model)
    for check in (
        lambda: onnx.checker.check_model(whole),
        lambda: onnx.shape_inference.infer_shapes(whole, check_type=True, strict_mode=True),
    ):
        try:
            check()
        except Exception as error:  # noqa: BLE001 - the checks raise errors of several kinds; each is a complaint
            found += _lines(error)[:_MOST]
    return found


def _unknown_operators(model: Any) -> list[str]:
    """The checker stops at the first complaint, which may be another."""
    from onnx import defs

    own = {function.name for function in model.functions if function.domain in ("", "ai.onnx")}
    names = [node.op_type for node in all_nodes(model.graph) if node.domain in ("", "ai.onnx")]
    unknown = Counter(name for name in names if name not in own and not defs.has(name))
    return [f"ONNX has no operator {name}, which {count:,} of its nodes are" for name, count in unknown.items()]


def _without_external(model: Any) -> Any:
    """A copy in which weights of other files are inputs: the checker would look for them in the current directory."""
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
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The checker shows the whole node on lines of its own.
    told = [line for line in lines if not line.startswith(("==>", "input:", "output:", "op_type:", "name:", "domain:"))]
    return told or lines or [type(error).__name__]
