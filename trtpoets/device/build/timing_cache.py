"""What kernels took to run, kept beside the engines: the next build for the same device measures less.

One file a flavour, with a card like any artefact's: it vouches for the bytes, and for the library and the device that
they were measured with. A cache is a help, never a condition: one that does not fit is left aside with a word.
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
    """Where the timings of an engine's folder are kept: "<folder>/tensorrt.timing-cache"."""
    return engine.with_name(f"{library.flavour.value}.timing-cache")


def load_timing_cache(path: Path, library: TensorRt, gpu: Gpu) -> bytes:
    """What an earlier build with this library measured on this kind of GPU; empty when there is nothing of use."""
    if not path.is_file():
        return b""
    try:
        # TensorRT deserialises it: another's is left aside, as another's engine would be.
        if open_card(card_of(path), _key(library, gpu), own=True) is not None:
            return read_bytes(path)
        reason = f"it was not measured by you with {library.title} on a {gpu.title}, or not written whole"
    except TrtPoetsError as error:
        reason = error.message
    log.info("%s is left aside: %s", path, reason)
    return b""


def save_timing_cache(path: Path, content: bytes, library: TensorRt, gpu: Gpu) -> None:
    """Keep what a build measured. A cache that can't be written is no failure of the build: a warning."""
    try:
        write_bytes(path, content)
        details = {"library": library.title, "gpu": gpu.title, "compute_capability": list(gpu.compute_capability)}
        seal_card(card_of(path), key=_key(library, gpu), files=[path], details=details)
    except TrtPoetsError as error:
        log.warning("the timings of this build are not kept: %s", error.message)


def _key(library: TensorRt, gpu: Gpu) -> str:
    return hash_of([library.flavour.value, library.version, *gpu.identity, platform_name()])
