"""The content of evaluation.json: the evaluations of a run, its gate, and what they were made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.serialization import OPTIONAL, from_json
from trtpoets.core.shell_commands import command
from trtpoets.core.types import Skipped
from trtpoets.judge.all_photos import AllPhotos
from trtpoets.judge.evaluation import Evaluation
from trtpoets.judge.gate import Gate

VERSION = 5
"""Raise it when the same artefacts and photos may give another evaluation: older files are then not current."""


@dataclass(frozen=True)
class EvaluatedFiles:
    """What an evaluation was made from: compared with the files of the run to find out whether it is current.

    `artefacts` are the SHA-256 of each artefact, `photos` is the hash of all test photos and their labels.
    `photo_sha256` are the SHA-256 of the photos in the order in which they were evaluated.
    """

    version: int
    artefacts: tuple[str, ...]
    photos: str
    photo_sha256: tuple[str, ...]


@dataclass(frozen=True)
class Evaluations:
    """The content of evaluation.json, which `trtpoets.evaluate` returns: one evaluation per runner, TensorFlow's first.

    `groups` is the independent group of each test photo; None where each photo is a group of its own. `skipped` are
    the runners that could not run on this machine. `gate` is None when no limit was set, `judged` in files of versions
    that did not record it. `all_photos` is the evaluation over all photos, None with `--folds 0`.
    """

    evaluations: tuple[Evaluation, ...]
    groups: tuple[int, ...] | None = None
    skipped: tuple[Skipped, ...] = ()
    judged: EvaluatedFiles | None = None
    command: str = ""
    gate: Gate | None = field(default=None, metadata=OPTIONAL)
    all_photos: AllPhotos | None = field(default=None, metadata=OPTIONAL)
    schema_version: int = 1


def evaluations_from_json(details: Mapping[str, Any], path: Path) -> Evaluations:
    """Return the content of evaluation.json from the details of its card. Raises BadArtefact for another content."""
    hint = f"measure again: {command('evaluate', path.parent.name, '--force', engines=path.parent.parent)}"
    return from_json(Evaluations, details, str(path), hint)
