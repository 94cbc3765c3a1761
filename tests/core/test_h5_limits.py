"""Weight files that stand for more than they hold are refused before their numbers are read."""

from __future__ import annotations

import io
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtpoets.core.h5_limits import h5_in_keras, require_small_arrays

h5py = pytest.importorskip("h5py")

LIMIT = 32 << 20


def h5(fill: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream.getvalue()


def keras(content: bytes, name: str = "model.weights.h5") -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(name, content)
    return stream.getvalue()


def nested(file: Any) -> None:
    file.create_group("a").create_group("b").create_dataset("c", data=np.ones(100, "f4"))
    file["again"] = file["a/b"]
    file["a/loop"] = file["a"]
    file["soft"] = h5py.SoftLink("/a/b/c")
    file["none"] = h5py.Empty("f4")


BAD = {
    "a shape without numbers": lambda file: file.create_dataset("a", (10**6, 10**5), "f4"),
    "a compressed array": lambda file: file.create_dataset(
        "a", (1 << 24,), "f4", chunks=(1 << 20,), compression="gzip", fillvalue=1
    ),
    "a chunk larger than its array": lambda file: file.create_dataset(
        "a", (1,), "f4", maxshape=(None,), chunks=(1 << 24,)
    ),
    "many arrays": lambda file: [file.create_dataset(f"{n}", (1 << 20,), "f4") for n in range(9)],
    "numbers in another file": lambda file: file.create_dataset(
        "a", (10,), "f4", external=[("/dev/zero", 0, h5py.h5f.UNLIMITED)]
    ),
    "a link to another file": lambda file: file.__setitem__("a", h5py.ExternalLink("/tmp/other.h5", "/a")),
    "a virtual array": lambda file: file.create_virtual_dataset("a", h5py.VirtualLayout((10,), "f4"), fillvalue=0),
}


@pytest.mark.parametrize("name", BAD)
def test_hdf5_that_stands_for_more(name: str) -> None:
    content = h5(BAD[name])
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"MB|another file"):
            require_small_arrays(content, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_hdf5_that_is_modest() -> None:
    require_small_arrays(h5(nested), LIMIT)


def test_a_zip_bomb_is_not_unpacked() -> None:
    content = keras(bytes(LIMIT + 1))
    assert len(content) < 1 << 20
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="unpacks to 34 MB"):
            h5_in_keras(content, LIMIT)
        # A size in the archive's list that is too small: what comes out is counted, or does not match its checksum.
        lying = content.replace((LIMIT + 1).to_bytes(4, "little"), (100).to_bytes(4, "little"))
        with pytest.raises((ValueError, zipfile.BadZipFile)):
            h5_in_keras(lying, LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 3 * LIMIT
    finally:
        tracemalloc.stop()
    assert h5_in_keras(keras(b"weights"), LIMIT) == b"weights"
    with pytest.raises(ValueError, match=r"does not contain model\.weights\.h5"):
        h5_in_keras(keras(b"weights", "config.json"), LIMIT)


def test_a_weight_file_is_refused_in_little_memory(tmp_path: Path) -> None:
    """As `--weights` reads it, in a process that may not take more."""
    path = tmp_path / "bomb.keras"
    path.write_bytes(keras(bytes(200 << 20)))
    code = f"""
import resource, sys
from pathlib import Path
from trtpoets.core.errors import BadInput
from trtpoets.train.backbones import backbone_named
from trtpoets.train.weight_files import load_weights
here = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (here + (100 << 20),) * 2)
try:
    load_weights(Path({str(path)!r}), backbone_named("mobilenet_0.25_128"), [])
except BadInput as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "unpacks to 210 MB, but weights of this network have at most" in done.stdout
