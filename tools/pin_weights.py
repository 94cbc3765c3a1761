"""Computes the sha256 of each weight file that Keras publishes, for the table PINNED in `backbones.py` (maintainers).

    python -m tools.pin_weights [BACKBONE...]

Each file is downloaded twice over HTTPS and compared with Keras's MD5 if there is one. The output is the table PINNED;
compare it with the output on another machine and network before committing it.
"""

from __future__ import annotations

import hashlib
import sys

from trtpoets.train.backbones import BACKBONES, KerasApplication, backbone_named
from trtpoets.train.downloaded_weights import fetch

_MAX_BYTES = 1 << 30


def pin(source: KerasApplication) -> str:
    """Return the sha256 of a published file. Raises ValueError if two downloads differ, or the MD5 is not Keras's."""
    first, second = (fetch(source.url, _MAX_BYTES) for _ in range(2))
    if first != second:
        raise ValueError(f"{source.url}: two downloads differ")
    md5 = hashlib.md5(first, usedforsecurity=False).hexdigest()
    if source.md5 and md5 != source.md5:
        raise ValueError(f"{source.url}: its MD5 is {md5} instead of {source.md5}, which Keras publishes")
    return hashlib.sha256(first).hexdigest()


def main() -> None:
    """Print the lines of PINNED."""
    for backbone in [backbone_named(name) for name in sys.argv[1:]] or BACKBONES.values():
        if isinstance(backbone.source, KerasApplication):
            sys.stdout.write(f'    "{backbone.source.file}": "{pin(backbone.source)}",\n')
            sys.stdout.flush()


if __name__ == "__main__":
    main()
