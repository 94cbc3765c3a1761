"""The inputs of a question, and the exception for questions without an answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


class NotAnswered(Exception):
    """A question cannot be answered on this machine. The message completes "not answered, because ..."."""


@dataclass(frozen=True)
class QuestionInputs:
    """The inputs of every question.

    `folders` contain networks, engines are built in `work`. `count` is the number of batches of a memory leak test,
    `seconds` the duration of one measurement.
    """

    folders: tuple
    work: Path
    count: int = 10_000
    seconds: float = 1.0

    def to_json(self) -> str:
        """Return JSON on one line, for the child process."""
        return json.dumps({**asdict(self), "folders": [str(folder) for folder in self.folders], "work": str(self.work)})

    @staticmethod
    def from_json(text: str) -> QuestionInputs:
        """Read the JSON of `to_json`."""
        value = json.loads(text)
        folders = tuple(Path(folder) for folder in value["folders"])
        return QuestionInputs(folders, Path(value["work"]), value["count"], value["seconds"])
