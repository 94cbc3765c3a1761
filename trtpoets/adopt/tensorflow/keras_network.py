"""Makes a frozen graph of a Keras model, of Keras 3 or of `tf-keras`; the child process uses it too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from trtpoets.adopt.tensorflow.execution import frozen
from trtpoets.core.errors import BadArtefact


@dataclass(frozen=True)
class KerasGraph:
    """A Keras model as a GraphDef with constants for variables, `call` being the model itself.

    `input` and `output` are the names that Keras gives them, `tensor` the output in the graph.
    """

    definition: Any
    tensor: str
    input: str
    output: str
    layers: tuple[str, ...]
    call: Callable[[Any], Any]


def graph_of_model(tf: Any, model: Any, source: str) -> KerasGraph:
    """Freeze a Keras model at inference. Raises BadArtefact if it has several inputs or outputs, or none."""
    inputs, outputs = list(getattr(model, "inputs", None) or []), list(getattr(model, "outputs", None) or [])
    if not inputs:
        raise BadArtefact(
            f"{source} does not say the shape of its input",
            hint="in Keras, build it and save it: model.build((None, HEIGHT, WIDTH, 3)); model.save('model.keras')",
            code="TP9124",
        )
    for values, what in ((inputs, "inputs"), (outputs, "outputs")):
        if len(values) != 1:
            names = ", ".join(_name(value, what) for value in values[:6])
            raise BadArtefact(
                f"{source} has {len(values)} {what} ({names}); a classifier of photos has one",
                hint="in Keras, make a model of one input and the class scores: keras.Model(INPUT, SCORES).save(FILE)",
                code="TP9125",
            )
    (value,) = inputs
    name = _name(value, "input")

    def call(values: Any) -> Any:
        (result,) = tf.nest.flatten(model(values, training=False))
        return result

    specification = tf.TensorSpec([None if n is None else int(n) for n in value.shape], value.dtype, name=name)
    function = tf.function(call, autograph=False).get_concrete_function(specification)
    definition, _, (tensor,) = frozen(function)
    return KerasGraph(definition, tensor, name, _output_name(model), tuple(_layers(model)), function)


def _name(value: Any, otherwise: str) -> str:
    """Return the name of a Keras tensor: that of its layer, as Keras 2 calls it before the slash."""
    name = str(getattr(value, "name", "") or otherwise)
    return name.split("/", maxsplit=1)[0].split(":", maxsplit=1)[0]


def _output_name(model: Any) -> str:
    """Return the name of the output: that of its layer."""
    names = getattr(model, "output_names", None) or [layer.name for layer in model.layers[-1:]]
    return str(names[0])


def _layers(model: Any) -> Iterator[str]:
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _layers(layer)
        else:
            yield str(layer.name)
