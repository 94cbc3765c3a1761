"""Computes the sha256 of each published weight file, for the table PINNED in `backbones.py` (maintainers).

    python -m tools.pin_weights [BACKBONE...]

Each file is downloaded twice over HTTPS and compared with what its publisher states: the MD5, or the first digits of
the sha256. The output is the table PINNED; compare it with the output on another machine and network before committing
it.
"""

from __future__ import annotations

import hashlib
import sys

from trtpoets.train.backbones import BACKBONES, DownloadedSource, backbone_named
from trtpoets.train.downloaded_weights import fetch

_MAX_BYTES = 1 << 30


def pin(source: DownloadedSource) -> str:
    """Return the sha256 of a published file. Raises ValueError if two downloads differ, or have another hash."""
    first, second = (fetch(source.url, _MAX_BYTES) for _ in range(2))
    if first != second:
        raise ValueError(f"{source.url}: two downloads differ")
    md5 = hashlib.md5(first, usedforsecurity=False).hexdigest()
    if source.md5 and md5 != source.md5:
        raise ValueError(f"{source.url}: its MD5 is {md5} instead of {source.md5}, which Keras publishes")
    sha256 = hashlib.sha256(first).hexdigest()
    if not sha256.startswith(source.sha256_start):
        raise ValueError(
            f"{source.url}: its sha256 is {sha256}, but the published one starts with {source.sha256_start}"
        )
    return sha256


def main() -> None:
    """Print the lines of PINNED."""
    for backbone in [backbone_named(name) for name in sys.argv[1:]] or BACKBONES.values():
        if isinstance(backbone.source, DownloadedSource):
            sys.stdout.write(f'    "{backbone.source.file}": "{pin(backbone.source)}",\n')
            sys.stdout.flush()


if __name__ == "__main__":
    main()
