"""States for each command what is kept when it is interrupted, and what repeating it does."""

from __future__ import annotations

from typing import NamedTuple

from trtpoets.core.errors import Interrupted
from trtpoets.core.signals import interrupted


class Kept(NamedTuple):
    """What an interrupted command has kept, and what the same command does next."""

    what: str
    next: str

    def or_repeated(self, force: bool) -> Kept:
        """Return what applies to a command with or without `--force`, which repeats complete parts too."""
        return self._replace(next=f"{_AGAIN}: with --force it repeats what is kept") if force else self

    def error(self) -> Interrupted:
        """Return the error for a signal that was received."""
        return Interrupted(f"{interrupted()}; what is kept: {self.what}", hint=self.next, code="TP9001")


_AGAIN = "run the same command again"

NOTHING = Kept("nothing of this command", _AGAIN)

STAGES = Kept(
    "complete stages and computed features", "the same command continues with the first stage that is not complete"
)

FEATURES = Kept("computed features", "the same command computes those that are missing")

HEAD = Kept("computed features, not the head", "the same command uses them and trains the head again")

FINE_TUNING = Kept(
    "computed features, and the state of the fine-tuning at its last evaluation", "the same command continues there"
)

SWEEP = Kept("computed features, not the trained heads", "the same command uses them and trains the heads again")

RACE = Kept(
    "computed features, not the latencies and INT8 files",
    "the same command uses them, measures again and makes INT8 again",
)

ONNX_FILES = Kept("complete ONNX files and measured ranges", "the same command makes the files that are missing")

BUILT = Kept("complete engines", "the same command builds the others")

EVALUATION = Kept(
    "computed features and a complete evaluation of the test photos", "the same command measures the rest"
)

LABELS = Kept("labels that were printed", "name the photos that have no label yet")
