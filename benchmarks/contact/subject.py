"""Selects the engine for questions about the runtime: one of the first network, or PyTorch kernels instead.

Both run in `TensorRtRunner`, on its stream and its memory addresses.
"""

from __future__ import annotations

import hashlib
import sys
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Iterator

from contact.networks import BATCH, built, config_of, need_gpu, networks, photos_of
from contact.question_inputs import NotAnswered, QuestionInputs
from contact.torch_session import CLASSES, SIDE, TITLE, TorchSession, need_torch
from trtpoets.core.types import Engine, EngineCard, Flavour, ModelSpec, OnnxModel, Precision, Preprocess
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device import tensorrt_session
from trtpoets.device.build.engine import flavour_available, load_engine
from trtpoets.device.build.engine_card import platform_name
from trtpoets.device.gpu.cuda import CudaSession
from trtpoets.device.gpu.libcuda import gpus
from trtpoets.device.runners import trt
from trtpoets.device.runners.trt import TensorRtRunner
from trtpoets.device.tensorrt_api import TensorRt, load_tensorrt


@dataclass(frozen=True)
class Subject:
    """An engine to run. `captures_itself` is true for TensorRT-RTX, which manages CUDA graphs internally."""

    title: str
    engine: Engine
    captures_itself: bool = False

    def runner(self, **options: Any) -> TensorRtRunner:
        """Return a runner of the engine, not entered."""
        return TensorRtRunner(self.engine, **options)

    def photos(self, count: int) -> Any:
        """Return photos: uint8 (count, H, W, 3)."""
        return photos_of(OnnxModel(self.engine.path, self.engine.card.precision, self.engine.card.spec), count)

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Yield a CUDA session, whose context is current, and a TensorRT session of the engine."""
        card = self.engine.card
        with CudaSession() as cuda, cuda.current():
            session = tensorrt_session.TensorRtSession(
                trt.load_tensorrt(card.flavour), self.engine.path.read_bytes(), None, graphs=False
            )
            try:
                yield cuda, session
            finally:
                cuda.drain()
                session.close()


def subject(inputs: QuestionInputs) -> Subject:
    """Return a TensorRT engine; else one of TensorRT-RTX for this GPU; else PyTorch kernels. Raises NotAnswered."""
    need_gpu()
    reasons = []
    for flavour in (Flavour.TENSORRT, Flavour.RTX):
        reason = flavour_available(flavour)
        if reason is None and flavour is Flavour.RTX and gpus()[0].target not in load_tensorrt(flavour).targets:
            reason = f"TensorRT-RTX does not build for {gpus()[0].target}"
        if reason is None and not inputs.folders:
            reason = "no network was given"
        if reason is None:
            network = networks(inputs)[0]
            precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
            engine = built(inputs, network, precision, config_of(flavour))
            title = f"{network.name} in {precision.value} with {load_tensorrt(flavour).title}"
            return Subject(title, engine, flavour is Flavour.RTX)
        reasons.append(reason)
    try:
        need_torch()
    except NotAnswered as why:
        raise NotAnswered("; ".join([*dict.fromkeys(reasons), str(why)])) from why
    return _stand_in(inputs.work)


def _stand_in(work: Path) -> Subject:
    """Return PyTorch kernels as an engine: the same runner with another session and no TensorRT library."""
    _replace("TensorRtSession", TorchSession)
    _replace("load_tensorrt", lambda flavour: TensorRt(flavour, None, TITLE))
    _replace("check_fits", lambda *_: None)
    return Subject(TITLE, stand_in_engine(work))


def _replace(name: str, value: Any) -> None:
    """Replace a name in all modules of the device runtime in this process."""
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("trtpoets.device") and hasattr(module, name):
            setattr(module, name, value)


def stand_in_engine(work: Path) -> Engine:
    """Write an engine file and its card with the input and output shapes of TorchSession."""
    path = work / "stand-in.engine"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(TITLE.encode())
    gpu = gpus()[0]
    side = Preprocess(SIDE, SIDE, (1 / 127.5,) * 3, (-1.0,) * 3)
    spec = ModelSpec("stand-in", "none", side, tuple(f"class {number}" for number in range(CLASSES)), "none")
    card = EngineCard(
        flavour=Flavour.TENSORRT,
        precision=Precision.FP16,
        tensorrt_version=TITLE,
        cuda_version=None,
        driver_version=None,
        gpu=gpu.name,
        compute_capability="{}.{}".format(*gpu.compute_capability),
        targets=(gpu.target,),
        platform=platform_name(),
        batch=BATCH,
        workspace_mib=0,
        onnx_sha256="0" * 64,
        calibration_hash=None,
        preprocess_hash=spec.preprocess.hash,
        engine_sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        engine_bytes=path.stat().st_size,
        build_seconds=0.0,
        spec=spec,
    )
    seal_card(card_of(path), key="0" * 64, files=[path], details=asdict(card))
    return load_engine(path)
