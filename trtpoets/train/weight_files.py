"""Loads weight files of any origin into Keras networks, after checking them."""

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

from trtpoets.core.errors import BadArtefact, BadInput, first_line
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import temporary_folder
from trtpoets.core.h5_limits import TOPS, h5_in_keras, largest_weights, require_small_arrays
from trtpoets.core.reading import read_bytes, read_errors
from trtpoets.train.backbones import Backbone, KerasApplication, PublishedFile
from trtpoets.train.downloaded_weights import require_weight_file
from trtpoets.train.own_networks.table import OWN_NETWORKS
from trtpoets.train.torch_files import read_tensors
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL, tensors_of_content

if TYPE_CHECKING:
    import keras

    from trtpoets.train.networks import BackboneGraph

Head = tuple[np.ndarray, np.ndarray]
"""The 1,000-class layer: (D, 1000) and (1000,)."""

KERAS_SUFFIXES = (".h5", ".keras")
"""Suffixes of files that Keras reads: a whole model or its weights, `.weights.h5` included."""


_DAMAGE = (ValueError, KeyError, TypeError, RuntimeError, EOFError, OSError, zlib.error)
"""Exceptions that h5py and zipfile raise for damaged files, besides BadZipFile."""

TORCH_SUFFIX = ".pth"
"""Suffix of files with PyTorch's tensors, which networks of `own_networks` accept."""

TORCH_KINDS = ("pytorch", "pytorch-pickle")
"""The kinds of those files by content."""

KERAS_KINDS = ("keras", "keras-h5", "hdf5", "zip")
"""The kinds of those files by content; a file with weights only is HDF5 without Keras's configuration."""


def load_weights(
    path: Path, backbone: Backbone, makers: Sequence[Callable[[], BackboneGraph]]
) -> tuple[BackboneGraph, Head | None, str]:
    """Build the first graph that the file fits, and load the weights.

    Returns the graph, the 1,000-class head if the file has one, and the sha256 of the loaded bytes. Raises BadInput
    that says why the file cannot be used.
    """
    require_weight_file(path, backbone)
    kinds, suffixes = ["safetensors", *KERAS_KINDS], [*KERAS_SUFFIXES]
    if backbone.name in OWN_NETWORKS:
        kinds += TORCH_KINDS
        suffixes.append(TORCH_SUFFIX)
    try:
        require_kind(path, *kinds, expected="a weight file of Keras or safetensors")
    except BadArtefact as error:
        raise BadInput(error.message, hint=error.hint, code="TP2081") from error
    if path.suffix not in (*suffixes, ".safetensors"):
        raise BadInput(
            f"the weights {path} must be a file of type {', '.join(suffixes)} or .safetensors",
            hint="save the weights with Keras: model.save_weights('NAME.weights.h5')",
            code="TP2082",
        )
    with read_errors(BadInput, path, hint="check its permissions", code="TP2083"):
        content = read_bytes(path, largest_weights(backbone.parameters + TOPS))
    return (*load_weights_from_bytes(path, content, backbone, makers), hashlib.sha256(content).hexdigest())


def load_weights_from_bytes(
    path: Path, content: bytes, backbone: Backbone, makers: Sequence[Callable[[], BackboneGraph]]
) -> tuple[BackboneGraph, Head | None]:
    """Do the same as `load_weights` with the content of a file; the suffix of `path` determines the format."""
    if path.suffix in (".safetensors", TORCH_SUFFIX):
        tensors = _named_tensors(path, content, backbone)
        graph = makers[0]()
        return graph, _load_tensors(path, tensors, graph)
    reasons = []
    try:
        h5 = _h5_of(path, content, largest_weights(backbone.parameters + TOPS))
        for make in makers:
            graph = make()
            try:
                if backbone.name in OWN_NETWORKS:
                    _require_layer_names(h5, graph.whole)
                _load_keras(h5, path, graph)
            except Exception as error:  # noqa: BLE001 - Keras and h5py raise any type; each means "does not fit"
                reasons.append(first_line(error))
                continue
            return graph, _head_of(graph)
    except (*_DAMAGE, zipfile.BadZipFile) as error:
        reasons.append(first_line(error))
    raise BadInput(
        f"the weights {path} do not fit {backbone.name}: {reasons[0]}",
        hint=_hint_for(backbone),
        code="TP2084",
    )


def _h5_of(path: Path, content: bytes, most: int) -> bytes:
    """Return the HDF5 file with the weights, after checking that reading it takes at most `most` bytes."""
    h5 = h5_in_keras(content, most) if path.suffix == ".keras" else content
    require_small_arrays(h5, most)
    return h5


