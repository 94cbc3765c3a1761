"""Reads TFLite classifiers of other programs, and converts them to ONNX."""

from trtpoets.adoption.tflite.pixels import sibling_pixels
from trtpoets.adoption.tflite.reader import read_tflite_classifier
from trtpoets.adoption.tflite.to_onnx import network_from_tflite

__all__ = ["network_from_tflite", "read_tflite_classifier", "sibling_pixels"]
