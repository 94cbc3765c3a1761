"""Tables of the bytes by which `file_kinds` recognises the kind of a file, in the order in which it tries them."""

from __future__ import annotations

SIGNATURES = (
    (b"ftrt", "engine"),
    (b"vtrt", "engine"),
    (b"TRT-", "calibration-cache"),
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"Rar!\x1a\x07", "rar"),
    (b"PK\x03\x04", "zip"),
    (b"PK\x05\x06", "zip"),
    (b"PK\x07\x08", "zip"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "numpy"),
    (b"GGUF", "gguf"),
    (b"RKNN", "rknn"),
    (b"\x7fELF", "elf"),
    (b"MZ\x90\x00", "windows-program"),
    (b"SQLite format 3\x00", "sqlite"),
    (b"%PDF-", "pdf"),
    (b"\xff\xd8\xff", "photo"),
    (b"\x89PNG\r\n\x1a\n", "photo"),
    (b"GIF87a", "photo"),
    (b"GIF89a", "photo"),
    (b"II*\x00", "photo"),
    (b"MM\x00*", "photo"),
    (b"\x1aE\xdf\xa3", "video"),
    (b"\x00\x00\x01\xba", "video"),
    (b"FLV\x01", "video"),
    (b"ID3", "audio"),
    (b"OggS", "audio"),
    (b"fLaC", "audio"),
)
"""(first bytes of a file, name of its kind)."""

OFFSET_SIGNATURES = (
    (4, b"TFL3", "tflite"),
    (4, b"ORTM", "ort"),
    (257, b"ustar", "tar"),
)
"""(offset in a file, bytes there, name of its kind)."""

ISO_BRANDS = {
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1", b"avif", b"avis"), "photo"),
    **dict.fromkeys((b"M4A ", b"M4B "), "audio"),
}
"""Major brands of ISO base media files (MP4 and related), and their kinds; all other brands are videos."""

ZIP_CONTENTS = (
    ((b"metadata.json", b"config.json", b"model.weights.h5"), "keras"),
    ((b"metadata.json", b"keras_version"), "keras"),
    ((b"/constants.pkl", b"/code/"), "torchscript"),
    ((b"/data.pkl",), "pytorch"),
    ((b".npy",), "npz"),
)
"""(parts of file names, name of the kind). A zip archive is of the first kind for which it contains all parts."""
