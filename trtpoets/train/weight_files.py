"""Weight files of any origin, checked and put into a Keras network."""

from __future__ import annotations

import hashlib
import io
import warnings
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import temporary_folder
from trtpoets.core.reading import read_bytes
from trtpoets.train.backbones import Backbone, KerasApplication
from trtpoets.train.h5_limits import TOPS, h5_in_keras, largest_weights, require_modest
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL, EmbeddedWeights, tensors_of_content

if TYPE_CHECKING:
    import keras

    from trtpoets.train.networks import Graph

Head = tuple[np.ndarray, np.ndarray]
"""The 1,000-class layer: (D, 1000) and (1000,)."""

KERAS_SUFFIXES = (".h5", ".keras")
"""What Keras reads: a whole model or its weights. `.weights.h5` is one of them."""


_DAMAGE = (ValueError, KeyError, TypeError, RuntimeError, EOFError, OSError, zlib.error)
"""What h5py and zipfile raise at damaged files, beside BadZipFile."""

KERAS_KINDS = ("keras", "keras-h5", "hdf5", "zip")
"""What those files are by their content; weights alone are HDF5 without Keras's configuration."""


def load_any(path: Path, backbone: Backbone, makers: Sequence[Callable[[], Graph]]) -> tuple[Graph, Head | None, str]:
    """Make the first graph that `path` fits, and load it.

    Also gives the 1,000-class head, where the file has one, and the sha256 of the bytes that were loaded. Raises
    BadInput that says why the file can't be used.
    """
    if not path.is_file():
        raise BadInput(
            f"the weights {path} are not a file", hint="give --weights the path of a weight file", code="TP2080"
        )
    try:
        require_kind(path, "safetensors", *KERAS_KINDS, expected="a weight file of Keras or safetensors")
    except BadArtefact as error:
        raise BadInput(error.message, hint=error.hint, code="TP2081") from error
    if path.suffix != ".safetensors" and path.suffix not in KERAS_SUFFIXES:
        raise BadInput(
            f"the weights {path} are of no kind that trtpoets reads",
            hint=f"give a file that ends in {', '.join(KERAS_SUFFIXES)} or .safetensors",
            code="TP2082",
        )
    try:
        content = read_bytes(path, largest_weights(backbone.parameters + TOPS))
    except OSError as error:
        raise BadInput(
            f"the weights {path} can't be read: {error.strerror}", hint="check its permissions", code="TP2083"
        ) from error
    return (*load_content(path, content, backbone, makers), hashlib.sha256(content).hexdigest())


def load_content(
    path: Path, content: bytes, backbone: Backbone, makers: Sequence[Callable[[], Graph]]
) -> tuple[Graph, Head | None]:
    """`load_any` of a file that was read already; its name tells its format."""
    if path.suffix == ".safetensors":
        graph = makers[0]()
        return graph, _load_safetensors(path, content, backbone, graph)
    reasons = []
    try:
        h5 = _h5_of(path, content, largest_weights(backbone.parameters + TOPS))
        for make in makers:
            graph = make()
            try:
                if isinstance(backbone.source, EmbeddedWeights):
                    _require_layer_names(h5, graph.whole)
                _load_keras(h5, path, graph)
            except Exception as error:  # noqa: BLE001 - Keras and h5py raise whatever they meet; each is "does not fit"
                reasons.append(_first_line(error))
                continue
            return graph, _head_of(graph)
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        reasons.append(_first_line(error))
    raise BadInput(
        f"the weights {path} do not fit {backbone.name}: {reasons[0]}",
        hint=_fitting(backbone),
        code="TP2084",
    )


