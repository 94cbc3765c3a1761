"""The user says who is to be trusted: the files of a run that another user, machine or version of trtpoets made."""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.workspace import Workspace, adopt_card, card_of, read_card, vouches_for
from trtpoets.pipeline.artefacts import ENGINES, writing

_RUN_CODE = ("*.engine", "*.tflite")
"""Files beside the classifier that can run code when they are opened."""


def trust(name: str, *, engines: Path | str = ENGINES) -> tuple[Path, ...]:
    """Mark the classifier, the engines and the TFLite files of engines/<name>/ as this user's, so that they are opened.

    They run code when they are opened, with the rights of the user. Nothing is opened here. Returns what was marked:
    nothing where all of it is the user's already. All or nothing is marked: raises MissingArtefact where there are no
    such files, BadArtefact where one is not what its card says; Busy, StorageFailed.
    """
    space = Workspace(Path(engines), name)
    with writing(space):
        files = [space.classifier, *(path for kind in _RUN_CODE for path in sorted(space.folder.glob(kind)))]
        cards = {path: read_card(card_of(path)) for path in files if path.exists() and card_of(path).is_file()}
        if not cards:
            raise MissingArtefact(
                f"{space.folder} holds nothing to trust", hint=space.command("retrain", "PHOTOS"), code="TP8044"
            )
        for path, card in cards.items():
            if set(card.files) != {path.name} or not vouches_for(card, path):
                raise BadArtefact(
                    f"{path} is not what its card says: it was changed or damaged",
                    hint=space.command("retrain", "PHOTOS") if path == space.classifier else space.command("build"),
                    code="TP8045",
                )
        foreign = tuple(path for path, card in cards.items() if card.foreign)
        for path in foreign:
            adopt_card(card_of(path))
        return foreign
