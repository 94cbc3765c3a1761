"""What a question gets, and how it says that it has no answer."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


class NotAnswered(Exception):
    """A question that can't be answered on this machine, and why: the rest of "not answered, because ..."."""


@dataclass(frozen=True)
class Given:
    """What all questions get: folders of networks, a folder to build in, and how long to measure.

    `count` is how many batches run one after the other when something is looked for that leaks, `seconds` how long one
    thing is timed.
    """

    folders: tuple
    work: Path
    count: int = 10_000
    seconds: float = 1.0

    def to_json(self) -> str:
        """As one line for the process that asks."""
        return json.dumps({**asdict(self), "folders": [str(each) for each in self.folders], "work": str(self.work)})

    @staticmethod
    def from_json(text: str) -> Given:
        """What `to_json` wrote."""
        value = json.loads(text)
        folders = tuple(Path(each) for each in value["folders"])
        return Given(folders, Path(value["work"]), value["count"], value["seconds"])
