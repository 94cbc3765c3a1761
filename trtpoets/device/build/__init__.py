"""Builds TensorRT engines from ONNX files in a child process, and reads their cards."""
