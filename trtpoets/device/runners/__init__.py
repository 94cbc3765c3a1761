"""TensorFlow, ONNX Runtime, TensorRT and TensorRT-RTX behind one protocol."""
