"""Detects the kind of a file from its first bytes; every command that takes a file uses it.

Only bytes are compared: nothing is parsed completely, unpacked or run. File names and suffixes are ignored.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator

from trtpoets.core.errors import BadArtefact
from trtpoets.core.file_signatures import ISO_BRANDS, OFFSET_SIGNATURES, SIGNATURES, ZIP_CONTENTS
from trtpoets.core.protobuf_kinds import protobuf_kind
from trtpoets.core.reading import open_regular
from trtpoets.core.shell_commands import quote

START = 4096
"""Number of bytes to pass to `kind_of_content`. Fewer are enough for most kinds."""

PLACEHOLDER_KINDS = ("git-lfs-pointer", "git-annex-pointer", "dvc-pointer", "html", "xml-error", "empty", "zeros")
"""Kinds that are found in place of the intended file, such as pointer files and error pages."""

_SCANNED = 64 << 20
"""Bytes of an HDF5 file that are searched for the attribute names that Keras writes."""

_LARGEST_PREFIX = 1 << 24
"""Largest size in bytes of the metadata that Ultralytics writes before an engine."""


@dataclass(frozen=True)
class FileKind:
    """A kind of file.

    `name` identifies it in code ("git-lfs-pointer"), `words` completes "FILE is ...", and `remedy` says what to do
    if another kind was expected, with the placeholders FILE and FOLDER for the file and its folder.
    """

    name: str
    words: str
    remedy: str

    def remedy_for(self, path: Path) -> str:
        """The remedy with the file's path filled in, quoted for a shell."""
        names = {"FILE": quote(path), "FOLDER": quote(path.parent)}
        return re.sub(r"\b(FILE|FOLDER)\b", lambda match: names[match.group()], self.remedy)


_ADOPT = "make a run of it: trtpoets adopt FILE --name NAME"
_TORCH = (
    "such a file contains weights and runs code when it is opened; export the network to ONNX in the program that "
    "defines it: net.eval(); torch.onnx.export(net, torch.zeros(1, 3, 224, 224), 'net.onnx', opset_version=18), with "
    "the size of its photos in place of 224; then: trtpoets adopt net.onnx --name NAME"
)
# From torch 2.9 on, torch.onnx.export refuses TorchScript unless `dynamo` is False; old versions lack that parameter.
_TORCHSCRIPT = (
    'export it to ONNX: python3 -c "import inspect, sys, torch; export = torch.onnx.export; '
    "older = {'dynamo': False} if 'dynamo' in inspect.signature(export).parameters else {}; "
    "export(torch.jit.load(sys.argv[1]).eval(), torch.zeros(1, 3, 224, 224), 'net.onnx', opset_version=17, **older)\" "
    "FILE, with the size of its photos in place of 224; then: trtpoets adopt net.onnx --name NAME"
)
_CONVERT = "export the network to ONNX with the framework that wrote it"
_OTHER_FILE = "check that this is the intended file; to describe any file: trtpoets inspect FILE"
_REDO_HINT = "create it again, or copy it again"
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
    "empty": ("empty", _REDO_HINT),
    "zeros": ("filled with zero bytes: an interrupted copy or download", "copy or download it again"),
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
        "an engine preceded by Ultralytics' JSON metadata, which TensorRT can't load",
        "show the metadata and how to remove it: trtpoets inspect FILE",
    ),
    "onnx": ("an ONNX file", _ADOPT),
    "onnx-tensor": ("an ONNX tensor (TensorProto), not a network", _OTHER_FILE),
    "ort": ("a network in ONNX Runtime's own format (ORT)", "give the ONNX file that it was converted from"),
    "tflite": ("a TFLite file", _ADOPT),
    "calibration-cache": ("a TensorRT calibration cache", "show its content: trtpoets inspect FILE"),
    "saved-model": ("a TensorFlow SavedModel (its protobuf)", "make a run of it: trtpoets adopt FOLDER --name NAME"),
    "graph-def": ("a TensorFlow graph (GraphDef protobuf, as frozen graphs are)", _ADOPT),
    "keras": ("a Keras file (.keras)", _ADOPT),
    "keras-h5": ("a Keras file (HDF5)", _ADOPT),
    "hdf5": ("an HDF5 file", _OTHER_FILE),
    "pytorch": ("a PyTorch file (zip of pickles)", _TORCH),
    "torchscript": ("a TorchScript file", _TORCHSCRIPT),
    "pytorch-pickle": ("a PyTorch file (pickle)", _TORCH),
    "pickle": ("a Python pickle, which may run code when it is opened", _CONVERT),
    "safetensors": ("weights in the safetensors format, without a network", _CONVERT),
    "gguf": ("weights of a language model (GGUF)", _OTHER_FILE),
    "numpy": ("a NumPy array (.npy)", _OTHER_FILE),
    "npz": ("NumPy arrays (.npz)", _OTHER_FILE),
    "openvino": ("an OpenVINO network (IR in XML)", "give the ONNX file that it was converted from"),
    "coreml": ("a Core ML model", "give the ONNX file that it was converted from, or export it again"),
    "caffe": ("a Caffe model", "convert it to ONNX"),
    "tfjs": ("a TensorFlow.js network", _CONVERT),
    "ncnn": ("an ncnn network", "give the ONNX file that it was converted from"),
    "rknn": ("a network for Rockchip's NPU (RKNN)", "give the ONNX file that it was converted from"),
    "json": ("JSON", "show its content: trtpoets inspect FILE"),
    "xml": ("XML", _OTHER_FILE),
    "svg": ("an SVG drawing", "convert it to PNG"),
    "photo": ("a photo", "to label photos with a run: trtpoets label NAME FILE"),
    "video": ("a video", "save its frames as photos: ffmpeg -i FILE frame_%06d.jpg"),
    "audio": ("a sound file", _OTHER_FILE),
    "pdf": ("a PDF document", _OTHER_FILE),
    "elf": ("a program or library (ELF)", _OTHER_FILE),
    "windows-program": ("a program or library of Windows", _OTHER_FILE),
    "sqlite": ("an SQLite database", _OTHER_FILE),
    "script": ("a script", _OTHER_FILE),
    "text": ("text", _OTHER_FILE),
}


