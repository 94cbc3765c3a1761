"""Lists the contracts that a trial with labelled photos compares."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from trtpoets.adoption.contract import CAFFE, CIFAR10, IMAGENET, Contract, Geometry, Pixels
from trtpoets.adoption.contract_options import ContractOptions, fitted
from trtpoets.adoption.facts import (
    USUAL_RANGES,
    Fact,
    for_channels,
    has_usual_range,
    is_integer,
    nearly_same,
    nearly_same_geometry,
    raw_feed,
)
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.producer_clues import is_small
from trtpoets.core.original import Channels
from trtpoets.core.types import Resize

PLAIN_GEOMETRIES = (Geometry(Resize.STRETCH), Geometry(Resize.CROP))
"""The most usual geometries."""

_OTHER_GEOMETRIES = (Geometry(Resize.CROP, 0.875), Geometry(Resize.LETTERBOX))

_WIDTH = 78
"""Columns of a line of the list: a terminal has 80, and the lines are indented."""


def with_channels(facts: Sequence[Fact], options: ContractOptions) -> list[Fact]:
    """Return the facts with the channels that --channels states in place of their own."""
    if options.channels is None:
        return list(facts)
    return [
        fact
        if fact.pixels is None
        else replace(fact, pixels=replace(fact.pixels, channels=options.channels), channels_known=True)
        for fact in facts
    ]


def pixel_candidates(foreign: ForeignModel, facts: Sequence[Fact], options: ContractOptions) -> tuple[Pixels, ...]:
    """Return every plausible kind of pixel values, those of the options and facts first.

    Values that the answers could not tell from earlier ones are left out. For an integer input whose range is one of
    the usual ones, these are the values that it stores for unchanged photos, and what facts add: other ranges would use
    a part of the integers only.
    """
    facts = with_channels(facts, options)
    stated = [options.pixels] if options.pixels is not None else []
    usual_integers = is_integer(foreign) and has_usual_range(foreign)
    stated += [
        variant
        for fact in facts
        if fact.pixels is not None and (fact.certain or not usual_integers)
        for variant in _variants(fact)
    ]
    statistics = (IMAGENET, *((CIFAR10,) if is_small(foreign) else ()))
    if not is_integer(foreign):
        usual: tuple[Pixels, ...] = (*USUAL_RANGES, *statistics, CAFFE)
    elif usual_integers:
        usual = (raw_feed(foreign.input),)
    else:
        usual = (raw_feed(foreign.input), *statistics)
    orders = (Channels.RGB, Channels.BGR) if foreign.channels == 3 else (Channels.GRAY, Channels.INVERTED_GRAY)
    plain = [replace(pixels, channels=order) for pixels in usual for order in orders]
    chosen: list[Pixels] = []
    for candidate in (*stated, *plain):
        fitting = for_channels(candidate, foreign.channels)
        if options.channels is not None and fitting.channels is not options.channels:
            continue
        if not any(nearly_same(fitting, earlier) for earlier in chosen):
            chosen.append(fitting)
    return tuple(chosen)


def geometry_candidates(facts: Sequence[Fact], options: ContractOptions) -> tuple[Geometry, ...]:
    """Return every plausible geometry: stretch and whole crop first, then those of the facts, then the others."""
    if options.geometry is not None:
        return (options.geometry,)
    stated = [fact.geometry for fact in facts if fact.geometry is not None]
    return tuple(_distinct((*PLAIN_GEOMETRIES, *stated, *_OTHER_GEOMETRIES)))


def candidate_contracts(
    foreign: ForeignModel, facts: Sequence[Fact], options: ContractOptions | None = None
) -> tuple[Contract, ...]:
    """Return all contracts that a trial compares: each kind of pixel values with each geometry.

    If options or a certain fact state the pixel values, all other values are tried with one geometry only, the stated
    one or stretch, to find out whether they contradict this. Raises BadInput for channels that the network does
    not have.
    """
    chosen = fitted(options or ContractOptions(), foreign)
    facts = with_channels(facts, chosen)
    geometries = geometry_candidates(facts, chosen)
    certain = [fact.geometry for fact in facts if fact.geometry is not None and fact.certain]
    usual = geometries[0] if chosen.geometry is not None or not certain else certain[0]
    stated = [fact for fact in facts if fact.pixels is not None and fact.certain]
    stated = [fact for fact in stated if fact.channels_known] or stated
    known = [chosen.pixels] if chosen.pixels is not None else [pixels for fact in stated for pixels in _variants(fact)]
    fitting = [for_channels(pixels, foreign.channels) for pixels in known]
    return tuple(
        Contract(pixels, geometry)
        for pixels in pixel_candidates(foreign, facts, chosen)
        for geometry in geometries
        if not known or geometry == usual or any(nearly_same(pixels, one) for one in fitting)
    )


def _variants(fact: Fact) -> list[Pixels]:
    """Return the values of a fact, in both orders of the channels if it does not determine the order."""
    assert fact.pixels is not None
    if fact.channels_known:
        return [fact.pixels]
    return channel_variants(fact.pixels)


def channel_variants(pixels: Pixels) -> list[Pixels]:
    """Return RGB and BGR, or grey and inverted grey, of the same values; the given ones first."""
    others = {
        Channels.RGB: Channels.BGR,
        Channels.BGR: Channels.RGB,
        Channels.GRAY: Channels.INVERTED_GRAY,
        Channels.INVERTED_GRAY: Channels.GRAY,
    }
    return [pixels, replace(pixels, channels=others[pixels.channels])]


def _distinct(geometries: Iterable[Geometry]) -> list[Geometry]:
    chosen: list[Geometry] = []
    for geometry in geometries:
        if not any(nearly_same_geometry(geometry, earlier) for earlier in chosen):
            chosen.append(geometry)
    return chosen


def aligned_candidates(rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """Return aligned lines of candidates, each given as its name, its right answers and its options.

    Options that do not fit beside the rest follow in a line of their own.
    """
    texts, counts = (max(len(row[column]) for row in rows) for column in (0, 1))
    lines = []
    for text, count, options in rows:
        start = f"{text:<{texts}}  " + (f"{count:>{counts}}  " if counts else "")
        fits = len(start) + len(options) <= _WIDTH
        lines += [start + options] if fits else [start.rstrip(), f"    {options}"]
    return lines
