"""Reads ONNX classifiers of other programs, and wraps them so that they take photos and return scores."""

from trtpoets.adoption.onnx.classifier import read_onnx_classifier
from trtpoets.adoption.onnx.wrap import fp32_from_onnx, has_own_pairs, wrap_network

__all__ = ["fp32_from_onnx", "has_own_pairs", "read_onnx_classifier", "wrap_network"]
