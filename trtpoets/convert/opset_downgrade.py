"""An ONNX file -> the same network as an older TensorRT reads it: an earlier operator set, photos as floats.

Nothing is computed anew: weights, ranges and nodes stay as they were judged. The operator set is only renamed, which is
right where every node is spelled in the earlier set as it is in the later one; ONNX's own checker decides that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.errors import BadArtefact, ConversionFailed
from trtpoets.core.onnx_file import check_onnx, opset_of, write_onnx
from trtpoets.core.optional import needs
from trtpoets.core.shell_commands import command
from trtpoets.core.types import INPUT_NAME, OnnxModel

if TYPE_CHECKING:
    from pathlib import Path


def onnx_for_older(model: OnnxModel, out: Path, *, opset: int | None = None, float_photos: bool = False) -> OnnxModel:
    """Write an ONNX file at most in operator set `opset`, and with `float_photos` taking float32 0..255, not uint8.

    Photos as uint8 are read by TensorRT 8.5 and later. Raises ConversionFailed where the network needs operators that
    are younger than `opset`, or uses its photos otherwise than by casting them; BadArtefact, StorageFailed.
    """
    proto = check_onnx(model.path)
    if opset is not None and opset_of(proto) > opset:
        _rename_opset(proto, opset)
    if float_photos:
        _take_floats(proto)
    try:
        write_onnx(proto, out)
    except BadArtefact as error:
        raise ConversionFailed(
            f"{model.path} can't be written in ONNX operator set {opset}: {error.message.partition(': ')[2]}",
            hint=f"{command('export', 'NAME', '--opset', opset)} && {command('quantize', 'NAME')}",
            code="TP3051",
        ) from error
    return OnnxModel(out, model.precision, model.spec)


def _rename_opset(proto: Any, opset: int) -> None:
    with needs("train", reason="writing ONNX files"):
        from onnx import helper
    for entry in proto.opset_import:
        if entry.domain in ("", "ai.onnx"):
            entry.version = opset
    proto.ir_version = min(proto.ir_version, helper.find_min_ir_version_for(proto.opset_import))


def _take_floats(proto: Any) -> None:
    """The cast that every graph of ours begins with takes floats as it takes bytes."""
    with needs("train", reason="writing ONNX files"):
        from onnx import TensorProto
    users = {node.op_type for node in proto.graph.node if INPUT_NAME in node.input}
    if users != {"Cast"}:
        raise ConversionFailed(
            f"the network takes its photos into {', '.join(sorted(users)) or 'nothing'}, not into a cast",
            hint="export it again with this trtpoets: trtpoets export NAME --force",
            code="TP3052",
        )
    (photos,) = (value for value in proto.graph.input if value.name == INPUT_NAME)
    photos.type.tensor_type.elem_type = TensorProto.FLOAT
