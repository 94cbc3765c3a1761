"""Reads files of Keras 2 that Keras 3 can't read, with `tf-keras` in a child process (`legacy_keras_child.py`)."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
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


class LegacyReader:
    """Reads a checked copy of the file `path` in a child process, which starts at once. Leaving ends the process."""

    def __init__(self, copy: Path, path: Path, allow_code: bool) -> None:
        self._path = path
        self._graph = copy.with_name("graph.pb")
        request = {"file": str(copy), "graph": str(self._graph), "source": str(path), "safe": not allow_code}
        # With the parent's sys.path the child imports the same packages, and nothing from the current folder.
        program = (
            f"import sys; sys.path[:] = {sys.path!r}; "
            "from trtpoets.adopt.tensorflow.legacy_keras_child import main; main()"
        )
        variables = {"TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
        self._log = temporary_file()
        self._child = subprocess.Popen(
            [sys.executable, "-B", "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=child_environment(variables),
        )
        self._request = json.dumps(request).encode() + b"\n"

    def __enter__(self) -> LegacyReader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.poll() is None:
            self._child.kill()
        self._child.communicate()
        self._log.close()

    def graph(self) -> LegacyGraph:
        """Wait for the network. Raises BadArtefact, MissingDependency."""
        try:
            answer, _ = self._child.communicate(self._request, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise _failed(self._path, f"it needs more than {_SECONDS:g} seconds") from None
        if self._child.returncode != 0 or not answer:
            self._log.seek(0)
            lines = self._log.read().decode("utf-8", "replace").strip().splitlines()
            raise _failed(
                self._path,
                f"its process ended with code {self._child.returncode}: {(lines or ['no output'])[-1][:300]}",
            )
        return self._answered(json.loads(answer))

    def _answered(self, answer: dict[str, Any]) -> LegacyGraph:
        if "missing" in answer:
            raise _missing(self._path, answer["missing"])
        if "message" in answer:
            raise BadArtefact(answer["message"], answer["hint"], answer["code"])
        if "failure" in answer:
            name = unknown_class(answer["failure"])
            raise custom_class(self._path, name) if name else _failed(self._path, answer["failure"])
        definition = graph_of_file(self._graph)
        return LegacyGraph(definition, answer["tensor"], answer["input"], answer["output"], tuple(answer["layers"]))


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
