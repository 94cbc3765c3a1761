"""Aligns two thumbnails to decide whether they show the same picture, possibly cropped, stretched or mirrored.

The centre of one thumbnail is searched for in windows of the other, over scales and offsets (`windows`, `centres`).
From the best window, `align` refines scale and offset of each axis by least squares; the correlation of the overlapping
parts decides. Thumbnails are compared after normalising their local mean and contrast (`normalise_contrast`), so that
exposure has no influence, and fine structure, in which different photos of one subject differ, counts as much as large
shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 64
"""Width and height of a thumbnail in pixels."""

_CENTRE = 0.72
"""Size of the centre that is searched for, as a share of each side."""

_WINDOW = 16
"""Width and height in pixels to which windows and centres are resampled."""

_PLACES = ((0.78, 0.11, 6), (0.85, 0.09, 6), (0.92, 0.08, 5), (1.0, 0.06, 5), (1.0, 0.12, 3))
"""The windows: scale, largest offset of the centre, and number of steps on each axis."""

_NOISE = 4.0
"""Local contrast, in grey levels, that may be noise."""

_COARSE_ROUNDS, _FINE_ROUNDS = 4, 3
"""Numbers of least squares iterations at half and at full resolution."""

_MIN_COARSE_CORRELATION, _MIN_COARSE_DETAIL = 0.6, 0.35
"""Pairs with a lower correlation and detail after the coarse iterations are not refined."""


class Alignment(NamedTuple):
    """Comparison of pairs of thumbnails after alignment: float32 (P,) each.

    `correlation` (-1 to 1) is that of the overlapping pixels; `detail` the same without what many photos share;
    `shared` the share of their contrast that many photos share; `difference` the root mean square of the remaining
    difference; `overlap` the share of the area that both show.
    """

    correlation: np.ndarray
    detail: np.ndarray
    shared: np.ndarray
    difference: np.ndarray
    overlap: np.ndarray


def normalise_contrast(thumbnails: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """Return thumbnails (N, SIDE, SIDE) with local mean 0 and local contrast at most 1: float32.

    Pixels where `shown` (N, SIDE, SIDE) is 0 are excluded from mean and contrast.
    """
    grey = thumbnails.astype(np.float32)
    if shown is None:
        grey -= _blurred(grey)
        return grey / np.sqrt(_blurred(grey * grey) + _NOISE**2)
    share = np.maximum(_blurred(shown), 1e-3)
    grey -= _blurred(grey * shown) / share
    result: np.ndarray = grey / np.sqrt(_blurred(grey * grey * shown) / share + _NOISE**2)
    return result


def windows(images: np.ndarray) -> np.ndarray:
    """Return the windows of normalised images (N, SIDE, SIDE) as unit vectors: (N, windows, pixels)."""
    parts_of_scales = []
    for scale, reach, steps in _PLACES:
        half = _CENTRE * scale / 2
        rows = np.stack([_resampling(0.5 + at - half, 0.5 + at + half) for at in np.linspace(-reach, reach, steps)])
        rows = rows.reshape(steps * _WINDOW, SIDE)
        parts = np.matmul(np.matmul(rows, images), rows.T)
        parts = parts.reshape(len(images), steps, _WINDOW, steps, _WINDOW).transpose(0, 1, 3, 2, 4)
        parts_of_scales.append(parts.reshape(len(images), steps * steps, _WINDOW * _WINDOW))
    return _unit(np.concatenate(parts_of_scales, axis=1))


def centres(images: np.ndarray) -> np.ndarray:
    """Return the centres of normalised images (N, SIDE, SIDE), which are searched for, as unit vectors (N, pixels)."""
    rows = _resampling(0.5 - _CENTRE / 2, 0.5 + _CENTRE / 2)
    return _unit(np.matmul(np.matmul(rows, images), rows.T).reshape(len(images), -1))


def window_positions() -> np.ndarray:
    """Return the scale and centre offset (vertical, horizontal) of each of `windows`: float32 (windows, 3)."""
    rows = []
    for scale, reach, steps in _PLACES:
        offsets = np.linspace(-reach, reach, steps)
        rows += [(scale, down, right) for down in offsets for right in offsets]
    return np.array(rows, dtype=np.float32)


def align(
    first: np.ndarray,
    second: np.ndarray,
    greys: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    common: Callable[[np.ndarray], np.ndarray],
) -> Alignment:
    """Align normalised images `second` (P, SIDE, SIDE) with `first`, starting at `start` (P, 3: scale, down, right).

    `greys` are the thumbnails of both before normalisation; after alignment they are normalised on the overlap.
    `common` returns the part of images that many photos share. The result is 0 for pairs that still differ after the
    coarse iterations.
    """
    scale = np.repeat(start[:, :1], 2, axis=1).astype(np.float32)  # vertical, horizontal
    shift = start[:, 1:].astype(np.float32)
    position, alike = _refined(_reduced(first), _reduced(second), (scale, shift), _COARSE_ROUNDS)
    sampled, shown = _sampled(_reduced(first), _grid(SIDE // 2), *position)
    patterns = common(first), common(second)
    one, other = _unit(sampled, shown), _unit(_reduced(second), shown)
    detail, _ = _detail_and_shared(one, other, (_reduced(patterns[0]), _reduced(patterns[1])), shown, position)
    result = Alignment(*(np.zeros(len(first), dtype=np.float32) for _ in Alignment._fields))
    live = np.flatnonzero((alike >= _MIN_COARSE_CORRELATION) & (detail >= _MIN_COARSE_DETAIL))
    if not len(live):
        return result
    position, _ = _refined(first[live], second[live], (position[0][live], position[1][live]), _FINE_ROUNDS)
    sampled, shown = _sampled(greys[0][live], _grid(SIDE), *position)
    sampled, target = normalise_contrast(sampled, shown), normalise_contrast(greys[1][live], shown)
    one, other = _unit(sampled, shown), _unit(target, shown)
    variance = _dot((target - _mean(target, shown)) ** 2, shown) / np.maximum(shown.sum((1, 2)), 1)
    difference = np.sqrt(_dot(one - other, one - other) * variance)
    details = _detail_and_shared(one, other, (patterns[0][live], patterns[1][live]), shown, position)
    for values, new in zip(result, (_dot(one, other), *details, difference, shown.mean((1, 2))), strict=True):
        values[live] = new
    return result


_Position = tuple[np.ndarray, np.ndarray]
"""Scale and shift (P, 2), vertical and horizontal: the position of a second image in a first one."""


def _refined(source: np.ndarray, goal: np.ndarray, at: _Position, rounds: int) -> tuple[_Position, np.ndarray]:
    """Refine the position of `goal` in `source` by least squares; also return the correlation before the last round."""
    scale, shift = at
    samples = goal.shape[1]
    grid = _grid(samples)
    down, right = (np.gradient(goal, axis=axis) * np.float32(samples) for axis in (1, 2))
    slopes = np.stack([down * grid[:, None], right * grid, down, right], axis=1).reshape(len(goal), 4, -1)
    normal = np.matmul(slopes, slopes.transpose(0, 2, 1))
    normal += (1e-3 * np.trace(normal, axis1=1, axis2=2)[:, None, None] + 1e-9) * np.eye(4)
    inverse = np.linalg.inv(normal).astype(np.float32)
    correlation = np.zeros(len(goal), dtype=np.float32)
    for _ in range(rounds):
        sampled, shown = _sampled(source, grid, scale, shift)
        sampled, target = _unit(sampled, shown), _unit(goal, shown)
        correlation = _dot(sampled, target)
        length = np.sqrt(np.maximum(_dot(goal * goal, shown), 0))[:, None, None]
        error = ((sampled - target) * length).reshape(len(goal), -1, 1)
        change = np.clip(np.matmul(inverse, np.matmul(slopes, error))[..., 0], -0.08, 0.08)
        shift = np.clip(shift - change[:, 2:] * scale, -0.5, 0.5)
        scale = np.clip(scale - change[:, :2] * scale, 0.55, 1.8)
    return (scale, shift), correlation


def _detail_and_shared(
    one: np.ndarray, other: np.ndarray, patterns: tuple[np.ndarray, np.ndarray], shown: np.ndarray, position: _Position
) -> tuple[np.ndarray, np.ndarray]:
    """Return the correlation of aligned unit images without what many photos share, and how much that is: (P,) each.

    The patterns of the first image are in its own coordinates, so they are sampled at `position` like the image. Lines
    across the whole picture are removed too: frames, wires and horizons are common even where patterns do not match.
    """
    sampled, _ = _sampled(patterns[0], _grid(one.shape[1]), *position)
    units = _unit(sampled, shown), _unit(patterns[1], shown)
    lines = _lines(one, shown), _lines(other, shown)
    rest = one - lines[0], other - lines[1]
    lengths = np.sqrt(np.maximum(_dot(rest[0], rest[0]) * _dot(rest[1], rest[1]), 0))
    details = [_without(one, other, unit) for unit in units] + [_dot(*rest) / np.maximum(lengths, 1e-3)]
    shares = [_dot(one, unit) * _dot(other, unit) for unit in units]
    shares.append(np.sqrt(_dot(lines[0], lines[0]) * _dot(lines[1], lines[1])))
    return np.min(details, axis=0), np.max(shares, axis=0)


def _lines(images: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Return the row means plus column means of images (P, S, S) with mean 0, where `shown` is 1."""
    rows = images.sum(2, keepdims=True) / np.maximum(shown.sum(2, keepdims=True), 1)
    columns = images.sum(1, keepdims=True) / np.maximum(shown.sum(1, keepdims=True), 1)
    lines: np.ndarray = (rows + columns) * shown
    return lines


