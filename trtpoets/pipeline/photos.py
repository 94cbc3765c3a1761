"""Checks that the photos of a dataset still exist and are unchanged."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.images import changed_photos
from trtpoets.core.workspace import Workspace, card_of, open_card
from trtpoets.pipeline.artefacts import classifier_in, dataset_in
from trtpoets.train.backbones import DEFAULT_BACKBONE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trtpoets.core.types import Photo


def require_photos(space: Workspace, photos: Sequence[Photo]) -> None:
    """Raise BadInput unless every photo exists and has the sha256 recorded in the dataset. Reads all photos.

    The hint is the command that reads the photos again from their present folder. Features are cached by content, so
    it takes only seconds.
    """
    missing = [photo for photo in photos if not photo.path.is_file()]
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(photos)} photos are no longer in {dataset_in(space).folder}, for example "
            f"{missing[0].path}",
            hint=f"name their present folder: {_command_for(space, 'NEWPLACE')}",
            code="TP8029",
        )
    changed = changed_photos(photos)
    if changed:
        raise BadInput(
            f"{len(changed)} of {len(photos)} photos have changed since the classifier was trained, for example "
            f"{changed[0].path}",
            hint=_command_for(space, dataset_in(space).folder),
            code="TP8030",
        )


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


def _command_for(space: Workspace, folder: object) -> str:
    """Return the command that creates the classifier again from the photos in `folder`."""
    backbone = classifier_in(space).spec.backbone
    card = open_card(card_of(space.classifier)) or {}
    if card.get("dataset") is None:
        return space.command("pretrained", backbone, "--photos", folder)
    return space.command("retrain", folder, *([] if backbone == DEFAULT_BACKBONE else ["--backbone", backbone]))
