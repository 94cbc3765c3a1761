"""Do two thumbnails show the same picture, one perhaps cropped, stretched or mirrored? By aligning them.

A window of one thumbnail is searched for in the other, over scales and offsets (`best_windows`). From the best place,
scale and offset of each axis are refined by least squares (`aligned`), and the correlation of what both show decides.
Thumbnails are compared after their local mean and contrast are evened out (`evened`), so that light has no part in it
and fine structure, in which different photos of one subject differ, has as much as large shapes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

SIDE = 64
"""Pixels of a thumbnail on each side."""

_CENTRE = 0.72
"""The window that is searched for: the middle of a thumbnail, this share of each side."""

_WINDOW = 16
"""Pixels of that window on each side during the search."""

_PLACES = ((0.78, 0.11, 6), (0.85, 0.09, 6), (0.92, 0.08, 5), (1.0, 0.06, 5), (1.0, 0.12, 3))
"""Where windows are searched for: scale, the farthest offset of the centre, and steps on each axis."""

_NOISE = 4.0
"""Local contrast, in grey levels, that is as likely noise as structure."""

_COARSE_ROUNDS, _FINE_ROUNDS = 4, 3
"""Rounds of least squares with half the pixels, and with all."""

_HOPELESS, _HOPELESS_DETAIL = 0.6, 0.35
"""Correlation and detail after the coarse rounds below which the fine ones are left out."""


class Alignment(NamedTuple):
    """How pairs of thumbnails compare once they are aligned: float32 (P,) each.

    `correlation` is that of the pixels that both show, -1 to 1; `detail` the same without what is common to many
    photos; `shared` the share of their contrast that is common; `difference` the root mean square of what is left
    between them; `overlap` the share that both show.
    """

    correlation: np.ndarray
    detail: np.ndarray
    shared: np.ndarray
    difference: np.ndarray
    overlap: np.ndarray


def evened(thumbnails: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """Thumbnails (N, SIDE, SIDE) with local mean 0 and local contrast 1 or less: float32.

    Where `shown` (N, SIDE, SIDE) is 0, pixels have no part in mean and contrast.
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
    """What a window may look like in evened images (N, SIDE, SIDE): (N, places, pixels), each of length 1."""
    found = []
    for scale, reach, steps in _PLACES:
        half = _CENTRE * scale / 2
        rows = np.stack([_resampling(0.5 + at - half, 0.5 + at + half) for at in np.linspace(-reach, reach, steps)])
        rows = rows.reshape(steps * _WINDOW, SIDE)
        parts = np.matmul(np.matmul(rows, images), rows.T)
        parts = parts.reshape(len(images), steps, _WINDOW, steps, _WINDOW).transpose(0, 1, 3, 2, 4)
        found.append(parts.reshape(len(images), steps * steps, _WINDOW * _WINDOW))
    return _unit(np.concatenate(found, axis=1))


def centres(images: np.ndarray) -> np.ndarray:
    """The window that is searched for, of evened images (N, SIDE, SIDE): (N, pixels), each of length 1."""
    rows = _resampling(0.5 - _CENTRE / 2, 0.5 + _CENTRE / 2)
    return _unit(np.matmul(np.matmul(rows, images), rows.T).reshape(len(images), -1))


def places() -> np.ndarray:
    """Scale and the offsets of the centre (vertical, horizontal) of each of `windows`: float32 (places, 3)."""
    rows = []
    for scale, reach, steps in _PLACES:
        offsets = np.linspace(-reach, reach, steps)
        rows += [(scale, down, right) for down in offsets for right in offsets]
    return np.array(rows, dtype=np.float32)


