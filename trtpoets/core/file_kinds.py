"""What a file is, told from its first bytes: one answer for every command that takes a file.

Only bytes are read here; nothing is parsed whole, unpacked or run. Names and suffixes decide nothing.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import BadArtefact
from trtpoets.core.file_signatures import AFTER, BRANDS, SIGNATURES, ZIP_MARKS
from trtpoets.core.protobuf_kinds import protobuf_kind
from trtpoets.core.reading import open_regular
from trtpoets.core.shell_commands import quote

START = 4096
"""How many first bytes `described_content` wants. Fewer are enough for most kinds."""

STAND_INS = ("git-lfs-pointer", "git-annex-pointer", "dvc-pointer", "html", "xml-error", "empty", "zeros")
"""Kinds that lie where another file should be."""

_SCANNED = 64 << 20
"""How much of a file is searched for the word that makes an HDF5 file one of Keras."""

_LARGEST_PREFIX = 1 << 24
"""No metadata that Ultralytics writes before an engine is larger, in bytes."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    `name` is for code ("git-lfs-pointer"), `words` continue the sentence "FILE is ...", and `remedy` says what to do
    when another kind was expected; in it FILE and FOLDER stand for the file and its folder.
    """

    name: str
    words: str
    remedy: str

    def remedy_for(self, path: Path) -> str:
        """The remedy with the file's path in it, quoted for a shell."""
        names = {"FILE": quote(path), "FOLDER": quote(path.parent)}
        return re.sub(r"\b(FILE|FOLDER)\b", lambda found: names[found.group()], self.remedy)


_CONVERT = "export the network to ONNX with the framework that wrote it"
_OTHER_FILE = "give the file that is meant: trtpoets inspect FILE describes any file"
_AGAIN = "make it again, or copy it again"
_DOWNLOAD = "download the file itself: the server sent a web page instead"

_UNZLIB = (
    'python3 -c "import sys, zlib; sys.stdout.buffer.write(zlib.decompress(sys.stdin.buffer.read()))" < FILE > unpacked'
)

