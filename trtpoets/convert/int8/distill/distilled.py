"""Distils an INT8 network from its FP32 original: the features of FP32 are the target, and no labels are used.

Source of the method: Esser et al., "Learned Step Size Quantization" (ICLR 2020), for the scales, and Choi et al.,
"PACT" (2018), for the clipping; see fake_quantisation.py. The original is the teacher, as in Hinton, Vinyals, Dean,
"Distilling the Knowledge in a Neural Network" (2015), with the features as the target. Batch norms are folded, so that
there are no statistics that a small number of photos could spoil.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from trtpoets.convert.int8.distill.network import DifferentiableNetwork
from trtpoets.convert.int8.distill.parameters import TrainedParameters, with_constants
from trtpoets.convert.int8.distill.training import DistillConfig, Trained, trained
from trtpoets.convert.int8.fidelity import sqnr_db
from trtpoets.convert.int8.placement import Placement
from trtpoets.core.errors import ConversionFailed
from trtpoets.core.optional import tensorflow
from trtpoets.core.progress import Progress, silent

_MIN_DB = 60.0
"""Least SQNR of TensorFlow's features of FP32, compared with those of ONNX Runtime: they differ in the last bits."""

_COMPARED = 4
"""The number of photos for this comparison."""


def distilled(
    version: Any,
    placement: Placement,
    feature_name: str,
    photos: np.ndarray,
    features: np.ndarray,
    config: DistillConfig,
    progress: Progress = silent,
) -> tuple[Any, Trained]:
    """Return an INT8 version of a network with trained weights, biases and scales, and the notes of the training.

    `version` is a ModelProto with Q/DQ pairs at the places of `placement`; it is returned as it is if no step of the
    training brought the features of held-out photos closer. `photos` are uint8 (N, H, W, 3), `features` float32 (N, F)
    those of FP32. Layers in FP32 keep their weights. Raises ConversionFailed if an operator is not supported.
    """
    levels = {weight.tensor: weight.levels for weight in placement.weights}
    network = DifferentiableNetwork(version, feature_name, levels)
    result = trained(network, TrainedParameters(network, placement.same_scale), photos, features, config, progress)
    return (with_constants(version, result.constants) if result.steps else version), result


def require_differentiable(fp32: Any, feature_name: str, photos: np.ndarray, features: np.ndarray) -> None:
    """Raise ConversionFailed if TensorFlow does not compute the `features` of the FP32 ModelProto as ONNX Runtime did.

    The reason is an operator that is not supported, or one whose result differs.
    """
    network = DifferentiableNetwork(fp32, feature_name, {})
    own = np.asarray(network.run(tensorflow().constant(photos[:_COMPARED])))
    db = sqnr_db(features[:_COMPARED], own)
    if db < _MIN_DB:
        raise ConversionFailed(
            f"TensorFlow computes other features than ONNX Runtime (SQNR {db:.0f} dB), so the network can't be "
            "distilled",
            hint="quantise without it: trtpoets quantize NAME",
            code="TP3292",
        )