def aligned(
    first: np.ndarray,
    second: np.ndarray,
    greys: tuple[np.ndarray, np.ndarray],
    start: np.ndarray,
    common: Callable[[np.ndarray], np.ndarray],
) -> Alignment:
    """Align evened images `second` (P, SIDE, SIDE) with `first`, from the places `start` (P, 3: scale, down, right) on.

    `greys` are the thumbnails of both before they were evened: once aligned, they are evened alike. `common` gives the
    part of images that many photos share. All is 0 for pairs that still differ after the coarse rounds.
    """
    scale = np.repeat(start[:, :1], 2, axis=1).astype(np.float32)  # vertical, horizontal
    shift = start[:, 1:].astype(np.float32)
    places, alike = _refined(_reduced(first), _reduced(second), (scale, shift), _COARSE_ROUNDS)
    seen, shown = _sampled(_reduced(first), _grid(SIDE // 2), *places)
    patterns = common(first), common(second)
    one, other = _unit(seen, shown), _unit(_reduced(second), shown)
    detail, _ = _apart(one, other, (_reduced(patterns[0]), _reduced(patterns[1])), shown, places)
    found = Alignment(*(np.zeros(len(first), dtype=np.float32) for _ in Alignment._fields))
    live = np.flatnonzero((alike >= _HOPELESS) & (detail >= _HOPELESS_DETAIL))
    if not len(live):
        return found
    places, _ = _refined(first[live], second[live], (places[0][live], places[1][live]), _FINE_ROUNDS)
    seen, shown = _sampled(greys[0][live], _grid(SIDE), *places)
    seen, wanted = evened(seen, shown), evened(greys[1][live], shown)
    one, other = _unit(seen, shown), _unit(wanted, shown)
    spread = _dot((wanted - _mean(wanted, shown)) ** 2, shown) / np.maximum(shown.sum((1, 2)), 1)
    distance = np.sqrt(_dot(one - other, one - other) * spread)
    apart = _apart(one, other, (patterns[0][live], patterns[1][live]), shown, places)
    for values, new in zip(found, (_dot(one, other), *apart, distance, shown.mean((1, 2))), strict=True):
        values[live] = new
    return found


_Places = tuple[np.ndarray, np.ndarray]
"""Scale and shift (P, 2), vertical and horizontal: where a second image lies in a first one."""


def _refined(source: np.ndarray, goal: np.ndarray, at: _Places, rounds: int) -> tuple[_Places, np.ndarray]:
    """Some rounds of least squares: where `goal` lies in `source`, and the correlation before the last round."""
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
        seen, shown = _sampled(source, grid, scale, shift)
        seen, wanted = _unit(seen, shown), _unit(goal, shown)
        correlation = _dot(seen, wanted)
        length = np.sqrt(np.maximum(_dot(goal * goal, shown), 0))[:, None, None]
        error = ((seen - wanted) * length).reshape(len(goal), -1, 1)
        change = np.clip(np.matmul(inverse, np.matmul(slopes, error))[..., 0], -0.08, 0.08)
        shift = np.clip(shift - change[:, 2:] * scale, -0.5, 0.5)
        scale = np.clip(scale - change[:, :2] * scale, 0.55, 1.8)
    return (scale, shift), correlation


def _apart(
    one: np.ndarray, other: np.ndarray, patterns: tuple[np.ndarray, np.ndarray], shown: np.ndarray, places: _Places
) -> tuple[np.ndarray, np.ndarray]:
    """Correlation of aligned images of length 1 without what many photos share, and how much that is: (P,) each.

    The patterns of the first image lie in its own frame, so they are sampled at `places` as the image was. Lines across
    the whole picture are left out too: frames, wires and horizons are common, also where patterns don't fit a crop.
    """
    sampled, _ = _sampled(patterns[0], _grid(one.shape[1]), *places)
    units = _unit(sampled, shown), _unit(patterns[1], shown)
    lines = _lines(one, shown), _lines(other, shown)
    rest = one - lines[0], other - lines[1]
    lengths = np.sqrt(np.maximum(_dot(rest[0], rest[0]) * _dot(rest[1], rest[1]), 0))
    details = [_without(one, other, unit) for unit in units] + [_dot(*rest) / np.maximum(lengths, 1e-3)]
    shares = [_dot(one, unit) * _dot(other, unit) for unit in units]
    shares.append(np.sqrt(_dot(lines[0], lines[0]) * _dot(lines[1], lines[1])))
    return np.min(details, axis=0), np.max(shares, axis=0)


def _lines(images: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """The means of the rows and of the columns of images (P, S, S) with mean 0, where `shown` is 1."""
    rows = images.sum(2, keepdims=True) / np.maximum(shown.sum(2, keepdims=True), 1)
    columns = images.sum(1, keepdims=True) / np.maximum(shown.sum(1, keepdims=True), 1)
    lines: np.ndarray = (rows + columns) * shown
    return lines


def _without(one: np.ndarray, other: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """Correlation of two images (P, S, S) of length 1, without what `shared`, of length 1, explains of each."""
    first, second = _dot(one, shared), _dot(other, shared)
    lengths = np.sqrt(np.maximum((_dot(one, one) - first**2) * (_dot(other, other) - second**2), 0))
    left: np.ndarray = (_dot(one, other) - first * second) / np.maximum(lengths, 1e-3)
    return left


def _grid(samples: int) -> np.ndarray:
    return (np.arange(samples, dtype=np.float32) + 0.5) / samples - 0.5


def _sampled(
    images: np.ndarray, grid: np.ndarray, scale: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Images (P, S, S) at grid * scale + shift around their centre, bilinear; and 1 where that is inside, else 0."""
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
    """Sums of products over all pixels: (P,)."""
    sums: np.ndarray = np.einsum("pij,pij->p", one, other, optimize=False)
    return sums


def _mean(images: np.ndarray, shown: np.ndarray) -> np.ndarray:
    count = np.maximum(np.einsum("pij->p", shown), 1)
    result: np.ndarray = (_dot(images, shown) / count)[:, None, None]
    return result


def _unit(values: np.ndarray, shown: np.ndarray | None = None) -> np.ndarray:
    """With mean 0 and length 1: the last axis, or the last two where `shown` weighs them."""
    if shown is None:
        values = values - values.mean(axis=-1, keepdims=True)
        result: np.ndarray = values / np.maximum(np.linalg.norm(values, axis=-1, keepdims=True), 1e-3)
        return result
    values = (values - _mean(values, shown)) * shown
    values /= np.maximum(np.sqrt(_dot(values, values)), 1e-3)[:, None, None]
    return values


def _reduced(images: np.ndarray) -> np.ndarray:
    """Images (P, S, S) at half the size, each pixel the mean of four."""
    rows = images[:, ::2] + images[:, 1::2]
    half: np.ndarray = (rows[:, :, ::2] + rows[:, :, 1::2]) * np.float32(0.25)
    return half


def _resampling(low: float, high: float) -> np.ndarray:
    """The matrix (_WINDOW, SIDE) that samples the interval low..high (0..1), averaging over neighbours."""
    at = low + (high - low) * (np.arange(_WINDOW) + 0.5) / _WINDOW
    pixels = (np.arange(SIDE) + 0.5) / SIDE
    weights = np.maximum(0, 1 - np.abs(at[:, None] - pixels) / ((high - low) / _WINDOW))
    result: np.ndarray = (weights / np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)).astype(np.float32)
    return result


def _blurred(images: np.ndarray) -> np.ndarray:
    """Gaussian blur of images (N, SIDE, SIDE), an eighth of a side wide, as two matrix products."""
    at = np.arange(SIDE)
    weights = np.exp(-0.5 * ((at[:, None] - at) / (SIDE / 8)) ** 2)
    matrix = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    result: np.ndarray = np.matmul(np.matmul(matrix, images), matrix.T)
    return result
