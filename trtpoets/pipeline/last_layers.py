"""The last layer of a file of a run, of ONNX or TFLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.convert.graph.last_layer import LastLayer, last_layer, with_last_layer
from trtpoets.convert.tflite_base import last_layer_of_tflite, with_last_layer_of_tflite
from trtpoets.core.onnx_file import check_onnx, write_onnx
from trtpoets.core.tflite_file import network_in, replace_network
from trtpoets.core.types import OnnxModel, TfliteModel

if TYPE_CHECKING:
    import numpy as np


def last_layer_of_file(model: OnnxModel | TfliteModel) -> LastLayer:
    """Return the dense layer before the softmax at the end of a file.

    Raises ConversionFailed if the file ends in any other way, and BadArtefact if it is damaged.
    """
    if isinstance(model, TfliteModel):
        return last_layer_of_tflite(network_in(model.path))
    return last_layer(check_onnx(model.path))


def replace_last_layer(model: OnnxModel | TfliteModel, weights: np.ndarray, bias: np.ndarray) -> None:
    """Write a file again with other `weights` (D, C) and `bias` (C,), float32. Raises like `last_layer_of_file`."""
    if isinstance(model, TfliteModel):
        replace_network(model, with_last_layer_of_tflite(network_in(model.path), weights, bias))
    else:
        write_onnx(with_last_layer(check_onnx(model.path), weights, bias), model.path)
