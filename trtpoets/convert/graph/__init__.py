"""Reads and edits ONNX graphs."""
