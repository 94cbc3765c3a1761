"""Converts a frozen TensorFlow-Slim graph of MobileNet V1 to a weights file for `--weights` and `int8.py`.

python benchmarks/frozen_graph.py frozen_graph.pb mobilenet.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from trtpoets.core.optional import tensorflow
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL

_NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def keras_names(name: str) -> tuple[str, str]:
    """Return the Keras names of a Slim convolution and its batch normalisation: Conv2d_3_pointwise is conv_pw_3."""
    _, number, *kind = name.split("_")
    if not kind:
        return "conv1", "conv1_bn"
    stem = f"conv_{'dw' if kind[0] == 'depthwise' else 'pw'}_{number}"
    return stem, f"{stem}_bn"


def tensors_of(path: Path) -> dict[str, np.ndarray]:
    """Return the constants of a frozen graph by Keras name, with the head reduced to 1,000 classes.

    Slim's additional background class is removed.
    """
    tf = tensorflow()
    graph = tf.compat.v1.GraphDef()
    graph.ParseFromString(path.read_bytes())
    tensors: dict[str, np.ndarray] = {}
    for node in graph.node:
        parts = node.name.split("/")
        if node.op != "Const" or len(parts) < 3 or parts[0] != "MobilenetV1" or parts[1] == "MobilenetV1":
            continue
        value = tf.make_ndarray(node.attr["value"].tensor)
        if parts[1] == "Logits":
            if parts[-1] == "weights":
                tensors[HEAD_KERNEL] = value.reshape(-1, value.shape[-1])[:, 1:]
            elif parts[-1] == "biases":
                tensors[HEAD_BIAS] = value[1:]
            continue
        if not parts[1].startswith("Conv2d_"):
            continue
        convolution, norm = keras_names(parts[1])
        if parts[2] == "BatchNorm" and parts[-1] in _NORM:
            tensors[f"{norm}/{parts[-1]}"] = value
        elif parts[-1] in ("weights", "depthwise_weights"):
            tensors[f"{convolution}/kernel"] = value
    return tensors


def main() -> None:
    """Convert the graph and print the number of tensors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("graph", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    from safetensors.numpy import save_file

    tensors = {name: np.ascontiguousarray(value) for name, value in tensors_of(options.graph).items()}
    save_file(tensors, str(options.out))
    print(f"{options.out}: {len(tensors)} tensors, {sum(value.size for value in tensors.values()):,} numbers")


if __name__ == "__main__":
    main()
