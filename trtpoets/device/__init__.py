"""ONNX to an engine to scores: what a Jetson runs. Imports core."""
