"""The CUDA driver, GPU memory and streams, and what NVML reports about the GPU."""
