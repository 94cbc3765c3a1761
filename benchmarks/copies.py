"""Adds near-copies to a set of photos and measures how many are found: recall, precision, seconds, peak memory.

Copies of random photos are created in equal parts of six kinds: cropped (to 76 to 95 % of each side), mirrored, resized
(to 40 to 150 %), re-encoded (JPEG, quality 30 to 90), with changed brightness and contrast, and as the next frame of a
video (moved by up to 4 %, zoomed by up to 2 %, noise). With --both, each copy combines two kinds. Copies are saved as
JPEG of quality 88 unless they are of the kind "re-encoded".

    python benchmarks/copies.py [--photos FOLDER ...] [--originals 2000] [--copies 1000] [--both]
    python benchmarks/copies.py --synthetic 100000

Without --photos, half of the photos are the solar cells of the demo, which look alike and so are hard negatives, and
half are generated, with structure at every scale as in photos. Copies are created of photos whose folder's name matches
--of (default: the generated photos; with --photos, all).

Recall is the share of copies that are in the same family as their original. Precision is the share of pairs (two photos
in one family) that have the same original. A pair of two originals counts as wrong, although collected photos sometimes
are copies of each other, and wafers cut from one ingot look the same. These pairs are also counted separately, and
--show FILE writes an image of some of them. Seconds exclude bottlenecks and decoding.

--synthetic N measures processor time and memory of the search among N photos that exist as features and thumbnails
only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
from memory import peak_mib, reset_peak
from PIL import Image, ImageEnhance

from trtpoets.core.images import usable_cores
from trtpoets.core.long_lists import LongList
from trtpoets.core.paths import cache_root
from trtpoets.core.types import Photo, Split
from trtpoets.pipeline.demo import solar_cells
from trtpoets.pipeline.extractors import Device, extractor_from_network
from trtpoets.train.backbones import DEFAULT_BACKBONE, backbone_named
from trtpoets.train.bottlenecks import bottlenecks_from_photos
from trtpoets.train.near_copies.alignment import SIDE
from trtpoets.train.near_copies.families import families_of
from trtpoets.train.near_copies.thumbnails import ThumbnailCache
from trtpoets.train.networks import network_from_backbone
from trtpoets.train.row_file import empty_rows, release

KINDS = ("crop", "mirror", "resize", "encode", "light", "frame")


def changed(image: Image.Image, kind: str, rng: np.random.Generator) -> Image.Image:
    """Return a modified copy of an image, of the given kind."""
    width, height = image.size
    if kind == "crop":
        share_x, share_y = np.clip(rng.uniform(0.76, 0.95) + rng.uniform(-0.03, 0.03, 2), 0.76, 0.95)
        left, top = rng.uniform(0, 1 - share_x), rng.uniform(0, 1 - share_y)
        box = (left * width, top * height, (left + share_x) * width, (top + share_y) * height)
        return image.crop(tuple(round(x) for x in box))
    if kind == "mirror":
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if kind == "resize":
        scale = rng.uniform(0.4, 1.5)
        return image.resize((round(scale * width), round(scale * height)))
    if kind == "light":
        lighter = ImageEnhance.Brightness(image).enhance(rng.uniform(0.65, 1.4))
        return ImageEnhance.Contrast(lighter).enhance(rng.uniform(0.7, 1.4))
    if kind == "frame":
        zoom = rng.uniform(0.98, 1)
        left, top = rng.uniform(-0.04, 0.04, 2) + (1 - zoom) / 2
        box = (left * width, top * height, (left + zoom) * width, (top + zoom) * height)
        padded = np.pad(np.asarray(image), ((height, height), (width, width), (0, 0)), mode="symmetric")
        moved = Image.fromarray(padded).resize(
            image.size, box=(box[0] + width, box[1] + height, box[2] + width, box[3] + height), resample=2
        )
        noisy = np.asarray(moved) + rng.normal(0, rng.uniform(2, 8), (height, width, 1))
        return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    return image


def encoded(image: Image.Image, kinds: tuple[str, ...], rng: np.random.Generator) -> bytes:
    """Return the image as JPEG bytes."""
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=int(rng.integers(30, 91)) if "encode" in kinds else 88)
    return stream.getvalue()


def planted(sources: list[Path], copies: int, both: bool, out: Path, seed: int) -> list[tuple[Path, int, str]]:
    """Write copies of random photos in `sources` into `out`; return (path, index of the original, kinds) of each."""
    rng = np.random.default_rng(seed)
    originals = rng.choice(len(sources), copies, replace=copies > len(sources))
    copies_written = []
    for number, original in enumerate(originals):
        kinds: tuple[str, ...] = (KINDS[number % len(KINDS)],)
        if both:
            kinds = tuple(rng.choice(KINDS, 2, replace=False))
        image = Image.open(sources[original]).convert("RGB")
        for kind in kinds:
            image = changed(image, kind, rng)
        path = out / f"{number:05}.jpg"
        path.write_bytes(encoded(image, kinds, rng))
        copies_written.append((path, int(original), "+".join(kinds)))
    return copies_written


def generated(folder: Path, count: int) -> None:
    """Write `count` generated photos with structure at every scale."""
    (folder / "generated").mkdir(parents=True)
    for number in range(count):
        rng = np.random.default_rng(number)
        total = np.zeros((240, 320, 3))
        for side, weight in ((3, 45), (7, 35), (15, 25), (35, 18), (80, 10)):
            grid = rng.normal(0, weight, (side, side, 3)).astype(np.float32)
            parts = [Image.fromarray(grid[..., c]).resize((320, 240), Image.Resampling.BICUBIC) for c in range(3)]
            total += np.stack([np.asarray(part) for part in parts], axis=2)
        pixels = np.clip(128 + total, 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "generated" / f"{number:05}.jpg", quality=90)


def photos_in(folders: list[Path], count: int, seed: int) -> list[Path]:
    """Return about `count` random photos of the folders, in equal shares as far as their sizes allow."""
    rng = np.random.default_rng(seed)
    chosen: list[Path] = []
    for left, folder in zip(range(len(folders), 0, -1), folders, strict=True):
        files = sorted(
            path for path in folder.glob("*/*") if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp", ".bmp")
        )
        share = (count - len(chosen)) // left
        chosen += [files[index] for index in sorted(rng.permutation(len(files))[:share].tolist())]
    return chosen


def pairs_of(count: int) -> int:
    """Return the number of pairs of `count` photos."""
    return count * (count - 1) // 2


def print_scores(
    families: tuple[tuple[int, ...], ...], originals: list[int], kinds: list[str]
) -> list[tuple[int, int]]:
    """Print recall and precision, and return the pairs of originals that are in one family."""
    family_of = {member: number for number, family in enumerate(families) for member in family}
    found_by_kind = defaultdict(list)
    for index, (original, combined) in enumerate(zip(originals, kinds, strict=True)):
        for kind in filter(None, combined.split("+")):
            found_by_kind[kind].append(family_of.get(index, -1) == family_of.get(original, -2))
    pairs = correct = 0
    wrong: list[tuple[int, int]] = []
    for family in families:
        pairs += pairs_of(len(family))
        correct += sum(pairs_of(n) for n in np.unique([originals[i] for i in family], return_counts=True)[1].tolist())
        members = [index for index in family if not kinds[index]]
        wrong += [(one, other) for number, one in enumerate(members) for other in members[number + 1 :]]
    copies = [family_of.get(i, -1) == family_of.get(o, -2) for i, o in enumerate(originals) if kinds[i]]
    print(f"  recall     {100 * np.mean(copies):.1f} % of {len(copies):,} copies (goal: 99 %)")
    print("             " + ", ".join(f"{kind} {100 * np.mean(found_by_kind[kind]):.1f} %" for kind in KINDS))
    print(f"  precision  {100 * correct / max(pairs, 1):.1f} % of {pairs:,} pairs (goal: 98 %)")
    without = pairs - len(wrong)
    print(f"             {len(wrong)} pairs are of two originals; without them {100 * correct / max(without, 1):.1f} %")
    print(f"  families   {len(families):,}, the largest of {max(map(len, families), default=0)} photos")
    return wrong


def show(paths: list[Path], pairs: list[tuple[int, int]], out: Path) -> None:
    """Write an image of up to 24 pairs, side by side."""
    if not pairs:
        return
    tiles = [
        np.hstack([np.asarray(Image.open(paths[place]).convert("RGB").resize((160, 160))) for place in pair])
        for pair in pairs[:24]
    ]
    tiles += [np.zeros_like(tiles[0])] * (-len(tiles) % 4)
    Image.fromarray(np.vstack([np.hstack(tiles[at : at + 4]) for at in range(0, len(tiles), 4)])).save(out)


def synthetic_search(count: int, folder: Path) -> dict[str, float]:
    """Measure the search among `count` synthetic photos, of which a hundredth are copies with noise.

    Features are those of 20 kinds of photos, thumbnails are random patterns of 24 x 24 values. Both are mapped from
    files in `folder` where `retrain` maps them. (With patterns of 8 x 8 values, all photos consist of the patterns that
    they share, as objects of one kind do, and the noise of a fifth of the copies exceeds the detail that is left.)
    """
    random = np.random.default_rng(0)
    features = empty_rows(count, 1280, np.float32, folder)
    rows = empty_rows(count, SIDE * SIDE // 4, np.float32, folder)
    thumbnails = rows.view(np.uint8).reshape(count, SIDE, SIDE)
    copied = count // 100
    kinds = random.standard_normal((20, 1280), dtype=np.float32)
    for start in range(0, count, 1000):
        stop = min(start + 1000, count)
        features[start:stop] = random.standard_normal((stop - start, 1280), dtype=np.float32)
        features[start:stop] += kinds[np.arange(start, stop) % len(kinds)]
        for row in range(start, stop):
            small = Image.fromarray(random.integers(0, 256, (24, 24), dtype=np.uint8))
            thumbnails[row] = np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        release(features)
        release(rows)
    for row in range(copied):
        features[count - 1 - row] = features[row] + 0.2 * random.standard_normal(1280, dtype=np.float32)
        noise = random.normal(0, 3, (SIDE, SIDE))
        thumbnails[count - 1 - row] = np.clip(thumbnails[row] + noise, 0, 255).astype(np.uint8)
    release(features)
    release(rows)
    names = LongList(count, lambda index: ("", f"{index * 7919 % count:08}.jpg"))
    reset_peak()
    before, start_seconds = peak_mib(), time.process_time()
    families = families_of(features, thumbnails, names)
    seconds = time.process_time() - start_seconds
    family_of = {member: number for number, family in enumerate(families) for member in family}
    found = sum(family_of.get(row, -1) == family_of.get(count - 1 - row, -2) for row in range(copied))
    return {
        "photos": count,
        "processor_seconds": round(seconds, 1),
        "peak_mb": round(peak_mib() * 2**20 / 1e6),
        "before_mb": round(before * 2**20 / 1e6),
        "copies_found": found / copied,
        "in_families": len(family_of),
    }


def main() -> None:
    """Create copies, search for them, and print the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("--of", default="", help="create copies of photos whose path contains this text")
    parser.add_argument("--originals", type=int, default=2000)
    parser.add_argument("--copies", type=int, default=1000)
    parser.add_argument("--both", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", type=Path)
    parser.add_argument("--synthetic", type=int)
    parser.add_argument("--work", type=Path, help="folder for 10 KB for each synthetic photo")
    options = parser.parse_args()
    if options.synthetic:
        with tempfile.TemporaryDirectory(dir=options.work) as name:
            print(json.dumps(synthetic_search(options.synthetic, Path(name))))
        return
    extractor = extractor_from_network(network_from_backbone(backbone_named(DEFAULT_BACKBONE)), Device.CPU)
    with tempfile.TemporaryDirectory() as name:
        folders, of = options.photos, options.of
        if not folders:
            generated(Path(name) / "made", options.originals // 2)
            folders, of = [Path(name) / "made", solar_cells(Path(name) / "cells")], of or "generated"
        sources = photos_in(folders, options.originals, options.seed)
        candidates = [index for index, path in enumerate(sources) if of in str(path)]
        (Path(name) / "copies").mkdir()
        copies_folder = Path(name) / "copies"
        planted_copies = planted(
            [sources[i] for i in candidates], options.copies, options.both, copies_folder, options.seed
        )
        paths = [*sources, *(path for path, _, _ in planted_copies)]
        originals = [*range(len(sources)), *(candidates[original] for _, original, _ in planted_copies)]
        kinds = [*("" for _ in sources), *(kind for _, _, kind in planted_copies)]
        photos = [Photo(path, "", Split.TRAIN, hashlib.sha256(path.read_bytes()).hexdigest()) for path in paths]
        store = cache_root() / "bottlenecks"
        thumbnails = ThumbnailCache(store, extractor.preprocess)
        features = bottlenecks_from_photos(photos, extractor, store, pixel_rows=thumbnails)
        small = thumbnails.of(photos)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        # File names are replaced, because they would show which photos are copies.
        families = families_of(features, small, [("", f"{photo.sha256}.jpg") for photo in photos])
        seconds = time.perf_counter() - start
        more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
        print(f"{len(sources):,} photos of {', '.join(map(str, folders))},")
        print(f"and {len(planted_copies):,} copies of {len(candidates):,} photos")
        wrong = print_scores(families, originals, kinds)
        print(f"  time       {seconds:.1f} s without bottlenecks, {usable_cores()} cores (goal: 10 s for 3,000 photos)")
        print(f"  memory     {more} MiB additional peak memory")
        if options.show:
            show(paths, wrong, options.show)


if __name__ == "__main__":
    main()
