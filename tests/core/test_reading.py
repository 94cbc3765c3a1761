"""Paths that are not regular files, and endless files, are refused by every reader without blocking."""

from __future__ import annotations

import ast
import json
import os
import socket
import struct
import subprocess
import sys
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.support.errors import raises
from tests.support.sources import nodes_of
from tests.support.tiny import tiny_spec
from trtpoets.adoption.tensorflow import description
from trtpoets.convert.int8.tensorrt_cache import read_cache
from trtpoets.core.errors import BadArtefact, BadInput, BadPhoto, MissingArtefact, TrtPoetsError
from trtpoets.core.file_kinds import FileKind, kind_of_file
from trtpoets.core.files import read_json, sha256_of_file
from trtpoets.core.images import photo_to_array
from trtpoets.core.onnx_external import sha256_of_onnx
from trtpoets.core.onnx_file import check_onnx, open_session
from trtpoets.core.onnx_load import load_self_contained
from trtpoets.core.reading import NotReadable, open_regular, read_bytes, read_errors, read_start
from trtpoets.core.tflite_file import read_tflite
from trtpoets.core.types import ModelSpec
from trtpoets.core.workspace import read_card
from trtpoets.device.build.foreign_engine import engine_from_file
from trtpoets.device.build.plan_header import read_plan_header
from trtpoets.judge.bench.benchmark_file import read_benchmark
from trtpoets.judge.golden import read_golden
from trtpoets.onboard.classify.sources import source_of
from trtpoets.onboard.installed_bundle import open_bundle
from trtpoets.pipeline import inspect_foreign, photo_arguments
from trtpoets.train.backbones import backbone_named
from trtpoets.train.downloaded_weights import weights_id
from trtpoets.train.folders import label_files
from trtpoets.train.folders.label_files import read_rows
from trtpoets.train.folders.layout import LabelledFile
from trtpoets.train.folders.photo_files import checked_files
from trtpoets.train.weight_files import load_weights

