"""Checks the configuration of a Keras file before Keras builds its layers: no code, no classes of other programs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trtpoets.adoption.foreign import AGAIN
from trtpoets.core.errors import BadArtefact

_CODE = ("Lambda", "__lambda__", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer")
"""Classes whose configuration contains code, or names files with code."""

_OWN_MODULES = re.compile(r"^(keras|tf_keras)(\.|$)")

_TENSORFLOW_LAYERS = ("TFOpLambda", "SlicingOpLambda")
_HARMLESS_FUNCTION = re.compile(
    r"^(math|nn|image|linalg|__operators__|dtypes|quantization)\.[\w.]+$|^(cast|reshape|concat|expand_dims|squeeze|stack"
    r"|transpose|split|unstack|reverse|identity|stop_gradient|clip_by_value|strided_slice|gather|pad|tile|shape|ones_like"
    r"|zeros_like|convert_to_tensor|compat\.v1\.transpose|compat\.v1\.shape|compat\.v1\.nn\.\w+|compat\.v1\.squeeze"
    r"|keras\.backend\.\w+|repeat|range|one_hot|slice|where|maximum|minimum|abs|sqrt|subtract|multiply|add|divide)$"
)
"""Functions of TensorFlow that a TFOpLambda layer may call: those that only compute."""


def require_no_code(config: Any, path: Path, allow_code: bool) -> None:
    """Raise BadArtefact if a Keras configuration contains code, or classes that Keras does not have."""
    for part in _parts(config):
        name = part.get("class_name")
        module, registered = part.get("module"), part.get("registered_name")
        if not isinstance(name, str):
            continue
        inner = part.get("config")
        function = inner.get("function") if isinstance(inner, dict) else None
        layer = inner.get("name") if isinstance(inner, dict) else None
        if name in _CODE and not allow_code:
            raise BadArtefact(
                f"{path} contains a {name} layer ({layer or 'without a name'}), whose Python code would be run; "
                "it was not run",
                hint="replace it by a Keras layer such as Rescaling and save again; or, if you trust the program that "
                f"wrote the file: {AGAIN} --allow-code",
                code="TP9121",
            )
        if name in _TENSORFLOW_LAYERS and isinstance(function, str) and not _HARMLESS_FUNCTION.match(function):
            if not allow_code:
                raise BadArtefact(
                    f"{path} calls the function tf.{function} in the layer {layer}, which may do more than compute; "
                    "it was not run",
                    hint=f"if you trust the program that wrote the file: {AGAIN} --allow-code",
                    code="TP9122",
                )
        elif _is_custom(name, module, registered):
            raise custom_class(path, str(registered or name))


def custom_class(path: Path, name: str) -> BadArtefact:
    """The error for a class that only the program that wrote the file has."""
    return BadArtefact(
        f"{path} needs {name}, a class of the program that wrote it; the file does not contain its code",
        hint="in that program, write a SavedModel with model.export('FOLDER'), and adopt FOLDER",
        code="TP9123",
    )


def unknown_class(text: str) -> str | None:
    """Return the name of the class that Keras says it does not know, in the text of its exception."""
    match = re.search(
        r"(?:Unknown \w+|Could not locate (?:class|function)):? ['\"]?([\w>./ ]+?)['\"]?[.\s]", text + " "
    )
    return match.group(1) if match else None


def _is_custom(name: str, module: object, registered: object) -> bool:
    if isinstance(module, str) and not _OWN_MODULES.match(module):
        # Keras writes its own functions, such as activations, with the module builtins.
        return (module, name) != ("builtins", "function")
    if isinstance(registered, str) and ">" in registered and not registered.startswith(("keras", "Keras")):
        return True
    return ">" in name


def _parts(config: Any) -> Iterator[dict[str, Any]]:
    """Yield all mappings in a configuration."""
    pending = [config]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            yield part
            pending += part.values()
        elif isinstance(part, list):
            pending += part


def needs_keras_2(config: Any) -> bool:
    """Whether Keras 3 can't read a configuration of Keras 2: nested models in a Sequential, functions as layers.

    The answer only saves time: what Keras 3 can't read otherwise is noticed when it tries.
    """
    if any(part.get("class_name") in _TENSORFLOW_LAYERS for part in _parts(config)):
        return True
    inner = config.get("config") if isinstance(config, dict) and config.get("class_name") == "Sequential" else None
    layers = inner.get("layers") if isinstance(inner, dict) else None
    return isinstance(layers, list) and any(
        isinstance(layer, dict) and layer.get("class_name") == "Sequential" for layer in layers
    )


def without_default_groups(config: Any) -> Any:
    """Return a configuration without `groups: 1` in DepthwiseConv2D: Keras 2 wrote it, Keras 3 does not know it."""
    if isinstance(config, list):
        return [without_default_groups(part) for part in config]
    if not isinstance(config, dict):
        return config
    result = {key: without_default_groups(value) for key, value in config.items()}
    inner = result.get("config")
    if result.get("class_name") == "DepthwiseConv2D" and isinstance(inner, dict) and inner.get("groups") == 1:
        del inner["groups"]
    return result
