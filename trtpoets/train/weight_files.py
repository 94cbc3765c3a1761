"""Weight files of any origin, checked and put into a Keras network."""

from __future__ import annotations

import io
import logging
import zipfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact
from trtpoets.core.optional import tensorflow
from trtpoets.train.backbones import BACKBONES, Backbone, KerasApplication
from trtpoets.train.weights import HEAD_BIAS, HEAD_KERNEL, EmbeddedWeights, tensors_of_file

if TYPE_CHECKING:
    import keras

    from trtpoets.train.networks import Graph

log = logging.getLogger(__name__)

Head = tuple[np.ndarray, np.ndarray]
"""The 1,000-class layer: (D, 1000) and (1000,)."""

KERAS_SUFFIXES = (".h5", ".keras")
"""What Keras reads: a whole model or its weights. `.weights.h5` is one of them."""


def load_any(path: Path, backbone: Backbone, makers: Sequence[Callable[[], Graph]]) -> tuple[Graph, Head | None]:
    """Make the first graph that `path` fits, and load it. Also gives the 1,000-class head, where the file has one.

    Raises BadInput that says why the file can't be used.
    """
    if not path.is_file():
        raise BadInput(f"the weights {path} are not a file", hint="give --weights the path of a weight file")
    if path.suffix == ".safetensors":
        graph = makers[0]()
        return graph, _load_safetensors(path, backbone, graph)
    if path.suffix not in KERAS_SUFFIXES:
        raise BadInput(
            f"the weights {path} are of no kind that trtpoets reads",
            hint=f"give a file that ends in {', '.join(KERAS_SUFFIXES)} or .safetensors",
        )
    reasons = []
    for make in makers:
        graph = make()
        try:
            if isinstance(backbone.source, EmbeddedWeights):
                _require_layer_names(path, graph.whole)
            graph.whole.load_weights(path)
        except Exception as error:  # noqa: BLE001 - Keras and h5py raise whatever they meet; each is "does not fit"
            reasons.append(f"{error or type(error).__name__}".strip().splitlines()[0])
            continue
        return graph, _head_of(graph)
    raise BadInput(
        f"the weights {path} do not fit {backbone.name}: {reasons[0]}",
        hint=_fitting(backbone),
    )


def assign(model: keras.Model, tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Give each variable of `model` the tensor of its path. Raises BadInput unless names and shapes are the same."""
    variables = {variable.path: variable for variable in model.variables}
    missing, extra = sorted(variables.keys() - tensors.keys()), sorted(tensors.keys() - variables.keys())
    if missing or extra:
        what = f"lacks {missing[0]}" if missing else f"has {extra[0]}, which the network has not"
        raise BadInput(
            f"the weights {path} {what} ({len(missing)} names missing, {len(extra)} unknown)",
            hint="the names must be those of the Keras variables, such as 'stem/kernel'",
        )
    for name, variable in variables.items():
        found, wanted = tensors[name].shape, tuple(variable.shape)
        if found != wanted:
            raise BadInput(
                f"the weights {path} have {name} as {found}, where the network has {wanted}",
                hint="use weights that were made for this backbone",
            )
        variable.assign(tensors[name])


def require_finite(model: keras.Model, source: Path | str) -> None:
    """Raise BadArtefact when a weight is infinite or not a number."""
    for variable in model.variables:
        if not np.isfinite(variable.numpy()).all():
            raise BadArtefact(f"the weights {source} hold numbers that are not finite, in {variable.path}")


def downloaded(backbone: Backbone, source: KerasApplication) -> Path:
    """The published weights in Keras's own cache, downloaded when they are not there. Raises MissingArtefact."""
    keras = tensorflow().keras
    log.info("fetching %s", source.url)
    talks = keras.config.is_interactive_logging_enabled()
    keras.config.disable_interactive_logging()  # a library does not draw progress bars on standard output
    try:
        return Path(keras.utils.get_file(source.file, source.url, cache_subdir="models", file_hash=source.md5))
    except Exception as error:
        offline = ", ".join(name for name, other in BACKBONES.items() if isinstance(other.source, EmbeddedWeights))
        raise MissingArtefact(
            f"{backbone.name} needs the weights {source.file}, which can't be downloaded: {error}",
            hint=f"fetch {source.url} elsewhere and give it as --weights FILE; these need no download: {offline}",
        ) from error
    finally:
        if talks:
            keras.config.enable_interactive_logging()


def _load_safetensors(path: Path, backbone: Backbone, graph: Graph) -> Head | None:
    try:
        tensors = tensors_of_file(path)
    except BadArtefact as error:
        raise BadInput(error.message, hint=_fitting(backbone)) from error
    head = None
    if HEAD_KERNEL in tensors and HEAD_BIAS in tensors:
        head = tensors.pop(HEAD_KERNEL), tensors.pop(HEAD_BIAS)
    assign(graph.base, tensors, path)
    return head


def _head_of(graph: Graph) -> Head | None:
    if graph.head is None:
        return None
    kernel, bias = (variable.numpy() for variable in graph.head.variables)
    return kernel.reshape(-1, kernel.shape[-1]), bias


def _require_layer_names(path: Path, model: keras.Model) -> None:
    """Raise ValueError unless the file names the layers of `model`.

    Keras matches by order alone, and its own MobileNetV2 has the same order and shapes as ours, but other padding.
    """
    wanted = {layer.name for layer in model.layers if layer.weights}
    found = _layer_names(path)
    if not wanted <= found:
        raise ValueError(f"it has no layer named {sorted(wanted - found)[0]!r}")


def _layer_names(path: Path) -> set[str]:
    """The names of the layers in a file of Keras, in any of its three formats."""
    import h5py

    found: set[str] = set()

    def visit(_: str, node: Any) -> None:
        if "name" in node.attrs:
            found.add(str(node.attrs["name"]))
        found.update(str(name) for name in node.attrs.get("layer_names", ()))

    with ExitStack() as stack:
        stream: Any = path
        if path.suffix == ".keras":
            archive = stack.enter_context(zipfile.ZipFile(path))
            stream = io.BytesIO(archive.read("model.weights.h5"))
        file = stack.enter_context(h5py.File(stream, "r"))
        visit("", file)
        file.visititems(visit)
    return found


def _fitting(backbone: Backbone) -> str:
    source = backbone.source
    if isinstance(source, KerasApplication):
        return f"use a file saved from keras.applications.{source.function}, such as {source.file}"
    return f"use a .safetensors file with the names and shapes of {source.file}"
