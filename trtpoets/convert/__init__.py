"""Converts classifiers to ONNX in each precision, and to TFLite. Imports core only."""