def kind_named(name: str) -> FileKind:
    """The kind with this name. Raises KeyError."""
    return FileKind(name, *_KINDS[name])


def kind_of_content(start: bytes) -> FileKind | None:
    """The kind of a file that begins with `start` (its first START bytes, or all of it); None if unknown."""
    name = _name(start)
    return None if name is None else kind_named(name)


def kind_of_file(path: Path) -> FileKind | None:
    """The kind of the file at `path`; None if unknown. Raises NotReadable unless it is a regular file, OSError."""
    with open_regular(path) as stream:
        start = stream.read(START)
        name = _name(start)
        if name == "hdf5":
            rest = stream.read(_SCANNED)
            name = "keras-h5" if any(word in start + rest for word in (b"model_config", b"keras_version")) else name
        elif name == "zip":
            # The directory of a zip archive is at its end.
            stream.seek(-min(stream.seek(0, 2), 64 << 10), 2)
            name = _zip_kind(start + stream.read()) or name
    return None if name is None else kind_named(name)


def require_kind(path: Path, *names: str, expected: str, unknown: bool = True) -> None:
    """Raise BadArtefact if the file has a known kind that is not in `names`; `expected` reads like "an ONNX file".

    A file of an unknown kind passes if `unknown` is true, and an unreadable file always passes: the code that reads it
    reports the problem.
    """
    try:
        kind = kind_of_file(path)
    except OSError:
        return
    if kind is None and unknown:
        return
    if kind is None:
        raise BadArtefact(f"{path} is not {expected}, and its kind is unknown", hint=_OTHER_FILE, code="TP1010")
    if kind.name not in names:
        raise other_kind(path, kind, expected)


def other_kind(path: Path, kind: FileKind, expected: str) -> BadArtefact:
    """The error for a file of another kind than the expected one."""
    return BadArtefact(f"{path} is not {expected}: it is {kind.words}", hint=kind.remedy_for(path), code="TP1011")


def ultralytics_metadata(start: bytes) -> tuple[int, bytes] | None:
    """Offset of the engine after Ultralytics' metadata, and the part of the JSON text that is in `start`; else None."""
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
    for offset, signature, name in OFFSET_SIGNATURES:
        if start[offset : offset + len(signature)] == signature:
            yield name
    if start[4:8] == b"ftyp":
        yield ISO_BRANDS.get(start[8:12], "video")
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
    # zlib's header has only two bytes: text that begins with the same two is not a zlib stream.
    if start[:2] in (b"x\x01", b"x\x9c", b"x\xda") or (start[:2] == b"x^" and not _is_text(start)):
        yield "zlib"


def _zip_kind(content: bytes) -> str | None:
    """The kind of a zip archive, by the file names that are in `content`."""
    for marks, name in ZIP_CONTENTS:
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
"""Patterns of the beginning of text files, after white space, and the kind of each."""

_HTML = next(pattern for pattern, name in _TEXTS if name == "html")


def _text_kind(start: bytes) -> str | None:
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):  # UTF-16, which PowerShell writes when output is redirected
        start = start.decode("utf-16", "ignore").encode()
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n")  # white space and byte order marks
    if not _is_text(text):
        # An HTML page may have any encoding, but contains no zero bytes.
        text = text if _HTML.match(text) and 0 not in text else b""
    return next((name for pattern, name in _TEXTS if pattern.match(text)), None)


def _is_text(content: bytes) -> bool:
    """Whether these bytes are UTF-8 without control characters. An incomplete character at the end is allowed."""
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]", content):
        return False
    try:
        content.decode()
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True