SMALL = backbone_named("mobilenet_0.25_128")


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """A pipe without a writer: opening it in the common way waits without end."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


ENTRANCES: dict[str, Callable[[Path], Any]] = {
    "open": open_regular,
    "bytes": read_bytes,
    "start": lambda path: read_start(path, 1),
    "json": read_json,
    "hash": sha256_of_file,
    "kind": kind_of_file,
    "photo": lambda path: photo_to_array(path, tiny_spec().preprocess),
    "labels": read_rows,
    "onnx": check_onnx,
    "onnx, whole": load_self_contained,
    "onnx, identity": sha256_of_onnx,
    "session": open_session,
    "tflite": read_tflite,
    "card": read_card,
    "calibration cache": read_cache,
    "engine": lambda path: engine_from_file(path, trust=True),
    "engine's header": read_plan_header,
    "benchmark": read_benchmark,
    "golden": lambda path: read_golden(path.parent),
    "bundle": lambda path: open_bundle(path.parent),
    "inspect": trtpoets.inspect,
    "label": lambda path: trtpoets.label(str(path), ["x.png"]),
    "build": lambda path: trtpoets.build(str(path)),
    "retrain": lambda path: trtpoets.retrain(path, "x", engines=path.parent / "engines"),
    "weights": lambda path: load_weights(path, SMALL, []),
    "weights, identity": lambda path: weights_id(SMALL, path),
}


@pytest.mark.parametrize("name", ENTRANCES)
@pytest.mark.parametrize("what", ["fifo", "/dev/zero", "/dev/tty", "socket"])
def test_other_than_regular_files_are_refused_immediately(
    name: str, what: str, fifo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = fifo
    if what == "socket":
        path = tmp_path / "socket"
        socket.socket(socket.AF_UNIX).bind("socket")
    elif what != "fifo":
        path = tmp_path / "link"
        path.symlink_to(what)
    for other in ("golden.json", "manifest.json"):
        (tmp_path / other).symlink_to(path)
    try:
        with pytest.raises(TrtPoetsError) as caught:
            ENTRANCES[name](path)
    except OSError as error:  # /dev/tty of a process without a terminal
        assert what == "/dev/tty", error
        return
    assert caught.value.hint


def test_an_interruption_while_a_file_is_opened_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photo.png").write_bytes(b"content")
    fdopen = os.fdopen

    def interrupted(handle: int, mode: str) -> None:
        fdopen(handle, mode).close()
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fdopen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_regular(tmp_path / "photo.png")


def test_a_photo_that_is_not_a_regular_file(fifo: Path, tmp_path: Path) -> None:
    (checked,) = checked_files([LabelledFile(fifo, "ant")], lambda *_: None)
    assert checked.reason == "is not a regular file"
    with raises(BadPhoto, "TP1015", "fifo is a FIFO"):
        photo_to_array(fifo, tiny_spec().preprocess)
    with pytest.raises(BadInput):
        source_of(str(fifo))
    (tmp_path / "folder.jpg").mkdir()
    with raises(BadPhoto, "TP1016", "Is a directory"):
        photo_to_array(tmp_path / "folder.jpg", tiny_spec().preprocess)


def test_a_file_that_cannot_be_read_is_an_error_of_the_given_class(tmp_path: Path) -> None:
    folder, absent = tmp_path / "folder", tmp_path / "absent"
    folder.mkdir()
    missing = MissingArtefact("absent", hint="create it", code="TP0001")
    for path, expected in ((folder, "Is a directory"), (absent, "No such file or directory")):
        refused = raises(BadArtefact, "TP0002", path, expected)
        with refused as caught, read_errors(BadArtefact, path, hint="copy it again", code="TP0002"):
            read_bytes(path)
        assert caught.value.hint == "copy it again"
    with pytest.raises(MissingArtefact) as raised, read_errors(BadInput, absent, hint="", code="", missing=missing):
        read_bytes(absent)
    assert raised.value is missing
    with pytest.raises(BadInput), read_errors(BadInput, folder, hint="", code="", missing=missing):
        read_bytes(folder)


def test_standard_input_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_arguments, "MAX_BYTES", 40 << 20)
    tracemalloc.start()
    try:
        with Path("/dev/zero").open("rb") as stream:
            (photo,) = photo_arguments.photos_from_arguments(["-"], stdin=stream)
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()
    assert photo.problem is not None
    assert "it is neither a photo nor a list of at most 16 MiB" in photo.problem.message


def test_files_without_a_size_and_files_that_are_too_large(tmp_path: Path) -> None:
    assert read_bytes(Path("/proc/self/status")).startswith(b"Name:")
    with raises(NotReadable, "TP1954", "10 bytes"):
        read_bytes(Path("/proc/self/status"), 10)
    path = tmp_path / "sparse.json"
    with path.open("wb") as stream:
        stream.truncate(1 << 40)
    for read, code in (
        (read_bytes, "TP1954"),
        (read_json, "TP1954"),
        (sha256_of_file, "TP1954"),
        (read_rows, "TP1954"),
        (trtpoets.inspect, "TP1954"),
    ):
        with raises(TrtPoetsError, code, path):
            read(path)
    path.write_bytes(b"")
    assert read_bytes(path) == b""
    path.write_bytes(b"12345")
    assert (read_bytes(path, 5), read_start(path, 2)) == (b"12345", b"12")


GOLDEN_PHOTO = {"file": "0.bmp", "label": "ant", "sha256": "0" * 64, "source": "0" * 64}


@pytest.mark.parametrize("side", [10**7, 0, -1, 1.5, "16", True, None])
def test_sides_that_no_network_has(side: Any, tmp_path: Path) -> None:
    spec = json.loads(tiny_spec().to_json())
    spec["preprocess"]["height"] = side
    with raises(BadArtefact, "TP1094", "model.json", "height", f"{side!r}"):
        ModelSpec.from_json(json.dumps(spec), "model.json")
    golden = {"format": 1, "height": side, "width": 16, "photos": [GOLDEN_PHOTO], "expected": {}}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    with raises(BadArtefact, "TP5044", tmp_path / "golden.json", "height", f"{side!r}"):
        read_golden(tmp_path)


def test_golden_photos_are_of_the_models_size(tmp_path: Path) -> None:
    golden = {"format": 1, "height": 4096, "width": 4096, "photos": [GOLDEN_PHOTO], "expected": {}}
    (tmp_path / "golden.json").write_text(json.dumps(golden))
    with raises(BadArtefact, "TP5044", "4096 x 4096"):
        read_golden(tmp_path, tiny_spec())


def test_tables_that_stand_for_more_cells_than_they_have(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_files, "MAX_CELLS", 100_000)
    wide, lines = tmp_path / "wide.csv", tmp_path / "many.jsonl"
    wide.write_text("," * 1000 + "a\n" + "x\n" * 1000)
    lines.write_text("\n".join(json.dumps({f"key{n}": n}) for n in range(1000)))
    with raises(BadInput, "TP2039", wide, "1,001 columns", "100,000 cells"):
        read_rows(wide)
    with raises(BadInput, "TP2039", lines, "columns", "100,000 cells"):
        read_rows(lines)
    lines.write_text('{"a": "x\\u2028y"}\n\n{"b": 1}\n')
    assert read_rows(lines) == (["a", "b"], [["x\u2028y", ""], ["", "1"]])


def test_archives_and_graphs_that_list_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inspect_foreign, "_LONGEST", 1 << 16)
    monkeypatch.setattr(description, "_MAX_NODES", 1000)
    path = tmp_path / "many.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(1500):
            archive.writestr(f"{number}.txt", "")
    assert "list of files is larger than" in str(trtpoets.inspect(path).facts)
    path = tmp_path / "graph.pb"
    node = b"\x0a\x07" + b"\x0a\x01a" + b"\x12\x02Op"
    path.write_bytes(node * 1001)
    details = inspect_foreign.facts_of_other(path, FileKind("graph-def", "a graph", ""))
    assert "more than 1,000 nodes" in str(details)


def test_a_header_of_safetensors_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 29) + b'{"a":')
    tracemalloc.start()
    try:
        assert "a header of" in str(trtpoets.inspect(path).facts)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_the_program_does_not_wait(fifo: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trtpoets", "inspect", str(fifo)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: {fifo} is a FIFO") and " [TP1953]\n" in done.stderr


OWN_FILES = {
    *(
        "core/child_process.py",
        "core/reading.py",
        "core/system_files.py",
        "core/streams.py",
        "train/feature_cache.py",
        "train/weights/__init__.py",
        "tools/convert_weights.py",
    ),
    *(
        "pipeline/demo.py",
        "pipeline/bundle.py",
        "judge/bench/cpu_contention.py",
        "judge/bench/bench_child.py",
        "judge/bench/loadgen.py",
    ),
    *("device/build/build_process.py",),
    "onboard/files/check.py",
}
"""Modules that read only files of the system, of the package, or that they wrote themselves; and a program that runs
alone, before anything of a bundle does, and reads regular files only.
"""


def test_files_of_others_are_opened_in_one_place() -> None:
    package = Path(trtpoets.__file__).parent
    for part in ("core", "train", "convert", "device", "judge", "onboard", "pipeline"):
        for path in sorted((package / part).rglob("*.py")):
            if path.relative_to(package).as_posix() in OWN_FILES:
                continue
            for node in nodes_of(path):
                if isinstance(node, ast.Call):
                    called = ast.unparse(node.func).rpartition(".")[2]
                    modes = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                    reads = called in ("read_bytes", "read_text") and isinstance(node.func, ast.Attribute)
                    reads |= called == "open" and ast.unparse(node.func) != "os.open" and "r" in "".join(modes or "r")
                    reads &= not ast.unparse(node.func).startswith(("webbrowser.", "tarfile.", "archive."))
                    reads &= not any("w" in mode or "a" in mode for mode in modes)
                    assert not reads, f"{path}:{node.lineno}: open it by core/reading.py"
