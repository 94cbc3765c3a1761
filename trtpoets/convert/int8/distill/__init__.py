"""Distillation: trains the weights and scales of an INT8 network so that its features come close to those of FP32."""
