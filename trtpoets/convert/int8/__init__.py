"""Quantises an ONNX network to INT8: calibration, range search, placement of Q/DQ pairs, weight rounding."""
