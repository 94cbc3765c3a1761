"""The child process that reads a file of Keras 2 with `tf-keras`, which can't be imported beside Keras 3.

Protocol: after the imports, one line of JSON on stdin with the paths. The answer is one line of JSON: {"failure":
reason}, or the names in the network, whose frozen graph is then in the file `graph`.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from trtpoets.core.errors import TrtPoetsError, first_line


def main() -> None:
    """Execute the request on stdin."""
    # The answer has its own descriptor, because TensorFlow may write to stdout.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        answers.write(json.dumps(_answer()) + "\n")


def _answer() -> dict[str, Any]:
    try:
        import tensorflow as tf
        import tf_keras
    except ImportError as error:
        return {"missing": first_line(error)}
    request = json.loads(sys.stdin.readline())
    from trtpoets.adopt.tensorflow.keras_network import graph_of_model

    try:
        model = tf_keras.models.load_model(request["file"], compile=False, safe_mode=request["safe"])
        graph = graph_of_model(tf, model, request["source"])
    except TrtPoetsError as error:
        return {"message": error.message, "hint": error.hint, "code": error.code}
    except Exception as error:  # noqa: BLE001 - tf-keras raises exceptions of any class
        return {"failure": first_line(error)}
    Path(request["graph"]).write_bytes(graph.definition.SerializeToString())
    return {"tensor": graph.tensor, "input": graph.input, "output": graph.output, "layers": graph.layers}
