"""Rewrites an ONNX file for an older TensorRT: lower opset, photos as float32.

Weights and ranges are unchanged. Nodes that have another form in the lower opset, or do not exist there, are rewritten
(`opset_rewrites.py`); ONNX's checker verifies the result.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.convert.opset_rewrites import rewrite_nodes
from trtpoets.core.errors import BadArtefact, ConversionFailed
from trtpoets.core.onnx_file import check_onnx, opset_of, write_onnx
from trtpoets.core.optional import needs
from trtpoets.core.shell_commands import command
from trtpoets.core.types import INPUT_NAME, OnnxModel

if TYPE_CHECKING:
    from pathlib import Path


def onnx_for_older(model: OnnxModel, out: Path, *, opset: int | None = None, float_photos: bool = False) -> OnnxModel:
    """Write an ONNX file with opset `opset` at most; with `float_photos` its input is float32 0..255 instead of uint8.

    TensorRT before 8.5 cannot read uint8 photos. Raises ConversionFailed if the network needs operators newer than
    `opset` or uses its photos in any other way than casting them; BadArtefact, StorageFailed.
    """
    proto = check_onnx(model.path)
    if opset is not None and opset_of(proto) > opset:
        _lower_opset(proto, opset)
    if float_photos:
        _set_float_input(proto)
    try:
        write_onnx(proto, out)
    except BadArtefact as error:
        raise ConversionFailed(
            f"{model.path} can't be converted to ONNX opset {opset}: {error.reason}",
            hint=f"{command('export', 'NAME', '--opset', opset)} && {command('quantize', 'NAME')}",
            code="TP3051",
        ) from error
    return OnnxModel(out, model.precision, model.spec)


def _lower_opset(proto: Any, opset: int) -> None:
    with needs("train", reason="writing ONNX files"):
        from onnx import helper
    rewrite_nodes(proto, opset)
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    proto.ir_version = min(proto.ir_version, helper.find_min_ir_version_for(proto.opset_import))


def _set_float_input(proto: Any) -> None:
    """Change the type of the photos to float32. Our graphs begin with a cast, which accepts both types."""
    with needs("train", reason="writing ONNX files"):
        from onnx import TensorProto
    users = {node.op_type for node in proto.graph.node if INPUT_NAME in node.input}
    if users != {"Cast"}:
        raise ConversionFailed(
            f"the photos must be read by a Cast only, but are read by {', '.join(sorted(users)) or 'no node'}",
            hint="export it again: trtpoets export NAME --force",
            code="TP3052",
        )
    (photos,) = (value for value in proto.graph.input if value.name == INPUT_NAME)
    photos.type.tensor_type.elem_type = TensorProto.FLOAT
