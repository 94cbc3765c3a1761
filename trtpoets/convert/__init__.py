"""A classifier to ONNX in each precision. Imports core."""