_KINDS = {
    "git-lfs-pointer": ("a Git LFS pointer, not the file itself", "cd FOLDER && git lfs pull"),
    "git-annex-pointer": ("a git-annex pointer, not the file itself", "git -C FOLDER annex get ."),
    "dvc-pointer": ("a DVC pointer, not the file itself", "cd FOLDER && dvc pull"),
    "html": ("an HTML page, not the file itself: a failed download", _DOWNLOAD),
    "xml-error": ("a server's error message in XML, not the file itself: a failed download", _DOWNLOAD),
    "empty": ("empty", _AGAIN),
    "zeros": ("nothing but zeros: an interrupted copy or download", "copy or download it again"),
    "gzip": ("compressed with gzip", "gunzip --keep FILE"),
    "xz": ("compressed with xz", "xz --decompress --keep FILE"),
    "zstd": ("compressed with zstd", "zstd --decompress FILE"),
    "bzip2": ("compressed with bzip2", "bunzip2 --keep FILE"),
    "lz4": ("compressed with lz4", "lz4 --decompress --keep FILE"),
    "zlib": ("compressed with zlib (gzip's format without its header)", _UNZLIB),
    "zip": ("a zip archive", "unzip FILE, and give the file in it"),
    "7z": ("a 7z archive", "7z x FILE, and give the file in it"),
    "rar": ("a RAR archive", "unrar x FILE, and give the file in it"),
    "tar": ("a tar archive", "tar -xf FILE, and give the file in it"),
    "engine": ("an engine of TensorRT or TensorRT-RTX", "label photos with it: trtpoets label FILE PHOTO..."),
    "ultralytics-engine": (
        "an engine with Ultralytics' JSON metadata before it, which TensorRT can't load as it is",
        "see its metadata, and how to cut it off: trtpoets inspect FILE",
    ),
    "onnx": ("an ONNX file", "build it: trtpoets build FILE"),
    "onnx-tensor": ("a tensor in ONNX's format (TensorProto), not a network", _OTHER_FILE),
    "ort": ("a network in ONNX Runtime's own format (ORT)", "give the ONNX file that it was made from"),
    "tflite": ("a TFLite file", "see what is in it: trtpoets inspect FILE"),
    "calibration-cache": ("a calibration cache of TensorRT", "see what is in it: trtpoets inspect FILE"),
    "saved-model": (
        "a TensorFlow SavedModel (its protobuf)",
        "convert it to ONNX: python -m tf2onnx.convert --saved-model FOLDER --output net.onnx",
    ),
    "graph-def": (
        "a TensorFlow graph (GraphDef protobuf, as frozen graphs are)",
        "convert it to ONNX: python -m tf2onnx.convert --graphdef FILE --output net.onnx --inputs IN:0 --outputs OUT:0",
    ),
    "keras": ("a Keras file (.keras)", "trtpoets trains its own classifier from photos: trtpoets run PHOTOS"),
    "keras-h5": ("a Keras file (HDF5)", "trtpoets trains its own classifier from photos: trtpoets run PHOTOS"),
    "hdf5": ("an HDF5 file", _OTHER_FILE),
    "pytorch": ("a PyTorch file (zip of pickles)", "export it to ONNX in PyTorch: torch.onnx.export"),
    "torchscript": ("a TorchScript file", "export it to ONNX in PyTorch: torch.onnx.export"),
    "pytorch-pickle": (
        "a PyTorch file (pickle)",
        "export it to ONNX in PyTorch: torch.onnx.export",
    ),
    "pickle": ("a Python pickle, which may run code when it is opened", _CONVERT),
    "safetensors": ("weights in the safetensors format, without a network", _CONVERT),
    "gguf": ("weights of a language model (GGUF)", _OTHER_FILE),
    "numpy": ("a NumPy array (.npy)", _OTHER_FILE),
    "npz": ("NumPy arrays (.npz)", _OTHER_FILE),
    "openvino": ("a network of OpenVINO (IR in XML)", "give the ONNX file that it was made from"),
    "coreml": ("a Core ML model", "give the ONNX file that it was made from, or export it again"),
    "caffe": ("a Caffe model", "convert it to ONNX"),
    "tfjs": ("a network of TensorFlow.js", _CONVERT),
    "ncnn": ("a network of ncnn", "give the ONNX file that it was made from"),
    "rknn": ("a network for Rockchip's NPU (RKNN)", "give the ONNX file that it was made from"),
    "json": ("JSON", "see what is in it: trtpoets inspect FILE"),
    "xml": ("XML", _OTHER_FILE),
    "svg": ("an SVG drawing", "convert it to PNG"),
    "photo": ("a photo", "name photos where photos are expected: trtpoets label NAME FILE"),
    "video": ("a video", "take its frames as photos: ffmpeg -i FILE frame_%06d.jpg"),
    "audio": ("a sound file", _OTHER_FILE),
    "pdf": ("a PDF document", _OTHER_FILE),
    "elf": ("a program or library (ELF)", _OTHER_FILE),
    "windows-program": ("a program or library of Windows", _OTHER_FILE),
    "sqlite": ("an SQLite database", _OTHER_FILE),
    "script": ("a script", _OTHER_FILE),
    "text": ("text", _OTHER_FILE),
}


def kind_named(name: str) -> FileKind:
    """The kind of that name. Raises KeyError."""
    return FileKind(name, *_KINDS[name])


def described_content(start: bytes) -> FileKind | None:
    """What a file is that begins with `start`: its first START bytes, or all of it. None: of no known kind."""
    name = _name(start)
    return None if name is None else kind_named(name)


def kind_of_file(path: Path) -> FileKind | None:
    """What the file at `path` is; None: of no known kind. Raises NotReadable for what is no regular file, OSError."""
    with open_regular(path) as stream:
        start = stream.read(START)
        name = _name(start)
        if name == "hdf5":
            rest = stream.read(_SCANNED)
            name = "keras-h5" if any(word in start + rest for word in (b"model_config", b"keras_version")) else name
        elif name == "zip":
            # The list of an archive's files is at its end.
            stream.seek(-min(stream.seek(0, 2), 64 << 10), 2)
            name = _zip_kind(start + stream.read()) or name
    return None if name is None else kind_named(name)


def require_kind(path: Path, *names: str, expected: str, unknown: bool = True) -> None:
    """Raise BadArtefact when the file is known to be of another kind than `names`; `expected` is "an ONNX file".

    A file of no known kind passes where `unknown` is true: whoever reads it says what is wrong with it. So does one
    that can't be read.
    """
    try:
        kind = kind_of_file(path)
    except OSError:
        return
    if kind is None and unknown:
        return
    if kind is None:
        raise BadArtefact(
            f"{path} is not {expected}, nor any other kind of file that is known here", hint=_OTHER_FILE, code="TP1010"
        )
    if kind.name not in names:
        raise other_kind(path, kind, expected)


def other_kind(path: Path, kind: FileKind, expected: str) -> BadArtefact:
    """The error for a file that is of another kind than was expected."""
    return BadArtefact(f"{path} is not {expected}: it is {kind.words}", hint=kind.remedy_for(path), code="TP1011")


