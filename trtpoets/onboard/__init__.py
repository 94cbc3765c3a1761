"""The commands of a bundle on a device. Imports core, device and judge; needs numpy, Pillow, TensorRT and pycuda."""
