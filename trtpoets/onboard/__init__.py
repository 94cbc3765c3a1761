"""What a bundle's commands do on a device. Imports core, device and judge; needs numpy, Pillow, TensorRT, pycuda."""