def ultralytics_metadata(start: bytes) -> tuple[int, bytes] | None:
    """Where the engine begins behind Ultralytics' metadata, and as much of the JSON text as `start` has; else None."""
    if len(start) < 6:
        return None
    (length,) = struct.unpack_from("<I", start)
    if not 2 <= length <= _LARGEST_PREFIX or not re.match(rb"\{\s*[\"}]", start[4:36]):
        return None
    text = start[4 : 4 + length]
    if len(text) == length and not text.rstrip().endswith(b"}"):
        return None
    return 4 + length, text


def _name(start: bytes) -> str | None:
    if not start:
        return "empty"
    if not any(start):
        return "zeros" if len(start) >= 16 else None
    for name in (*_by_signature(start), _text_kind(start), protobuf_kind(start)):
        if name:
            return name
    return None


def _by_signature(start: bytes) -> Iterator[str | None]:
    for signature, name in SIGNATURES:
        if start.startswith(signature):
            yield (_zip_kind(start) or name) if name == "zip" else name
    for offset, signature, name in AFTER:
        if start[offset : offset + len(signature)] == signature:
            yield name
    if start[4:8] == b"ftyp":
        yield BRANDS.get(start[8:12], "video")
    if start[:4] == b"RIFF":
        yield {b"WEBP": "photo", b"AVI ": "video", b"WAVE": "audio"}.get(start[8:12])
    if start[:2] == b"BM" and start[6:10] == bytes(4):
        yield "photo"
    if len(start) > 8 and start[8:9] == b"{" and 2 <= struct.unpack_from("<Q", start)[0] <= 1 << 30:
        yield "safetensors"
    if ultralytics_metadata(start):
        yield "ultralytics-engine"
    if start[:1] == b"\x80" and 2 <= start[1] <= 5 if len(start) > 2 else False:
        yield "pytorch-pickle" if start[2:4] == b"\x8a\x0a" else "pickle"
    # zlib's header is two bytes: text that begins with the same two is no stream of it.
    if start[:2] in (b"x\x01", b"x\x9c", b"x\xda") or (start[:2] == b"x^" and not _is_text(start)):
        yield "zlib"


def _zip_kind(content: bytes) -> str | None:
    """The kind of a zip by the names of the files in it, as far as `content` has them."""
    for marks, name in ZIP_MARKS:
        if all(mark in content for mark in marks):
            return name
    return None


_TEXTS = tuple(
    (re.compile(pattern, re.IGNORECASE | re.DOTALL), name)
    for pattern, name in (
        (rb"version https?://(git-lfs\.github\.com|hawser\.github\.com|git-media\.io)/", "git-lfs-pointer"),
        (rb"(/|\.git/|\.\./)[^\n]*annex/objects/", "git-annex-pointer"),
        (rb"(md5: [0-9a-f]{32}|outs:\s*\n\s*- ?(md5|etag|checksum|hash|size|path): ?)", "dvc-pointer"),
        (rb"(<!--.*?-->\s*|<\?xml[^>]*\?>\s*)*<(!doctype\s+html|html|head|body|title|meta|script)\b", "html"),
        (rb"(<\?xml[^>]*\?>\s*)?<(Error|ListBucketResult)\b", "xml-error"),
        (rb"(<\?xml[^>]*\?>\s*)?<net\s", "openvino"),
        (rb"(<\?xml[^>]*\?>\s*|<!--.*?-->\s*|<!DOCTYPE[^>]*>\s*)*<svg\b", "svg"),
        (rb"<\?xml\s", "xml"),
        (rb"\{.*\"modelTopology\"", "tfjs"),
        (rb"[{\[]\s*[\"\[{\]}0-9-]", "json"),
        (rb"7767517\n", "ncnn"),
        (rb"#!", "script"),
        (rb".{4}", "text"),
    )
)
"""How texts begin, after white space, and the names of their kinds."""

_HTML = next(pattern for pattern, name in _TEXTS if name == "html")


def _text_kind(start: bytes) -> str | None:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):  # as PowerShell writes what a program prints
        start = start.decode("utf-16", "ignore").encode()
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")  # white space and marks of UTF-8
    if not _is_text(text):
        # A page may be in any encoding, but has no zeros.
        text = text if _HTML.match(text) and 0 not in text else b""
    return next((name for pattern, name in _TEXTS if pattern.match(text)), None)


def _is_text(content: bytes) -> bool:
    """Whether these bytes are UTF-8 without control characters; a character cut off at the end is fine."""
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", content):
        return False
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True
