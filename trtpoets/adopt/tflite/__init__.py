"""Reads TFLite classifiers of other programs, and converts them to ONNX."""

from trtpoets.adopt.tflite.pixels import sibling_pixels
from trtpoets.adopt.tflite.reader import read_tflite_classifier

__all__ = ["read_tflite_classifier", "sibling_pixels"]
