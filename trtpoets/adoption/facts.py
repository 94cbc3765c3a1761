"""Statements about how a network expects its photos, each with where it comes from."""

from __future__ import annotations

from dataclasses import dataclass, replace

from trtpoets.adoption.contract import CENTRED, RAW, SIGNED, UNIT, Geometry, Pixels, Triple
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.core.original import Channels, Evidence, OriginalInput, Source

NEARLY = 0.02
"""Two pixel values are nearly the same if they differ by at most this share of their range."""


USUAL_RANGES = (RAW, UNIT, SIGNED, CENTRED)
"""The ranges without statistics of photos."""


@dataclass(frozen=True)
class Fact:
    """One statement about the pixels, the geometry or the input size. What it does not determine is None.

    `certain` is False for what is only likely, which a trial has to confirm. `channels_known` is False if the statement
    is about the values only, such as the scale of an integer input: RGB and BGR are then both possible. `size` is
    (height, width), for files that accept any size. `warning` is shown if the fact is followed. `choices` is one
    sentence for all facts of a source that lists several usual values, "" for a source that states one.
    """

    evidence: Evidence
    pixels: Pixels | None = None
    geometry: Geometry | None = None
    certain: bool = True
    channels_known: bool = True
    size: tuple[int, int] | None = None
    choices: str = ""
    warning: str = ""

    @property
    def source(self) -> Source:
        """Where the statement comes from."""
        return self.evidence.source


def nearly_same(first: Pixels, second: Pixels) -> bool:
    """Whether two networks' answers could not tell the values apart: (x - 128) / 128 and x / 127.5 - 1."""
    return first.channels is second.channels and nearly_same_values(first, second)


def nearly_same_values(first: Pixels, second: Pixels) -> bool:
    """Whether the values of each channel are nearly the same, whatever the order of the channels."""
    number = min(first.channels.number, second.channels.number)
    return first.channels.number == second.channels.number and all(
        abs(scale * x + offset - other_scale * x - other_offset) <= NEARLY * 255 * max(abs(scale), abs(other_scale))
        for scale, offset, other_scale, other_offset in zip(
            first.scale[:number], first.offset[:number], second.scale[:number], second.offset[:number], strict=True
        )
        for x in (0, 255)
    )


def nearly_same_geometry(first: Geometry, second: Geometry) -> bool:
    """Whether two geometries are the same, up to 2 % of the side."""
    return first.resize is second.resize and abs(first.crop_fraction - second.crop_fraction) <= NEARLY


def for_channels(pixels: Pixels, channels: int) -> Pixels:
    """Return `pixels` for a network of 1 or 3 channels: grey values for a single channel."""
    if pixels.channels.number == channels:
        return pixels
    return replace(pixels, channels=Channels.GRAY if channels == 1 else Channels.RGB)


def raw_feed(input_: OriginalInput, channels: Channels = Channels.RGB) -> Pixels:
    """Return the values of an integer input that stores photos unchanged: x as uint8, x - 128 as int8."""
    zero = input_.zero_point + (128 if input_.dtype == "int8" else 0)
    scale, offset = input_.scale, -zero * input_.scale
    raw = Pixels(_three(scale), _three(offset), channels, f"{_number(offset)}..{_number(255 * scale + offset)}")
    usual = next((known for known in USUAL_RANGES if nearly_same_values(raw, known)), None)
    return raw if usual is None else replace(raw, name=usual.name)


def is_integer(foreign: ForeignModel) -> bool:
    """Whether the input of the file has an integer type."""
    return foreign.input.dtype in ("uint8", "int8")


def has_usual_range(foreign: ForeignModel) -> bool:
    """Whether an integer input stores unchanged photos as one of the usual ranges, such as 0..1.

    A network that was trained with the statistics of photos has another range.
    """
    raw = raw_feed(foreign.input)
    return any(nearly_same_values(raw, usual) for usual in USUAL_RANGES)


def _three(value: float) -> Triple:
    return (value, value, value)


def _number(value: float) -> str:
    return f"{0.0 if abs(value) < 1e-9 else value:.3g}"
