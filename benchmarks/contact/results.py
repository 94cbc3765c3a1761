"""Writes results/<gpu>-<date>.json, the answers for a GPU, after each question."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import read_json, write_json

FORMAT = 1
"""Version of the file format; files of another version are not continued."""

NO_GPU = "no-gpu"


def slug_of(gpu: str) -> str:
    """Return a GPU's name for use in a file name: "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") or NO_GPU


class ResultFile:
    """The result file of one GPU in one setting (driver, libraries, networks), given as JSON in `setting`.

    The newest file with the same GPU and setting is continued; otherwise a new one is created.
    """

    def __init__(self, folder: Path, gpu: str, setting: Mapping[str, Any]) -> None:
        self._folder, self._gpu, self._setting = folder, gpu, dict(setting)
        slug = slug_of(gpu)
        earlier = sorted(folder.glob(f"{slug}-[0-9][0-9][0-9][0-9]-*.json"), key=lambda path: path.stat().st_mtime)
        for path in reversed(earlier):
            content = _read(path)
            if content is not None and content["setting"] == self._setting:
                self.path, self._value = path, content
                return
        day, number = time.strftime("%Y-%m-%d", time.gmtime()), 1
        self.path = folder / f"{slug}-{day}.json"
        while self.path.exists():
            number += 1
            self.path = folder / f"{slug}-{day}-{number}.json"
        begun = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._value = {"format": FORMAT, "gpu": gpu, "begun": begun, "setting": self._setting, "answers": {}}

    @property
    def answers(self) -> dict[str, Any]:
        """The entries by question id, with and without an answer."""
        answers: dict[str, Any] = self._value["answers"]
        return answers

    def answered(self, question: str) -> bool:
        """Whether a question has an answer."""
        return bool(self.answers.get(question, {}).get("answered"))

    def add(self, question: str, entry: Mapping[str, Any]) -> None:
        """Add the entry of a question and write the file. Raises StorageFailed."""
        self.answers[question] = dict(entry)
        self.write()

    def note(self, **facts: Any) -> None:
        """Add facts about the machine and write the file. Raises StorageFailed."""
        self._value.update(facts)
        self.write()

    def write(self) -> None:
        """Write the file atomically. Raises StorageFailed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self._value)


def _read(path: Path) -> Any:
    """Read an earlier result file; None if it is not one."""
    try:
        value = read_json(path)
    except TrtPoetsError:
        return None
    known = isinstance(value, dict) and value.get("format") == FORMAT
    return value if known and isinstance(value.get("answers"), dict) and "setting" in value else None


def exit_code(answers: Mapping[str, Mapping[str, Any]]) -> int:
    """Return 1 if a goal was missed or a question failed, 3 if there is no answer at all, else 0.

    A question that cannot be answered here, for example because a library is missing, is not a failure.
    """
    if any(entry["failed"] or entry["goal_met"] is False for entry in answers.values()):
        return 1
    return 0 if any(entry["answered"] for entry in answers.values()) else 3


def line_of(name: str, entry: Mapping[str, Any]) -> str:
    """Return the line that is printed for an entry."""
    if not entry["answered"]:
        return f"{name:21} not answered, because {entry['because']}"
    goal = {True: "goal met", False: f"GOAL MISSED: {entry['goal']}", None: "answered"}[entry["goal_met"]]
    return f"{name:21} {goal}  ({entry['seconds']:g} s)"
