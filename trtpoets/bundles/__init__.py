"""Writes bundles: a run packed for a Jetson, Triton, ONNX Runtime or TFLite. Imports core, judge and report."""
