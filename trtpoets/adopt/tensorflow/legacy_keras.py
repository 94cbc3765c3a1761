"""Reads files of Keras 2 that Keras 3 can't read, with `tf-keras` in a child process (`legacy_keras_child.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtpoets.adopt.tensorflow.frozen_graphs import graph_of_file
from trtpoets.adopt.tensorflow.keras_config import custom_class, unknown_class
from trtpoets.core.child_environment import child_environment
from trtpoets.core.errors import BadArtefact, MissingDependency
from trtpoets.core.files import temporary_file
from trtpoets.core.optional import installed

_SECONDS = 300.0
"""Time limit for importing TensorFlow and tf-keras, loading the file and freezing it."""


@dataclass(frozen=True)
class LegacyGraph:
    """The frozen graph that tf-keras made of a file, with the names of input and output as Keras gives them."""

    definition: Any
    tensor: str
    input: str
    output: str
    layers: tuple[str, ...]


def legacy_graph(copy: Path, path: Path, allow_code: bool) -> LegacyGraph:
    """Return the network in `copy`, a checked copy of the file `path`. Raises BadArtefact, MissingDependency."""
    graph = copy.with_name("graph.pb")
    request = {"file": str(copy), "graph": str(graph), "source": str(path), "safe": not allow_code}
    # With the parent's sys.path the child imports the same packages, and nothing from the current folder.
    program = (
        f"import sys; sys.path[:] = {sys.path!r}; from trtpoets.adopt.tensorflow.legacy_keras_child import main; main()"
    )
    variables = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    with temporary_file() as output:
        try:
            child = subprocess.run(
                [sys.executable, "-B", "-c", program],
                input=json.dumps(request).encode() + b"\n",
                stdout=subprocess.PIPE,
                stderr=output,
                env=child_environment(variables),
                timeout=_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise _failed(path, f"it needs more than {_SECONDS:g} seconds") from None
        if child.returncode != 0 or not child.stdout:
            output.seek(0)
            lines = output.read().decode("utf-8", "replace").strip().splitlines()
            raise _failed(path, f"its process ended with code {child.returncode}: {(lines or ['no output'])[-1][:300]}")
    answer = json.loads(child.stdout)
    if "missing" in answer:
        raise _missing(path, answer["missing"])
    if "message" in answer:
        raise BadArtefact(answer["message"], answer["hint"], answer["code"])
    if "failure" in answer:
        name = unknown_class(answer["failure"])
        raise custom_class(path, name) if name else _failed(path, answer["failure"])
    return LegacyGraph(
        graph_of_file(graph), answer["tensor"], answer["input"], answer["output"], tuple(answer["layers"])
    )


def _missing(path: Path, reason: str) -> MissingDependency:
    versions = installed(("tensorflow", "tensorflow-cpu"))
    series = ".".join((*versions.values(), "2.21")[0].split(".")[:2])
    return MissingDependency(
        f"{path} was written by Keras 2, which only the package tf-keras reads, and that can't be imported: {reason}",
        hint=f"pip install --no-deps 'tf-keras=={series}.*'",
        code="TP9126",
    )


def _failed(path: Path, reason: str) -> BadArtefact:
    return BadArtefact(
        f"neither Keras 3 nor tf-keras reads {path}: {reason}",
        hint="in the program that wrote it, write a SavedModel with model.export('FOLDER'), and adopt FOLDER",
        code="TP9127",
    )
