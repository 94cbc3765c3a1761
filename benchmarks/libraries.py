"""Compares own code with the library that could replace it: the feature cache with SQLite, GraphView with onnx-ir.

    python benchmarks/libraries.py [--photos 50000] [--model engines/NAME/int8.onnx]

Features are float32, 1,280 wide, in blocks of 512 photos. SQLite runs in WAL mode without syncing to the disk, as the
cache does not sync either, and its rows get the same CRC-32, which is compared when they are read. onnx-ir must be
installed (pip install onnx-ir) and --model given; otherwise that comparison is left out. Seconds are of the processor.
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np

from trtpoets.train.feature_cache import FeatureCache

WIDTH = 1280
BLOCK = 512
REPETITIONS = 15


def main() -> None:
    """Print one line for each operation: seconds of both, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=50_000, help="number of rows in the cache")
    parser.add_argument("--model", type=Path, help="an ONNX file for the comparison with onnx-ir")
    options = parser.parse_args()
    compare_caches(options.photos)
    if options.model:
        compare_graphs(options.model.read_bytes())


def compare_caches(count: int) -> None:
    """Write and read `count` rows in a feature cache and in an SQLite database."""
    names = [hashlib.sha256(str(number).encode()).hexdigest() for number in range(count)]
    rows = np.random.default_rng(0).standard_normal((BLOCK, WIDTH), dtype=np.float32)
    with tempfile.TemporaryDirectory() as folder:
        cache, database = FeatureCache(Path(folder) / "cache", "key", WIDTH), Path(folder) / "database"
        report("write", seconds(lambda: fill_cache(cache, names, rows)), seconds(lambda: fill(database, names, rows)))
        for _ in range(2):
            report("read", seconds(lambda: read_cache(cache, names)), seconds(lambda: read(database, names)))
        size = sum(path.stat().st_size for path in cache.path.iterdir())
        features = count * WIDTH * 4
        print(f"size: {size / features:.3f} and {database.stat().st_size / features:.3f} of the features")


def fill_cache(cache: FeatureCache, names: list[str], rows: np.ndarray) -> None:
    """Append the rows of all names to a feature cache."""
    for block in blocks(names):
        cache.append(block, rows[: len(block)])


def read_cache(cache: FeatureCache, names: list[str]) -> None:
    """Read the rows of all names from a feature cache."""
    if not cache.fill(names, np.empty((len(names), WIDTH), np.float32)).all():
        raise RuntimeError("the cache lost rows")


def fill(database: Path, names: list[str], rows: np.ndarray) -> None:
    """Insert the rows of all names into an SQLite database."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=OFF")
        connection.execute("CREATE TABLE features (photo BLOB PRIMARY KEY, crc INTEGER, row BLOB)")
        for block in blocks(names):
            values = (
                (photo, zlib.crc32(row, zlib.crc32(photo)), row)
                for photo, row in zip(map(bytes.fromhex, block), (values.tobytes() for values in rows), strict=False)
            )
            connection.executemany("INSERT INTO features VALUES (?, ?, ?)", values)
            connection.commit()


def read(database: Path, names: list[str]) -> None:
    """Read the rows of all names from an SQLite database and compare their checksums."""
    rows = np.empty((len(names), WIDTH), np.float32)
    places = {bytes.fromhex(name): place for place, name in enumerate(names)}
    count = 0
    with closing(sqlite3.connect(database)) as connection:
        for photo, crc, row in connection.execute("SELECT photo, crc, row FROM features"):
            if photo in places and zlib.crc32(row, zlib.crc32(photo)) == crc:
                rows[places[photo]] = np.frombuffer(row, np.float32)
                count += 1
    if count != len(names):
        raise RuntimeError("the database lost rows")


def compare_graphs(content: bytes) -> None:
    """Look up the uses of all tensors of a network, and write the network again."""
    import onnx
    import onnx_ir

    from trtpoets.convert.graph.graph_view import GraphView

    model = onnx.load_from_string(content)
    graph = onnx_ir.serde.deserialize_model(model)
    report("uses", repeated(lambda: GraphView(model)), repeated(lambda: onnx_ir.serde.deserialize_model(model)))
    written = onnx_ir.serde.serialize_model(graph).SerializeToString()
    report(
        "written",
        repeated(model.SerializeToString),
        repeated(lambda: onnx_ir.serde.serialize_model(graph).SerializeToString()),
    )
    own = model.SerializeToString() == content
    print(f"unchanged file has the same bytes: {own} and {written == content} ({len(written) - len(content):+d} bytes)")


def blocks(names: list[str]) -> Iterator[list[str]]:
    """Yield the names in blocks."""
    for start in range(0, len(names), BLOCK):
        yield names[start : start + BLOCK]


def seconds(work: Callable[[], object]) -> float:
    """Return the processor seconds of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def repeated(work: Callable[[], object]) -> float:
    """Return the median processor seconds of a call."""
    work()
    return statistics.median(seconds(work) for _ in range(REPETITIONS))


def report(name: str, own: float, library: float) -> None:
    """Print one line."""
    print(f"{name}: {own * 1e3:.2f} ms, library {library * 1e3:.2f} ms ({library / own:.2f} times)")


if __name__ == "__main__":
    main()
