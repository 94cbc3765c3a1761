"""A fake engine file with a card for the fake GPU, and the scores that it gives."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from tests.fakes.tensorrt_runtime import VERSION
from tests.support.tiny import SIDE, tiny_spec
from trtpoets.core.types import BatchRange, Engine, EngineCard, Flavour, Precision
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.engine import load_engine
from trtpoets.device.build.engine_card import platform_name
from trtpoets.device.runners.fake import FakeRunner


def paper_engine(
    folder: Path,
    flavour: Flavour = Flavour.TENSORRT,
    batch: tuple[int, int, int] = (1, 4, 8),
    side: int = SIDE,
    file: str = "",
    **changes: Any,
) -> Engine:
    """Write an engine file with a card for the fake GPU."""
    path = folder / "tiny" / (file or f"fp16.{flavour.value}.engine")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"plan of a paper network\x80\xff")
    spec = tiny_spec(side)
    card = EngineCard(
        flavour=flavour,
        precision=Precision.FP16,
        tensorrt_version=VERSION,
        cuda_version="12.6",
        driver_version=None,
        gpu="Paper GPU",
        compute_capability="8.6",
        targets=("sm80+",) if flavour is Flavour.RTX else ("sm86",),
        platform=platform_name(),
        batch=BatchRange(*batch),
        workspace_mib=1024,
        onnx_sha256="0" * 64,
        calibration_hash=None,
        preprocess_hash=spec.preprocess.hash,
        engine_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        engine_bytes=path.stat().st_size,
        build_seconds=0.1,
        spec=spec,
    )
    seal_card(card_of(path), key="k", files=[path], details=asdict(replace(card, **changes)))
    return load_engine(path)


def expected_scores(photos: np.ndarray) -> np.ndarray:
    with FakeRunner(tiny_spec()) as runner:
        return runner.infer(photos)
