"""Class names of well-known data sets, for classifiers without labels, if the photos' folders have these names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from trtpoets.adoption.label_match import match_folders
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Evidence, Source

STANDARD: Mapping[str, tuple[str, ...]] = {
    "CIFAR-10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    ),
    "Fashion-MNIST": (
        *("t-shirt", "trouser", "pullover", "dress", "coat"),
        *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
    ),
    "MNIST": tuple(map(str, range(10))),
    "visual wake words": ("notperson", "person"),
}
"""The classes in the order in which networks trained on these data sets return them.

Sources: the data sets' own pages; for visual wake words mlcommons/tiny, benchmark/training/visual_wake_words.
"""


def standard_labels(folder_names: Sequence[str], classes: int) -> tuple[tuple[str, ...], Evidence] | None:
    """Return the labels of the data set with `classes` classes whose names all folders have, and why; None if none."""
    for name, labels in STANDARD.items():
        if len(labels) != classes:
            continue
        try:
            match = match_folders(folder_names, labels)
        except BadInput:
            continue
        if not match.unmatched:
            text = (
                f"the file has no labels; the photos are in folders named like classes of {name}, so its {classes} "
                "classes in its order are assumed"
            )
            return labels, Evidence("labels", Source.ASSUMED, text)
    return None
