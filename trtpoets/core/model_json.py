"""Writes model.json, the description of a classifier, into the folder of a classifier or a bundle."""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.files import write_text
from trtpoets.core.types import ModelSpec

MODEL_JSON = "model.json"


def write_model_json(spec: ModelSpec, folder: Path) -> None:
    """Write model.json into a folder; `ModelSpec.from_json` reads it. Raises StorageFailed."""
    write_text(folder / MODEL_JSON, spec.to_json() + "\n")
