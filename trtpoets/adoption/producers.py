"""Finds the rows of the table of producers that match a classifier file, and what they state."""

from __future__ import annotations

from trtpoets.adoption.contract import RAW, Pixels
from trtpoets.adoption.facts import Fact, for_channels, is_integer, nearly_same, raw_feed
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.producer_table import BGR_RAW, PRODUCERS, Producer
from trtpoets.core.original import Evidence, Source


def producers_of(foreign: ForeignModel) -> tuple[Producer, ...]:
    """Return the rows that match a file, only the most specific ones."""
    matching = [producer for producer in PRODUCERS if producer.recognises(foreign)]
    most = max((producer.specific for producer in matching), default=0)
    return tuple(producer for producer in matching if producer.specific == most)


def producer_name(foreign: ForeignModel) -> str:
    """Return the name of the program that wrote a file, "" if it is unknown or not certain."""
    rows = [producer for producer in producers_of(foreign) if producer.specific > 0]
    return rows[0].name if len(rows) == 1 else foreign.clues.writer


def producer_facts(foreign: ForeignModel) -> tuple[Fact, ...]:
    """Return what the matching rows state. Rows that contradict each other are likely, not certain."""
    rows = producers_of(foreign)
    kinds = [_pixels_for(foreign, pixels) for producer in rows for pixels in producer.pixels]
    agree = all(nearly_same(pixels, kinds[0]) for pixels in kinds)
    facts = []
    for producer in rows:
        start = f"{producer.name} wrote the file ({producer.clue})"
        if not producer.certain:
            start = f"{producer.name} may have written the file ({producer.clue})"
        usual = tuple(dict.fromkeys(_pixels_for(foreign, pixels) for pixels in producer.pixels))
        texts = " or ".join(pixels.text for pixels in usual)
        choices = f"{start}; its files take {texts}{producer.note} ({producer.source})" if len(usual) > 1 else ""
        for fitting in usual:
            text = f"{start}; its files take {fitting.text}{producer.note} ({producer.source})"
            facts.append(Fact(_evidence("pixels", text), fitting, certain=producer.certain and agree, choices=choices))
        if producer.geometry is not None:
            text = f"{start}; its photos are resized by {producer.geometry.text} ({producer.source})"
            certain = producer.certain and producer.geometry_certain and len(rows) == 1
            facts.append(Fact(_evidence("resize", text), geometry=producer.geometry, certain=certain))
    return tuple(facts)


def _pixels_for(foreign: ForeignModel, pixels: Pixels) -> Pixels:
    if is_integer(foreign) and pixels in (RAW, BGR_RAW):
        return raw_feed(foreign.input, pixels.channels)
    return for_channels(pixels, foreign.channels)


def _evidence(about: str, text: str) -> Evidence:
    return Evidence(about, Source.PRODUCER, text)
