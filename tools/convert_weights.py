"""Converts a published PyTorch file to one of the embedded weight files. Not part of the product; run once.

    python -m tools.convert_weights SOURCE.pth OUT.safetensors

SOURCE is one of the two files in README.md, identified by its sha256; other files are rejected. Such a file is a
pickle, which could run any code; `trtpoets.train.torch_files` reads it without running anything.

Names become those of the Keras network (`stem/kernel`), kernels get Keras's layout, and arrays with two or more
dimensions are rounded to float16. Vectors (biases, batch-norm statistics) stay float32: they are a fiftieth of the
numbers, and variances down to 1e-44 would underflow. Batch norms are not folded. The same source always gives the same
bytes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from trtpoets.core.errors import BadArtefact, BadInput, TrtPoetsError
from trtpoets.core.files import atomic_file, sha256_of_file
from trtpoets.train.own_networks.table import OWN_NETWORKS
from trtpoets.train.torch_files import read_tensors
from trtpoets.train.weights import EMBEDDED


def keras_tensors(backbone: str, tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the tensors of a source file with Keras's names and layout, still float32."""
    return OWN_NETWORKS[backbone].torch_names.keras_tensors(tensors)


def half_kernels(tensors: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Round arrays with two or more dimensions to float16. Raises BadArtefact if that overflows."""
    with np.errstate(over="ignore"):  # checked below
        halved = {name: value.astype(np.float16) if value.ndim > 1 else value for name, value in tensors.items()}
    for name, value in halved.items():
        if not np.isfinite(value).all():
            raise BadArtefact(f"{name} does not fit float16")
    return halved


def convert(source: Path, out: Path) -> None:
    """Write `out` from a published file. Raises BadInput if `source` is not one of those in README.md."""
    digest = sha256_of_file(source)
    known = {entry.origin_sha256: name for name, entry in EMBEDDED.items()}
    if digest not in known:
        raise BadInput(
            f"{source} has the sha256 {digest}, which is not that of a published file",
            hint=f"known: {', '.join(f'{name} {sha}' for sha, name in known.items())}",
        )
    tensors = half_kernels(keras_tensors(known[digest], read_tensors(source.read_bytes(), 1 << 30)))
    with atomic_file(out) as part:
        save_file(tensors, part)


def main() -> int:
    """Convert the file given on the command line."""

    if len(sys.argv) != 3:
        print("usage: python -m tools.convert_weights SOURCE.pth OUT.safetensors", file=sys.stderr)
        return 2
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except (TrtPoetsError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{sys.argv[2]}: sha256 {sha256_of_file(Path(sys.argv[2]))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
