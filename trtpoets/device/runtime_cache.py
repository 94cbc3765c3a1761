"""Loads and saves TensorRT-RTX's runtime cache, the kernels compiled when an engine first runs.

There is one file per engine, library version and GPU. The library deserialises it, so it has a card, and a file that
this user did not write is ignored.
"""

from __future__ import annotations

import hashlib
import logging
import re
from pathlib import Path

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import write_bytes
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import hash_of
from trtpoets.core.workspace import card_of, open_card, seal_card
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt

log = logging.getLogger(__name__)


class RuntimeCache:
    """The runtime cache for one engine, library and GPU."""

    def __init__(self, engine: Path, library: TensorRt, gpu: Gpu) -> None:
        device = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
        self._file = engine.with_name(f"{engine.name}.{library.version}-{gpu.target}-{device}.runtime-cache")
        self._key = hash_of([engine.name, library.flavour.value, library.version, *gpu.identity])
        self._sha256 = b""

    def read(self) -> bytes | None:
        """The saved cache; None if there is none, it can't be read, or this user did not write it."""
        try:
            content = read_bytes(self._file)
            if open_card(card_of(self._file), self._key, own=True) is None:
                log.warning("there is no proof that you wrote %s: its kernels are compiled again", self._file)
                return None
        except FileNotFoundError:
            return None
        except (TrtPoetsError, OSError) as error:
            log.warning("the runtime cache can't be read, so its kernels are compiled again: %s", error)
            return None
        self._sha256 = hashlib.sha256(content).digest()
        return content

    def write(self, content: bytes | None) -> None:
        """Save `content`, unless it is unchanged or None (the library has no runtime cache)."""
        if content is None or hashlib.sha256(content).digest() == self._sha256:
            return
        try:
            write_bytes(self._file, content)
            seal_card(card_of(self._file), key=self._key, files=[self._file], details={})
        except (TrtPoetsError, OSError) as error:
            log.warning("the runtime cache of this engine could not be saved: %s", error)
