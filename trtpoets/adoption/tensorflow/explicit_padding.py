"""Gives depthwise convolutions with explicit padding a Pad of their own, because TensorFlow may abort on them.

TensorFlow fuses a convolution with the bias behind it. For a depthwise one with explicit padding, oneDNN's pass over
the graph (MklLayoutRewritePass, on processors with AVX512_VNNI, among others) then ends the whole process: "Check
failed: index >= 0 && index < num_total_dims". A Pad in front of a convolution without padding computes the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from trtpoets.adoption.tensorflow.graph import add_constant, attribute


def separate_padding(definition: Any) -> int:
    """Change a GraphDef, functions included, so that no depthwise convolution has explicit padding.

    Returns the number of convolutions that were changed.
    """
    count = _separate(definition.node, "")
    for function in definition.library.function:
        count += _separate(function.node_def, ":output:0")
    return count


def _separate(nodes: Any, suffix: str) -> int:
    """Change the nodes of a graph or of a function, in which `suffix` follows the name of a node in its tensors."""
    changed = [node for node in nodes if _has_explicit_padding(node)]
    taken = {node.name for node in nodes}
    for node in changed:
        sizes, pad = (_unused(f"{node.name}/{what}", taken) for what in ("paddings", "Pad"))
        taken |= {sizes, pad}
        paddings = np.array(attribute(node, "explicit_paddings").list.i, np.int32).reshape(-1, 2)
        add_constant(nodes, sizes, paddings)
        added = nodes.add()
        added.name, added.op = pad, "Pad"
        added.input.extend([node.input[0], f"{sizes}{suffix}"])
        added.attr["T"].type = attribute(node, "T").type
        added.attr["Tpaddings"].type = 3
        node.input[0] = f"{pad}{suffix}"
        node.attr["padding"].s = b"VALID"
        del node.attr["explicit_paddings"]
    return len(changed)


def _has_explicit_padding(node: Any) -> bool:
    return bool(node.op == "DepthwiseConv2dNative" and attribute(node, "padding").s == b"EXPLICIT")


def _unused(name: str, taken: Iterable[str]) -> str:
    while name in taken:
        name += "_"
    return name