def _without(one: np.ndarray, other: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Return the correlation of two unit images (P, S, S) without their components along the unit image `shared`."""
    first, second = _dot(one, shared), _dot(other, shared)
    lengths = np.sqrt(np.maximum((_dot(one, one) - first**2) * (_dot(other, other) - second**2), 0))
    left: np.ndarray = (_dot(one, other) - first * second) / np.maximum(lengths, 1e-3)
    return left


def _grid(samples: int) -> np.ndarray:
    return (np.arange(samples, dtype=np.float32) + 0.5) / samples - 0.5


def _sampled(
    images: np.ndarray, grid: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Sample images (P, S, S) at grid * scale + shift around their centre, bilinear; also return where it is inside."""
    side, pairs = images.shape[1], np.arange(len(images))[:, None]
    at = (grid[None, None] * scale[..., None] + shift[..., None] + 0.5) * side - 0.5
    inside = ((at >= -0.5) & (at <= side - 0.5)).astype(np.float32)
    at = np.clip(at, 0, side - 1.001)
    low = at.astype(np.int64)
    part = (at - low).astype(np.float32)
    rows = images[pairs, low[:, 0]] * (1 - part[:, 0, :, None])
    rows += images[pairs, low[:, 0] + 1] * part[:, 0, :, None]
    columns = rows.transpose(0, 2, 1)
    values = columns[pairs, low[:, 1]] * (1 - part[:, 1, :, None])
    values += columns[pairs, low[:, 1] + 1] * part[:, 1, :, None]
    return values.transpose(0, 2, 1), inside[:, 0, :, None] * inside[:, 1, None, :]


def _dot(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return the sums of products over all pixels: (P,)."""
    sums: np.ndarray = np.einsum("pij,pij->p", one, other, optimize=False)
    return sums


def _mean(images: np.ndarray, shown: np.ndarray) -> np.ndarray:
    count = np.maximum(np.einsum("pij->p", shown), 1)
    result: np.ndarray = (_dot(images, shown) / count)[:, None, None]
    return result


def _unit(values: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """Subtract the mean and scale to length 1, over the last axis, or over the last two weighted by `shown`."""
    if shown is None:
        values = values - values.mean(axis=-1, keepdims=True)
        result: np.ndarray = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-3)
        return result
    values = (values - _mean(values, shown)) * shown
    values /= np.maximum(np.sqrt(_dot(values, values)), 1e-3)[:, None, None]
    return values


def _reduced(images: np.ndarray) -> np.ndarray:
    """Return images (P, S, S) at half the resolution, each pixel the mean of four."""
    rows = images[:, ::2] + images[:, 1::2]
    half: np.ndarray = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return half


def _resampling(low: float, high: float) -> np.ndarray:
    """Return the matrix (_WINDOW, SIDE) that samples the interval low..high (0..1) with linear weights."""
    at = low + (high - low) * (np.arange(_WINDOW) + 0.5) / _WINDOW
    pixels = (np.arange(SIDE) + 0.5) / SIDE
    weights = np.maximum(0, 1 - np.abs(at[:, None] - pixels) / ((high - low) / _WINDOW))
    result: np.ndarray = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return result


def _blurred(images: np.ndarray) -> np.ndarray:
    """Return images (N, SIDE, SIDE) with a Gaussian blur of an eighth of a side, computed as two MatMuls."""

    at = np.arange(SIDE)
    weights = np.exp(-0.5 * ((at[:, None] - at) / (SIDE / 8)) ** 2)
    matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    result: np.ndarray = np.matmul(np.matmul(matrix, images), matrix.T)
    return result
