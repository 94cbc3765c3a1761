"""Marks the files of a run as trusted, if another user, machine or trtpoets version created them."""

from __future__ import annotations

from pathlib import Path

from trtpoets.core.errors import BadArtefact, MissingArtefact
from trtpoets.core.workspace import Workspace, adopt_card, card_of, is_unchanged, read_card
from trtpoets.pipeline.artefacts import ENGINES, writing

_RUN_CODE = ("*.engine", "*.tflite")
"""Files, besides the classifier, that can execute code when they are opened."""


def trust(name: str, *, engines: Path | str = ENGINES) -> tuple[Path, ...]:
    """Mark the classifier, the engines and the TFLite files of engines/<name>/ as trusted, so that trtpoets opens them.

    Such files can execute code with the rights of the user when they are opened. This function opens none of them. It
    returns the files that were not trusted before. If it raises, no file is marked: MissingArtefact if there are no
    such files, BadArtefact if one does not match its card; Busy, StorageFailed.
    """
    space = Workspace(Path(engines), name)
    with writing(space):
        files = [space.classifier, *(path for kind in _RUN_CODE for path in sorted(space.folder.glob(kind)))]
        cards = {path: read_card(card_of(path)) for path in files if path.exists() and card_of(path).is_file()}
        if not cards:
            raise MissingArtefact(
                f"{space.folder} contains no files to trust", hint=space.command("retrain", "PHOTOS"), code="TP8044"
            )
        for path, card in cards.items():
            if set(card.files) != {path.name} or not is_unchanged(card, path):
                raise BadArtefact(
                    f"{path} does not match its card: it was changed or damaged",
                    hint=space.command("retrain", "PHOTOS") if path == space.classifier else space.command("build"),
                    code="TP8045",
                )
        foreign = tuple(path for path, card in cards.items() if card.foreign)
        for path in foreign:
            adopt_card(card_of(path))
        return foreign
