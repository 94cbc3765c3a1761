"""Whether the photos of a dataset are still where they were, with the bytes that they had."""

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
    """Raise BadInput unless every photo is there and has the sha256 that it had in the dataset. Reads them all.

    The hint is the command that reads the photos again, from where they are now: features are cached by content, so it
    trains in seconds.
    """
    gone = [photo for photo in photos if not photo.path.is_file()]
    if gone:
        raise BadInput(
            f"{len(gone)} of {len(photos)} photos are no longer in {dataset_in(space).folder}, for example "
            f"{gone[0].path}",
            hint=f"name the folder where they are now: {_again(space, 'NEWPLACE')}",
            code="TP8029",
        )
    changed = changed_photos(photos)
    if changed:
        raise BadInput(
            f"{len(changed)} of {len(photos)} photos were changed since the classifier was trained, for example "
            f"{changed[0].path}",
            hint=_again(space, dataset_in(space).folder),
            code="TP8030",
        )


@contextmanager
def verified_photos(space: Workspace, photos: Sequence[Photo]) -> Iterator[None]:
    """`require_photos` at the beginning; and when a photo is found changed or gone later, inside.

    What is inside reads photos by `core.images`, which verifies the bytes that it decodes. Raises BadInput, that counts
    the photos and names the command to run next; and whatever is raised inside.
    """
    require_photos(space, photos)
    try:
        yield
    except BadPhoto:
        require_photos(space, photos)
        raise


def _again(space: Workspace, place: object) -> str:
    """The command that makes the classifier again with the photos in `place`."""
    backbone = classifier_in(space).spec.backbone
    card = open_card(card_of(space.classifier)) or {}
    if card.get("dataset") is None:
        return space.command("pretrained", backbone, "--photos", place)
    return space.command("retrain", place, *([] if backbone == DEFAULT_BACKBONE else ["--backbone", backbone]))
