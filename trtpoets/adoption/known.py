"""Collects everything that is known about how a file expects its photos, before a trial."""

from __future__ import annotations

from trtpoets.adoption.facts import Fact
from trtpoets.adoption.foreign import FixedPixels, ForeignModel
from trtpoets.adoption.metadata import metadata_facts
from trtpoets.adoption.producers import producer_facts


def known_facts(foreign: ForeignModel, sibling: FixedPixels | None = None) -> tuple[Fact, ...]:
    """Return the facts about a file from its graph, its metadata, a quantised sibling and its producer.

    `sibling` is what a quantised file of the same network determines. Graph and sibling determine values, not the order
    of the channels, unless the values differ by channel.
    """
    fixed = [pixels for pixels in (foreign.fixed, sibling) if pixels is not None]
    resized = foreign.geometry
    geometry = [] if resized is None else [Fact(resized.evidence, geometry=resized.geometry, warning=resized.warning)]
    return (*map(_of_fixed, fixed), *geometry, *metadata_facts(foreign), *producer_facts(foreign))


def size_from_facts(facts: tuple[Fact, ...]) -> tuple[int, int] | None:
    """Return the (height, width) that facts state, for a file that accepts any size; None if none does."""
    return next((fact.size for fact in facts if fact.size is not None), None)


def _of_fixed(fixed: FixedPixels) -> Fact:
    pixels = fixed.pixels
    differ = len({*zip(pixels.scale, pixels.offset, strict=True)}) > 1
    return Fact(fixed.evidence, pixels, channels_known=differ or fixed.channels_known)
