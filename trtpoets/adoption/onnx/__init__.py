"""Reads ONNX classifiers of other programs, and wraps them so that they take photos and return scores."""

from trtpoets.adoption.onnx.classifier import read_onnx_classifier
from trtpoets.adoption.onnx.wrap import fp32_from_onnx, wrap_network

__all__ = ["fp32_from_onnx", "read_onnx_classifier", "wrap_network"]