def assign(model: keras.Model, tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Assign each variable of `model` the tensor with its path. Raises BadInput unless names and shapes are equal."""
    variables = {variable.path: variable for variable in model.variables}
    missing, extra = sorted(variables.keys() - tensors.keys()), sorted(tensors.keys() - variables.keys())
    if missing or extra:
        problem = f"do not have {missing[0]}" if missing else f"have {extra[0]}, which is not in the network"
        raise BadInput(
            f"the weights {path} {problem} ({len(missing)} names missing, {len(extra)} unknown)",
            hint="name them like Keras: {weight.path: weight.numpy() for weight in model.weights}",
            code="TP2085",
        )
    for name, variable in variables.items():
        shape, expected = tensors[name].shape, tuple(variable.shape)
        if shape != expected:
            raise BadInput(
                f"{name} in the weights {path} has the shape {shape} instead of {expected}",
                hint="use weights of this backbone",
                code="TP2086",
            )
        variable.assign(tensors[name])


def require_finite(model: keras.Model, source: Path | str) -> None:
    """Raise BadArtefact if a weight is not finite."""
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            raise BadArtefact(
                f"the weights {source} contain values that are not finite, in {variable.path}", code="TP2087"
            )


def _load_tensors(path: Path, tensors: dict[str, np.ndarray], graph: BackboneGraph) -> Head | None:
    """Assign the tensors of a file to the graph, and return the 1,000-class layer, if there is one."""
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
                    f"the 1,000-class layer in the weights {path} has the shapes {head[0].shape} and {head[1].shape} "
                    f"instead of ({width}, 1000) and (1000,)",
                    hint="remove that layer from the file; retraining does not need it",
                    code="TP2089",
                )
    assign(graph.base, tensors, path)
    return head


def _named_tensors(path: Path, content: bytes, backbone: Backbone) -> dict[str, np.ndarray]:
    """Return the tensors of a safetensors or PyTorch file as float32, with the names of Keras."""
    try:
        if path.suffix == ".safetensors":
            tensors = tensors_of_content(content, path)
        else:
            tensors = read_tensors(content, largest_weights(backbone.parameters + TOPS))
    except BadArtefact as error:
        subject = error.subject or f"the weights {path} can't be read:"
        raise BadInput(error.reason, hint=_hint_for(backbone), code="TP2088", subject=subject) from error
    # Keras separates the name of a layer from that of its variable by "/", PyTorch by ".".
    if backbone.name in OWN_NETWORKS and not any("/" in name for name in tensors):
        try:
            tensors = OWN_NETWORKS[backbone.name].torch_names.keras_tensors(tensors)
        except KeyError as error:
            raise BadInput(
                f"the weights {path} have a variable that {backbone.name} does not have: {error.args[0]}",
                hint=_hint_for(backbone),
                code="TP2154",
            ) from error
    return {name: np.asarray(value, np.float32) for name, value in tensors.items()}


def _head_of(graph: BackboneGraph) -> Head | None:
    if graph.head is None:
        return None
    kernel, bias = (variable.numpy() for variable in graph.head.variables)
    return _flat(kernel), bias


def _flat(kernel: np.ndarray) -> np.ndarray:
    """Return the kernel of a 1 x 1 convolution, which some networks have as last layer, as (D, 1000)."""
    return kernel.reshape(-1, kernel.shape[-1])


def _load_keras(h5: bytes, path: Path, graph: BackboneGraph) -> None:
    """Load an HDF5 file of Keras into the whole graph. Raises ValueError if a variable gets no values.

    If a file lacks values, Keras may only warn. So each variable is set to NaN before and checked afterwards. Keras
    reads a copy of the bytes that were checked and hashed, because the file at `path` may have changed since.
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
            raise ValueError(f"it has no values for {variable.path}")


def _require_layer_names(h5: bytes, model: keras.Model) -> None:
    """Raise ValueError unless the file contains the layer names of `model`.

    Keras matches layers by order only. Its own MobileNetV2 has the same order and shapes as that of trtpoets, but
    different padding.
    """
    expected = {layer.name for layer in model.layers if layer.weights}
    names = _layer_names(h5)
    if not expected <= names:
        raise ValueError(f"it has no layer named {sorted(expected - names)[0]!r}")


def _layer_names(h5: bytes) -> set[str]:
    """Return the names of the layers in an HDF5 file of Keras, in any of its three formats."""
    import h5py

    names: set[str] = set()

    def visit(_: str, node: Any) -> None:
        if "name" in node.attrs:
            names.add(str(node.attrs["name"]))
        names.update(str(name) for name in node.attrs.get("layer_names", ()))

    with h5py.File(io.BytesIO(h5), "r") as file:
        visit("", file)
        file.visititems(visit)
    return names


def _hint_for(backbone: Backbone) -> str:
    source = backbone.source
    if isinstance(source, KerasApplication):
        return f"use a file saved from keras.applications.{source.function}, such as {source.file}"
    if isinstance(source, PublishedFile):
        return f"use the file that {source.publisher} publishes: {source.url}"
    return f"use a .safetensors file with the names and shapes of {source.file}"