def _h5_of(path: Path, content: bytes, most: int) -> bytes:
    """The HDF5 file with the weights, once it is known that reading it takes at most `most` bytes."""
    h5 = h5_in_keras(content, most) if path.suffix == ".keras" else content
    require_modest(h5, most)
    return h5


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def assign(model: keras.Model, tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Give each variable of `model` the tensor of its path. Raises BadInput unless names and shapes are the same."""
    variables = {variable.path: variable for variable in model.variables}
    missing, extra = sorted(variables.keys() - tensors.keys()), sorted(tensors.keys() - variables.keys())
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the network has not"
        raise BadInput(
            f"the weights {path} {what} ({len(missing)} names missing, {len(extra)} unknown)",
            hint="name them as Keras does: {weight.path: weight.numpy() for weight in model.weights}",
            code="TP2085",
        )
    for name, variable in variables.items():
        found, wanted = tensors[name].shape, tuple(variable.shape)
        if found != wanted:
            raise BadInput(
                f"the weights {path} have {name} as {found}, where the network has {wanted}",
                hint="use weights that were made for this backbone",
                code="TP2086",
            )
        variable.assign(tensors[name])


def require_finite(model: keras.Model, source: Path | str) -> None:
    """Raise BadArtefact when a weight is infinite or not a number."""
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            raise BadArtefact(
                f"the weights {source} hold numbers that are not finite, in {variable.path}", code="TP2087"
            )


def _load_safetensors(path: Path, content: bytes, backbone: Backbone, graph: Graph) -> Head | None:
    try:
        tensors = tensors_of_content(content, path)
    except BadArtefact as error:
        raise BadInput(error.message, hint=_fitting(backbone), code="TP2088") from error
    head = None
    names = [(HEAD_KERNEL, HEAD_BIAS)]
    if graph.head:
        names.append((graph.head.kernel.path, graph.head.bias.path))
    for kernel, bias in names:
        if kernel in tensors and bias in tensors:
            head = _flat(tensors.pop(kernel)), tensors.pop(bias)
            width = graph.base.output.shape[-1]
            if head[0].shape != (width, 1000) or head[1].shape != (1000,):
                raise BadInput(
                    f"the weights {path} have a 1,000-class layer of {head[0].shape} and {head[1].shape}",
                    hint=f"it must be ({width}, 1000) and (1000,); without it, the file is good for training",
                    code="TP2089",
                )
    assign(graph.base, tensors, path)
    return head


def _head_of(graph: Graph) -> Head | None:
    if graph.head is None:
        return None
    kernel, bias = (variable.numpy() for variable in graph.head.variables)
    return _flat(kernel), bias


def _flat(kernel: np.ndarray) -> np.ndarray:
    """Some networks have a 1 x 1 convolution as their last layer: (1, 1, D, 1000) -> (D, 1000)."""
    return kernel.reshape(-1, kernel.shape[-1])


def _load_keras(h5: bytes, path: Path, graph: Graph) -> None:
    """Load an HDF5 file of Keras into the whole graph. Raises ValueError where it leaves a variable without numbers.

    Keras may skip what a file lacks with no more than a warning, so each variable is emptied first and looked at after.
    It is given a copy of the bytes that were checked and hashed: the file at `path` may have been changed since.
    """
    needed = [*graph.base.variables, *(graph.head.variables if graph.head else [])]
    for variable in needed:
        variable.assign(np.full(variable.shape, np.nan))
    whole = path.suffix == ".h5" and not path.name.endswith(".weights.h5")
    with temporary_folder() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        copy = folder / ("model.h5" if whole else "model.weights.h5")
        copy.write_bytes(h5)
        graph.whole.load_weights(copy)
    for variable in needed:
        if np.isnan(variable.numpy()).all():
            raise ValueError(f"it has nothing for {variable.path}")


def _require_layer_names(h5: bytes, model: keras.Model) -> None:
    """Raise ValueError unless the file names the layers of `model`.

    Keras matches by order alone, and its own MobileNetV2 has the same order and shapes as ours, but other padding.
    """
    wanted = {layer.name for layer in model.layers if layer.weights}
    found = _layer_names(h5)
    if not wanted <= found:
        raise ValueError(f"it has no layer named {sorted(wanted - found)[0]!r}")


def _layer_names(h5: bytes) -> set[str]:
    """The names of the layers in an HDF5 file of Keras, in any of its three formats."""
    import h5py

    found: set[str] = set()

    def visit(_: str, node: Any) -> None:
        if "name" in node.attrs:
            found.add(str(node.attrs["name"]))
        found.update(str(name) for name in node.attrs.get("layer_names", ()))

    with h5py.File(io.BytesIO(h5), "r") as file:
        visit("", file)
        file.visititems(visit)
    return found


def _fitting(backbone: Backbone) -> str:
    source = backbone.source
    if isinstance(source, KerasApplication):
        return f"use a file saved from keras.applications.{source.function}, such as {source.file}"
    return f"use a .safetensors file with the names and shapes of {source.file}"
