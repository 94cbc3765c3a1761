"""Reads and writes the options of `adopt` that state the preprocessing: --preprocess, --mean, --resize and others."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from trtpoets.adoption.contract import PRESETS, RAW, UNIT, Contract, Geometry, Pixels, Triple, pixels_from_mean_and_std
from trtpoets.adoption.facts import for_channels, is_integer, nearly_same, raw_feed
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Channels
from trtpoets.core.types import LARGEST_SIDE, Resize

_LARGEST = 1e6
"""Larger numbers are not pixel values."""


@dataclass(frozen=True)
class ContractOptions:
    """What the options of `adopt` state: `channels` is set if --channels was given without pixel values."""

    pixels: Pixels | None = None
    geometry: Geometry | None = None
    channels: Channels | None = None


def contract_options(
    preprocess: str | None = None,
    mean: str | None = None,
    std: str | None = None,
    scale: str | None = None,
    channels: str | None = None,
    resize: str | None = None,
    crop: float | None = None,
) -> ContractOptions:
    """Return what the options state. Raises BadInput for values that are not valid or contradict each other."""
    pixels = pixels_from_options(preprocess, mean, std, scale, channels)
    return ContractOptions(
        pixels,
        geometry_from_options(resize, crop),
        channels_from_option(channels) if pixels is None else None,
    )


def sides_from_option(text: str | None) -> tuple[int, int] | None:
    """Return (height, width) from "224" or "48x192" (height x width); None without a text. Raises BadInput."""
    if text is None:
        return None
    parts = text.lower().replace("×", "x").split("x")
    sides = [int(part) for part in parts if part.strip().isascii() and part.strip().isdigit()]
    if len(sides) != len(parts) or len(sides) > 2 or not all(1 <= side <= LARGEST_SIDE for side in sides):
        raise BadInput(
            f"--size is {text!r}; one number of pixels, or height x width, of 1 to {LARGEST_SIDE:,} each was expected",
            hint="give --size 224, or --size 48x192",
            code="TP9461",
        )
    return sides[0], sides[-1]


def size_option_of(sides: tuple[int, int]) -> str:
    """Return the value of --size that states these sides (height, width)."""
    return str(sides[0]) if sides[0] == sides[1] else f"{sides[0]}x{sides[1]}"


def pixels_from_options(
    preprocess: str | None, mean: str | None, std: str | None, scale: str | None, channels: str | None
) -> Pixels | None:
    """Return the pixel values that the options state: those of a preset, or `(x * scale - mean) / std`.

    `mean` and `std` are one number or three with commas, in the order RGB; `scale` is a number or a fraction such as
    "1/255". Without `scale` it is 1 for a mean or std above 2, and 1/255 for others. None if no option states the
    values, also if there are only `channels`. Raises BadInput.
    """
    order = channels_from_option(channels)
    given = {"--mean": mean, "--std": std, "--scale": scale}
    numbers = [option for option, value in given.items() if value is not None]
    if preprocess is not None:
        if numbers:
            raise BadInput(
                f"--preprocess and {numbers[0]} both state the pixel values",
                hint=f"leave out --preprocess or {numbers[0]}",
                code="TP9400",
            )
        preset = PRESETS.get(preprocess)
        if preset is None:
            raise BadInput(
                f"--preprocess is {preprocess!r}, and one of {', '.join(PRESETS)} was expected",
                hint="give one of these, or the numbers with --mean, --std and --scale",
                code="TP9401",
            )
        return preset if order is None else replace(preset, channels=order)
    if not numbers:
        return None
    means, stds = _triple("--mean", mean, 0.0), _triple("--std", std, 1.0)
    if any(value <= 0 for value in stds):
        raise BadInput(
            f"--std is {std}, and numbers above 0 were expected", hint="give --std 1 to leave it out", code="TP9402"
        )
    if scale is None:
        large = max(*map(abs, means), *stds) > 2
        if not any(means) and all(value == 1 for value in stds):
            raise BadInput(
                f"{' and '.join(f'{option} {given[option]}' for option in numbers)} without --scale does not state the "
                "range of the pixels",
                hint="add --scale 1 for 0..255, or --scale 1/255 for 0..1",
                code="TP9403",
            )
        factor = 1.0 if large else 1 / 255
    else:
        factor = _factor(scale)
    chosen = order or Channels.RGB
    pixels = pixels_from_mean_and_std(means, stds, factor, chosen, "")
    return replace(pixels, name=_name_of(pixels))


def geometry_from_options(resize: str | None, crop: float | None) -> Geometry | None:
    """Return the geometry that --resize and --crop state, None without both. --crop alone means a crop.

    Raises BadInput.
    """
    if resize is None and crop is None:
        return None
    if resize is not None and resize not in {member.value for member in Resize}:
        raise BadInput(
            f"--resize is {resize!r}, and one of {', '.join(member.value for member in Resize)} was expected",
            hint="give --resize stretch, --resize crop or --resize letterbox",
            code="TP9404",
        )
    kind = Resize.CROP if resize is None else Resize(resize)
    if crop is None:
        return Geometry(kind)
    if kind is not Resize.CROP:
        raise BadInput(
            f"--crop states the part of the photo that --resize crop keeps, but --resize is {kind.value}",
            hint="leave out --crop, or give --resize crop",
            code="TP9405",
        )
    if not 0.01 <= crop <= 1:
        raise BadInput(
            f"--crop is {crop}, and a share of the side from 0.01 to 1 was expected",
            hint="give for example --crop 0.875, which is 224 of 256 pixels",
            code="TP9406",
        )
    return Geometry(kind, float(crop))


def channels_from_option(channels: str | None) -> Channels | None:
    """Return the member of Channels that --channels names. Raises BadInput."""
    if channels is None:
        return None
    name = channels.lower().replace("grey", "gray")
    if name not in {member.value for member in Channels}:
        raise BadInput(
            f"--channels is {channels!r}, and one of {', '.join(member.value for member in Channels)} was expected",
            hint="give --channels rgb or --channels bgr",
            code="TP9407",
        )
    return Channels(name)


def fitted(options: ContractOptions, foreign: ForeignModel) -> ContractOptions:
    """Return the options for the input of a file.

    A preset without --channels is grey for one channel. For an integer input, `raw` and the values that it has for
    unchanged photos are exactly those. Raises BadInput if --channels names another number of channels.
    """
    pixels, channels = options.pixels, foreign.channels
    named = options.channels or (pixels.channels if pixels else None)
    if named is not None and named.number != channels:
        if options.channels is not None or pixels is None or channels != 1:
            raise BadInput(
                f"--channels {named.value} is for {named.number} channels, but the network takes {channels}",
                hint="give --channels gray or --channels inverted-gray" if channels == 1 else "give --channels rgb",
                code="TP9408",
            )
        pixels = for_channels(pixels, 1)
    if pixels is not None and is_integer(foreign):
        raw = raw_feed(foreign.input, pixels.channels)
        if nearly_same(pixels, raw) or replace(RAW, channels=pixels.channels).same_as(pixels):
            pixels = raw
    return replace(options, pixels=pixels)


def options_for(contract: Contract, foreign: ForeignModel) -> str:
    """Return `options_of` for a file: `--preprocess raw` for an integer input that stores unchanged photos."""
    pixels = contract.pixels
    if is_integer(foreign) and nearly_same(pixels, raw_feed(foreign.input, pixels.channels)):
        return options_of(replace(contract, pixels=replace(RAW, channels=pixels.channels)))
    return options_of(contract)


def options_of(contract: Contract) -> str:
    """Return the options that state a contract: `--preprocess 0-1 --resize crop --crop 0.875`."""
    return f"{pixel_options_of(contract.pixels)} {geometry_options_of(contract.geometry)}"


def pixel_options_of(pixels: Pixels) -> str:
    """Return the options that state pixel values, such as `--preprocess tf --channels bgr`."""
    for name, preset in PRESETS.items():
        if replace(preset, channels=pixels.channels).same_as(pixels):
            usual = preset.channels if pixels.channels.number == 3 else Channels.GRAY
            return f"--preprocess {name}" + ("" if pixels.channels is usual else f" --channels {pixels.channels.value}")
    count = pixels.channels.number
    scales, offsets = pixels.scale[:count], pixels.offset[:count]
    if len(set(scales)) == 1:
        factor, stds = scales[0], [1.0] * count
    else:
        factor, stds = 1 / 255, [1 / 255 / scale for scale in scales]
    means = [-offset * std for offset, std in zip(offsets, stds, strict=True)]
    words = [f"--mean {_numbers(means)}", f"--std {_numbers(stds)}"]
    words.append(f"--scale {'1/255' if math.isclose(factor, 1 / 255, rel_tol=1e-9) else _numbers([factor])}")
    if pixels.channels is not Channels.RGB:
        words.append(f"--channels {pixels.channels.value}")
    return " ".join(words)


def geometry_options_of(geometry: Geometry) -> str:
    """Return the options that state a geometry, such as `--resize crop --crop 0.875`."""
    crop = "" if geometry.crop_fraction == 1 else f" --crop {geometry.crop_fraction:.9g}"
    return f"--resize {geometry.resize.value}{crop}"


def _name_of(pixels: Pixels) -> str:
    known = (preset for preset in PRESETS.values() if replace(preset, channels=pixels.channels).same_as(pixels))
    preset = next(known, None)
    if preset is not None:
        return preset.name
    lowest = min(pixels.offset)
    highest = max(255 * scale + offset for scale, offset in zip(pixels.scale, pixels.offset, strict=True))
    return f"{lowest:.4g}..{highest:.4g}"


def _triple(option: str, text: str | None, default: float) -> Triple:
    if text is None:
        return (default, default, default)
    values = [_value(option, part) for part in text.replace(",", " ").split()]
    if len(values) == 1:
        values *= 3
    if len(values) != 3:
        raise BadInput(
            f"{option} has {len(values)} numbers, and one or three were expected",
            hint=f"give for example {option} 0.485,0.456,0.406",
            code="TP9409",
        )
    return (values[0], values[1], values[2])


def _value(option: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) <= _LARGEST:
        raise BadInput(
            f"{option} contains {text!r}, and a number was expected",
            hint=f"give one or three numbers with commas, such as {option} 0.5,0.5,0.5",
            code="TP9410",
        )
    return value


def _factor(text: str) -> float:
    numerator, _, denominator = str(text).partition("/")
    try:
        value = float(numerator) / float(denominator or 1)
    except (ValueError, ZeroDivisionError):
        value = math.nan
    if not 0 < value <= _LARGEST:
        raise BadInput(
            f"--scale is {text!r}, and a number above 0 or a fraction was expected",
            hint=f"give for example --scale 1/255 ({UNIT.name}) or --scale 1",
            code="TP9411",
        )
    return value


def _numbers(values: list[float]) -> str:
    short = values[:1] if len(set(values)) == 1 else values
    return ",".join(f"{0.0 if value == 0 else value:.9g}" for value in short)
