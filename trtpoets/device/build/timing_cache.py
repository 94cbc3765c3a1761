"""Loads and saves TensorRT's timing cache beside the engines, so that the next build for the same device is faster.

There is one file per flavour, with a card that records its sha256, the library and the device. A cache that does not
match is ignored with a message.
"""

from __future__ import annotations

import logging
from pathlib import Path

from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import write_bytes
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import hash_of
from trtpoets.core.workspace import card_of, open_card, seal_card
from trtpoets.device.build.engine_card import platform_name
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import TensorRt

log = logging.getLogger(__name__)


def timing_cache_of(engine: Path, library: TensorRt) -> Path:
    """The path of the timing cache for the engines in a folder: "<folder>/tensorrt.timing-cache"."""
    return engine.with_name(f"{library.flavour.value}.timing-cache")


def load_timing_cache(path: Path, library: TensorRt, gpu: Gpu) -> bytes:
    """The timing cache of an earlier build with this library on this kind of GPU; empty if there is none."""
    if not path.is_file():
        return b""
    try:
        # TensorRT deserialises it, so the cache of another user is ignored, like an engine of another user.
        if open_card(card_of(path), _key(library, gpu), own=True) is not None:
            return read_bytes(path)
        reason = f"it is damaged, or you did not create it with {library.title} on a {gpu.title}"
    except TrtPoetsError as error:
        reason = error.message
    log.info("%s is ignored: %s", path, reason)
    return b""


def save_timing_cache(path: Path, content: bytes, library: TensorRt, gpu: Gpu) -> None:
    """Save the timing cache of a build. If it can't be written, the build still succeeds, with a warning."""
    try:
        write_bytes(path, content)
        details = {"library": library.title, "gpu": gpu.title, "compute_capability": list(gpu.compute_capability)}
        seal_card(card_of(path), key=_key(library, gpu), files=[path], details=details)
    except TrtPoetsError as error:
        log.warning("the timing cache of this build was not saved: %s", error.message)


def _key(library: TensorRt, gpu: Gpu) -> str:
    return hash_of([library.flavour.value, library.version, *gpu.identity, platform_name()])
