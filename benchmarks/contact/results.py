"""results/<gpu>-<date>.json: what was asked of a GPU and answered, written after each question."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import read_json, write_json

FORMAT = 1
"""Of the file; another is not continued."""

NO_GPU = "no-gpu"


def slug_of(gpu: str) -> str:
    """A GPU's name as part of a file name: "nvidia-h200"."""
    return re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-") or NO_GPU


class Book:
    """The file of one GPU in one setting: driver, libraries, networks. `setting` as JSON says which.

    The newest file of the same GPU and setting is gone on with; otherwise there is a new one, of today.
    """

    def __init__(self, folder: Path, gpu: str, setting: Mapping[str, Any]) -> None:
        self._folder, self._gpu, self._setting = folder, gpu, dict(setting)
        slug = slug_of(gpu)
        earlier = sorted(folder.glob(f"{slug}-[0-9][0-9][0-9][0-9]-*.json"), key=lambda path: path.stat().st_mtime)
        for path in reversed(earlier):
            kept = _read(path)
            if kept is not None and kept["setting"] == self._setting:
                self.path, self._value = path, kept
                return
        day, number = time.strftime("%Y-%m-%d", time.gmtime()), 1
        self.path = folder / f"{slug}-{day}.json"
        while self.path.exists():
            number += 1
            self.path = folder / f"{slug}-{day}-{number}.json"
        began = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self._value = {"format": FORMAT, "gpu": gpu, "begun": began, "setting": self._setting, "answers": {}}

    @property
    def answers(self) -> dict[str, Any]:
        """What was answered, or not, by the question's id."""
        found: dict[str, Any] = self._value["answers"]
        return found

    def answered(self, question: str) -> bool:
        """Whether a question needs not be asked again."""
        return bool(self.answers.get(question, {}).get("answered"))

    def keep(self, question: str, found: Mapping[str, Any]) -> None:
        """Write one more answer down. Raises StorageFailed."""
        self.answers[question] = dict(found)
        self.write()

    def note(self, **facts: Any) -> None:
        """Write facts about the machine down, beside the answers. Raises StorageFailed."""
        self._value.update(facts)
        self.write()

    def write(self) -> None:
        """The file as it is now, whole. Raises StorageFailed."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self.path, self._value)


def _read(path: Path) -> Any:
    """What an earlier run wrote; None where that is no file of ours."""
    try:
        value = read_json(path)
    except TrtPoetsError:
        return None
    known = isinstance(value, dict) and value.get("format") == FORMAT
    return value if known and isinstance(value.get("answers"), dict) and "setting" in value else None


def exit_code(answers: Mapping[str, Mapping[str, Any]]) -> int:
    """0: what could be answered was, and goals are met. 1: a goal was missed, or a question failed. 3: no answer.

    A question that this machine has no answer to, as it lacks a library, is no failure.
    """
    if any(each["failed"] or each["goal_met"] is False for each in answers.values()):
        return 1
    return 0 if any(each["answered"] for each in answers.values()) else 3


def line_of(name: str, found: Mapping[str, Any]) -> str:
    """One answer for people."""
    if not found["answered"]:
        return f"{name:21} not answered, because {found['because']}"
    goal = {True: "as it should be", False: f"NOT as it should be: {found['goal']}", None: "answered"}[
        found["goal_met"]
    ]
    return f"{name:21} {goal}  ({found['seconds']:g} s)"
