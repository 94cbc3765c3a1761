"""Keeps the state of a fine-tuning in one file, which is replaced atomically: a killed training resumes from it."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import zipfile
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.authenticity import hmac_of, why_foreign
from trtpoets.core.files import storage_errors, write_bytes
from trtpoets.core.reading import NotReadable, read_bytes
from trtpoets.core.types import hash_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_HEADER = 1024
"""Bytes of the first line: JSON with the key of the training, and the sha256 and HMAC of the arrays."""

_log = logging.getLogger(__name__)


class Checkpoint:
    """The state of the training with `key` in the file `path`: arrays by name."""

    def __init__(self, path: Path, key: str) -> None:
        self.path = path
        self._key = key

    def read(self) -> dict[str, np.ndarray] | None:
        """Return the arrays that were written last for this key; None if there are none, or they are damaged."""
        try:
            content = read_bytes(self.path)
            header = json.loads(content[:_HEADER])
            value, tag = {"key": header["key"], "sha256": header["sha256"]}, header["hmac"]
        except (OSError, NotReadable, ValueError, KeyError, TypeError):
            return None
        body = content[_HEADER:]
        if value["key"] != self._key:
            return None
        if value["sha256"] != hashlib.sha256(body).hexdigest() or why_foreign(hash_of(value), tag):
            _log.warning("%s is damaged or was not written here; the fine-tuning starts again", self.path)
            return None
        try:
            with np.load(io.BytesIO(body), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (OSError, ValueError, zipfile.BadZipFile):
            return None

    def write(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Replace the state. Raises StorageFailed if the disk is full; the previous state is then kept."""
        stream = io.BytesIO()
        np.savez(stream, **dict(arrays))  # type: ignore[arg-type]  # its keyword-only option is none of the names
        body = stream.getvalue()
        value = {"key": self._key, "sha256": hashlib.sha256(body).hexdigest()}
        header = json.dumps({**value, "hmac": hmac_of(hash_of(value))}).encode()
        write_bytes(self.path, header.ljust(_HEADER - 1) + b"\n" + body)

    def delete(self) -> None:
        """Delete the file. Raises StorageFailed."""
        with storage_errors(self.path, "delete"), suppress(FileNotFoundError):
            self.path.unlink()
