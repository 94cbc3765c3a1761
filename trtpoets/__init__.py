"""trtpoets: a folder of labelled photos to a verified TensorRT engine."""

__version__ = "0.1.0"
