"""Matches the folder names of photos to the labels of a classifier of another program."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from trtpoets.adoption.foreign import AGAIN
from trtpoets.core.errors import BadInput
from trtpoets.core.formatting import joined, many

_LISTED = 8
"""Names that a message lists."""


@dataclass(frozen=True)
class LabelMatch(Mapping[str, str]):
    """The label of each folder that has one. `unmatched` are the other folders, with the reason for each."""

    labels: dict[str, str]
    unmatched: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> str:
        return self.labels[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.labels)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def warnings(self) -> tuple[str, ...]:
        """A sentence for each folder without a label."""
        return tuple(f"the folder {name} is not used: {reason}" for name, reason in self.unmatched.items())

    @property
    def renamed(self) -> tuple[str, ...]:
        """A sentence for each folder whose name is not exactly its label."""
        return tuple(f"the folder {name} is the class {label}" for name, label in self.labels.items() if name != label)


def match_folders(folder_names: Sequence[str], labels: Sequence[str]) -> LabelMatch:
    """Match the names of folders to labels, from exact to tolerant.

    Ignored in this order: case, spaces, "_" and "-"; accents; a leading number; the plural. A name that matches several
    labels, and one whose label another folder matches as well, is unmatched. Raises BadInput if no name matches.
    """
    wanted: dict[str, str] = {}
    unmatched: dict[str, str] = {}
    rest = list(folder_names)
    free = list(labels)
    for simplified in _RULES:
        for name in list(rest):
            if name in unmatched:
                continue
            fitting = [label for label in free if simplified(label) == simplified(name)]
            if len(fitting) > 1:
                unmatched[name] = f"it matches several labels, {_listed(fitting)}"
                rest.remove(name)
            elif fitting:
                matching = [other for other in rest if simplified(other) == simplified(name)]
                if len(matching) > 1:
                    for other in matching:
                        unmatched[other] = f"{_listed(matching)} match the label {fitting[0]}"
                        rest.remove(other)
                    continue
                wanted[name] = fitting[0]
                rest.remove(name)
        free = [label for label in free if label not in wanted.values()]
    for name in rest:
        unmatched[name] = f"none of the {len(labels):,} labels is similar to it"
    if not wanted:
        reason = next(iter(unmatched.values()), "there are no folders")
        raise BadInput(
            f"no folder of photos is named after a label ({reason}). Folders: {_listed(folder_names)}; "
            f"labels: {_listed(labels)}",
            hint=f"name the folders as the labels, or give the labels of this classifier: {AGAIN} --labels FILE",
            code="TP9447",
        )
    return LabelMatch({name: wanted[name] for name in folder_names if name in wanted}, unmatched)


def _listed(names: Sequence[str]) -> str:
    shown = [*names[:_LISTED]]
    return joined([*shown, many(len(names) - len(shown), "other")] if len(names) > len(shown) else shown)


def _exact(name: str) -> str:
    return name


def _plain(name: str) -> str:
    return re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFC", name).casefold())


def _without_accents(name: str) -> str:
    letters = unicodedata.normalize("NFKD", _plain(name))
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def _without_number(name: str) -> str:
    return _without_accents(re.sub(r"^\s*\d+[\s_.:\-]+(?=\S)", "", name))


def _singular(name: str) -> str:
    """The last word without the English plural: roses, berries, boxes; not leaves or mice."""
    word = _without_number(name)
    if len(word) > 4 and word.endswith("ies"):
        return word[:-3] + "y"
    if len(word) > 4 and word.endswith(("ches", "shes", "xes", "sses", "zes", "oes")):
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word


_RULES: tuple[Callable[[str], str], ...] = (_exact, _plain, _without_accents, _without_number, _singular)
