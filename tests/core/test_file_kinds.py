"""File kinds are detected from real first bytes of each kind, under misleading names."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import pickle
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.errors import raises
from trtpoets.core.errors import BadArtefact
from trtpoets.core.file_kinds import kind_of_content, kind_of_file, require_kind, ultralytics_metadata

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 13444571\n".format("ab" * 32)
METADATA = json.dumps({"description": "Ultralytics YOLO11n-cls", "names": {"0": "daisy"}}).encode()


def zipped(*names: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, name * 10)
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("net.onnx"), io.BytesIO(b""))
    return buffer.getvalue()


def npy() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def message(number: int, content: bytes) -> bytes:
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


NODE = message(1, message(1, b"Placeholder") + message(2, b"Placeholder") + message(5, b"dtype"))
KINDS = {
    "git-lfs-pointer": [POINTER.encode(), b"\n" + POINTER.encode()],
    "git-annex-pointer": [b"/annex/objects/SHA256E-s1--ab.onnx\n", b"../.git/annex/objects/x/y/SHA256E-s1--ab\n"],
    "dvc-pointer": [b"outs:\n- md5: 0cc175b9c0f1b6a831c399e269772661\n  size: 1\n  path: net.onnx\n"],
    "html": [
        b"<!DOCTYPE html><html><body>404</body></html>",
        b"\n\xef\xbb\xbf <HTML>",
        b"\xef\xbb\xbf<!-- x -->\n<html lang='fr'>caf\xe9",
        "<!doctype html>".encode("utf-16"),
        b'<?xml version="1.0"?>\n<!DOCTYPE html PUBLIC "-//W3C">',
    ],
    "xml-error": [b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code></Error>'],
    "openvino": [b'<?xml version="1.0"?>\n<net name="Model0" version="11">'],
    "svg": [b"<svg xmlns='http://www.w3.org/2000/svg'/>"],
    "empty": [b""],
    "zeros": [bytes(4096)],
    "gzip": [gzip.compress(b"net")],
    "xz": [lzma.compress(b"net")],
    "bzip2": [bz2.compress(b"net")],
    "zlib": [zlib.compress(b"\x08\x08" * 100), zlib.compress(b"net", 1), zlib.compress(b"net", 9)],
    "zstd": [b"\x28\xb5\x2f\xfd\x24\x01"],
    "zip": [zipped("a.txt"), zipped("photos/daisy/1.jpg")],
    "tar": [tarred()],
    "keras": [zipped("metadata.json", "config.json", "model.weights.h5")],
    "pytorch": [zipped("archive/data.pkl", "archive/version")],
    "torchscript": [zipped("net/data.pkl", "net/code/__torch__.py", "net/constants.pkl")],
    "npz": [zipped("a.npy", "b.npy")],
    "pytorch-pickle": [b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."],
    "pickle": [pickle.dumps({"a": 1}, protocol) for protocol in (2, 3, 4, 5)],
    "numpy": [npy()],
    "safetensors": [(15).to_bytes(8, "little") + b'{"__metadata__"'],
    "tflite": [b"\x1c\x00\x00\x00TFL3\x14\x00"],
    "ort": [b"\x30\x00\x00\x00ORTM\x00\x00"],
    "hdf5": [b"\x89HDF\r\n\x1a\n\x00\x00"],
    "engine": [b"ftrt" + bytes(60), b"vtrt" + bytes(60)],
    "ultralytics-engine": [len(METADATA).to_bytes(4, "little") + METADATA + b"ftrt" + bytes(60)],
    "calibration-cache": [b"TRT-101600-EntropyCalibration2\nphotos: 3c010a14\n"],
    "saved-model": [
        b"\x08\x01" + message(2, message(1, message(2, message(1, b"\x0a\x03Add")) + message(4, b"serve")))
    ],
    "coreml": [b"\x08\x04" + message(2, message(1, message(1, b"image"))), b"\x08\x01\x12\x09\x0a\x07\x0a\x05image"],
    "graph-def": [NODE, NODE * 3],
    "caffe": [message(1, name) + b"\xa2\x06\x10" + bytes(16) for name in (b"AlexNet", b"")],
    "onnx-tensor": [b"\x08\x01\x08\x03\x10\x01\x42\x01x\x4a\x04" + bytes(4)],
    "json": [b'{"a": 1}', b"[1, 2]", b"{}"],
    "tfjs": [b'{"format": "layers-model", "modelTopology": {}}'],
    "photo": [
        b"\xff\xd8\xff\xe0",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a",
        b"RIFF\x10\x00\x00\x00WEBPVP8 ",
        b"\0\0\0\x20ftypavif",
    ],
    "video": [b"\x00\x00\x00\x20ftypisom", b"\x1aE\xdf\xa3", b"RIFF\x10\x00\x00\x00AVI LIST"],
    "elf": [b"\x7fELF\x02"],
    "text": [b"daisy\ntulips\n", b"x^2 is a square"],
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_are_recognised_by_their_first_bytes(name: str, tmp_path: Path) -> None:
    for number, content in enumerate(KINDS[name]):
        kind = kind_of_content(content[:4096])
        assert kind is not None
        assert (kind.name, bool(kind.words), bool(kind.remedy)) == (name, True, True), number
        path = tmp_path / f"{number}.onnx"
        path.write_bytes(content)
        assert kind_of_file(path) == kind


@pytest.mark.parametrize("content", [b"\x01\x02\x03", b"\xff" * 64, b"\x08", bytes(5)])
def test_unknown_content_is_of_no_kind(content: bytes) -> None:
    assert kind_of_content(content) is None


def test_hdf5_of_keras_is_recognised_by_its_configuration(tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(10_000) + b"model_config" + bytes(100))
    kind = kind_of_file(path)
    assert kind is not None
    assert kind.name == "keras-h5"


def test_a_zip_is_recognised_by_the_names_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "net.zip"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("net/version", bytes(20_000))
        archive.writestr("net/data.pkl", b"x")
    path.write_bytes(buffer.getvalue())
    kind = kind_of_file(path)
    assert kind is not None
    assert kind.name == "pytorch"


def test_remedies_name_the_file_quoted(tmp_path: Path) -> None:
    folder = tmp_path / "my nets"
    folder.mkdir()
    path = folder / "net 1.onnx.gz"
    path.write_bytes(gzip.compress(b"net"))
    with raises(BadArtefact, "TP1011", "an ONNX file", "compressed with gzip") as caught:
        require_kind(path, "onnx", expected="an ONNX file")
    subprocess.run(caught.value.hint, shell=True, check=True)
    assert (folder / "net 1.onnx").read_bytes() == b"net"
    path.write_text(POINTER)
    with raises(BadArtefact, "TP1011", "Git LFS pointer") as caught:
        require_kind(path, "onnx", expected="an ONNX file")
    assert caught.value.hint == f"cd '{folder}' && git lfs pull"


def test_the_remedy_for_zlib_unpacks(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx.gz"
    path.write_bytes(zlib.compress(b"net"))
    kind = kind_of_file(path)
    assert kind is not None
    subprocess.run(kind.remedy_for(path), shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "unpacked").read_bytes() == b"net"


def test_what_is_expected_or_unknown_passes(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    require_kind(path, "onnx", expected="an ONNX file")
    path.write_bytes(b"\x01\x02\x03")
    require_kind(path, "onnx", expected="an ONNX file")


@given(st.binary(max_size=300))
def test_any_bytes_are_accepted(content: bytes) -> None:
    kind_of_content(content)
    kind_of_content(b"\x08\x01\x12" + content)
    kind_of_content(b"\x0a" + content)


@given(st.binary(max_size=40))
def test_metadata_of_ultralytics_begins_with_its_length(content: bytes) -> None:
    result = ultralytics_metadata(content)
    assert result is None or result[0] == 4 + int.from_bytes(content[:4], "little")


def test_the_torchscript_line_suits_old_and_new_versions_of_torch(tmp_path: Path) -> None:
    # torch 2.14 refuses TorchScript without dynamo=False; torch 2.4 has no such parameter. Fakes stand for both.
    script = tmp_path / "net script.pt"
    script.write_bytes(zipped("net/data.pkl", "net/code/__torch__.py", "net/constants.pkl"))
    kind = kind_of_file(script)
    assert kind is not None
    line = kind.remedy_for(script).removeprefix("export it to ONNX: ").partition(", with the size of its photos")[0]
    fake = (
        "import types\n"
        "zeros = lambda *shape: shape\n"
        "jit = types.SimpleNamespace(load=lambda path: types.SimpleNamespace(eval=lambda: path))\n"
        "def export(net, args, file, opset_version{more}):\n"
        "    open(file, 'w').write(f'{{net}} {last}')\n"
        "onnx = types.SimpleNamespace(export=export)\n"
    )
    for more, last, expected in ((", dynamo=True", "{dynamo}", "False"), ("", "old", "old")):
        (tmp_path / "torch.py").write_text(fake.format(more=more, last=last))
        subprocess.run(["bash", "-c", line.replace("python3", sys.executable, 1)], check=True, cwd=tmp_path)
        assert (tmp_path / "net.onnx").read_text() == f"{script} {expected}"
