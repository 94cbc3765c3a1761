"""Checks that the photos of a dataset still exist and are unchanged."""

from __future__ import annotations

import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import changed_photos
from trtpoets.core.shell_commands import PLACEHOLDERS, quote
from trtpoets.core.workspace import Workspace, card_of, open_card, open_details
from trtpoets.pipeline.artefacts import classifier_in, dataset_in
from trtpoets.pipeline.card_details import ClassifierDetails
from trtpoets.train.backbones import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtpoets.core.types import Photo


def require_photos(space: Workspace, photos: Sequence[Photo]) -> None:
    """Raise BadInput unless every photo exists and has the sha256 recorded in the dataset. Reads all photos.

    The hint is the command that reads the photos again: from another folder if all of them are missing, else from the
    same one, as single photos are deleted rather than moved. Features are cached by content, so it takes only seconds.
    """
    missing = [photo for photo in photos if not photo.path.is_file()]
    if missing:
        folder = dataset_in(space).folder
        moved = len(missing) == len(photos)
        raise BadInput(
            f"{len(missing)} of {len(photos)} photos are no longer in {folder}, for example {missing[0].path}",
            hint=f"name their present folder: {photos_command(space, 'NEWPLACE')}"
            if moved
            else f"put them back, or go on without them: {photos_command(space, folder)}",
            code="TP8029",
        )
    changed = changed_photos(photos)
    if changed:
        raise BadInput(
            f"{len(changed)} of {len(photos)} photos have changed since the classifier was trained, for example "
            f"{changed[0].path}",
            hint=photos_command(space, dataset_in(space).folder),
            code="TP8030",
        )


_RETRAIN = "trtpoets retrain PHOTOS --name NAME"


@contextmanager
def verified_photos(space: Workspace, photos: Sequence[Photo]) -> Iterator[None]:
    """Check the photos on entry, and again if the body raises BadPhoto because a photo was changed or deleted.

    The body must read photos with `core.images`, which verifies the bytes that it decodes. Raises BadInput with the
    number of affected photos and the command to run next, and everything that the body raises.
    """
    require_photos(space, photos)
    try:
        yield
    except BadPhoto:
        require_photos(space, photos)
        raise


@contextmanager
def hints_of_run(space: Workspace, folder: object) -> Iterator[None]:
    """Replace the command that reads the photos again, in hints of lower layers, by that of the run."""
    try:
        yield
    except BadInput as error:
        if _RETRAIN in error.hint:
            start, _, rest = error.hint.partition(_RETRAIN)
            again = photos_command(space, folder)
            error.hint = start + again + (rest if rest == " --force" else "")
        raise


def photos_command(space: Workspace, folder: object = "FOLDER") -> str:
    """Return the command that creates the classifier again with the photos in `folder`."""
    spec = classifier_in(space).spec
    backbone = spec.backbone
    if spec.original is not None:
        recorded = open_details(card_of(space.classifier), ClassifierDetails)
        return with_photos(recorded.command if recorded else "", folder)
    card = open_card(card_of(space.classifier)) or {}
    if card.get("dataset") is None:
        return space.command("pretrained", backbone, "--photos", folder)
    return space.command("retrain", folder, *([] if backbone == DEFAULT_BACKBONE else ["--backbone", backbone]))


def with_photos(command: str, folder: object) -> str:
    """Return a recorded `adopt` command with other photos."""
    words = shlex.split(command)
    if "--photos" in words:
        place = words.index("--photos")
        del words[place : place + 2]
    verb, model, *options = words[1:]
    photos = str(folder) if str(folder) in PLACEHOLDERS else quote(folder)
    return " ".join(["trtpoets", verb, quote(model), "--photos", photos, *map(quote, options)])
