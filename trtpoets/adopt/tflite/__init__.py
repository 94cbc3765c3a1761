"""Reads TFLite classifiers of other programs, and converts them to ONNX."""

from trtpoets.adopt.tflite.pixels import sibling_pixels
from trtpoets.adopt.tflite.reader import read_tflite_classifier
from trtpoets.adopt.tflite.to_onnx import network_from_tflite

__all__ = ["network_from_tflite", "read_tflite_classifier", "sibling_pixels"]
