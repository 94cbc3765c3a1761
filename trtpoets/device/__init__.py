"""Builds engines from ONNX files and computes scores with all runners; also runs on devices. Imports only core."""
