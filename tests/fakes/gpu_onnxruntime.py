"""ONNX Runtime with CUDA and TensorRT providers, with the rules of its TensorRT provider; the CPU session computes.

Rules, each with its source: options that the provider does not know are refused (ProviderOptionsParser); Q/DQ
pairs can't be built without `trt_int8_enable` (microsoft/onnxruntime#13381); with explicit profiles the
engine is built or read when the session is opened, without them in the first run of a new batch size, and a cached
engine is used if its profiles are the requested ones (tensorrt_execution_provider.cc, CreateNodeComputeInfoFromGraph);
sizes outside of the profile fail; if a provider fails, the Python package continues with the next unless
`enable_fallback` is 0 (onnxruntime_inference_collection.py).

Stands for onnxruntime-gpu on a machine with a GPU. It was written from these sources and not compared on a GPU.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as real
from onnxruntime import *  # noqa: F403 - a module that stands in for it

from trtpoets.core.provider_options import CPU, CUDA, TENSORRT

TENSORRT_OPTIONS = {
    *("device_id", "trt_fp16_enable", "trt_int8_enable", "trt_max_workspace_size"),
    *("trt_profile_min_shapes", "trt_profile_opt_shapes", "trt_profile_max_shapes"),
    *("trt_engine_cache_enable", "trt_engine_cache_path", "trt_engine_cache_prefix"),
    *("trt_timing_cache_enable", "trt_timing_cache_path"),
}
"""Those of the names in libonnxruntime_providers_tensorrt.so of onnxruntime-gpu 1.31.1 that may be given here."""

CUDA_OPTIONS = {"device_id", "cudnn_conv_algo_search"}
"""Of cuda_execution_provider_info.cc."""

available = [TENSORRT, CUDA, CPU]
"""What the package was built with."""

loading = {TENSORRT, CUDA, CPU}
"""Whose libraries load on this machine."""

built: list[str] = []
"""Where an engine was built, in order: "open" or "run"."""

sessions: list[InferenceSession] = []


def get_available_providers() -> list[str]:
    return list(available)


class InferenceSession:
    def __init__(
        self,
        source: Any,
        options: Any = None,
        providers: Any = None,
        disabled_optimizers: Any = None,
        enable_fallback: int = 1,
    ) -> None:
        self.inner = real.InferenceSession(source, options, providers=[CPU], disabled_optimizers=disabled_optimizers)
        self.providers = [(name, dict(values)) for name, values in providers if name in loading]
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        self.pairs = b"QuantizeLinear" in content
        self.half = b"fp16" in content
        self.fallback = enable_fallback
        self.failing = False
        self.seen: set[int] = set()
        self.profile: tuple[int, int, int] | None = None
        sessions.append(self)
        try:
            self._open()
        except RuntimeError:
            if not enable_fallback:
                raise
            self.providers = self.providers[1:]

    def _open(self) -> None:
        for name, values in self.providers:
            unknown = set(values) - {TENSORRT: TENSORRT_OPTIONS, CUDA: CUDA_OPTIONS, CPU: set()}[name]
            if unknown:
                raise RuntimeError(f"Unknown provider option: {min(unknown)}.")
        name, options = self.providers[0]
        if name != TENSORRT:
            return
        words = [options.get(f"trt_profile_{word}_shapes", "") for word in ("min", "opt", "max")]
        if all(words):
            low, best, high = (int(re.fullmatch(r"photos:(\d+)x\d+x\d+x3", word)[1]) for word in words)  # type: ignore[index]
            assert low <= best <= high
            self.profile = (low, best, high)
            self._engine("open", options)

    def _engine(self, where: str, options: dict[str, Any]) -> None:
        file = None
        if options.get("trt_engine_cache_enable"):
            folder = Path(options["trt_engine_cache_path"])
            assert folder.is_absolute() and folder.is_dir()
            file = folder / f"{options['trt_engine_cache_prefix']}_0_sm87.engine"
            if file.exists() and json.loads(file.read_text()) == list(self.profile or ()):
                return
        if self.pairs and not options.get("trt_int8_enable"):
            raise RuntimeError(
                "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP could not build engine for fused node: "
                "Int8 precision has been set for a layer or layer output, but int8 is not configured in the builder"
            )
        built.append(where)
        if file is not None:
            file.write_text(json.dumps(self.profile or ()))

    def get_inputs(self) -> list[Any]:
        return list(self.inner.get_inputs())

    def get_providers(self) -> list[str]:
        return [name for name, _ in self.providers]

    def run(self, names: list[str], given: dict[str, np.ndarray]) -> list[np.ndarray]:
        name, options = self.providers[0]
        size = len(given["photos"])
        try:
            if self.failing:
                raise RuntimeError("[ONNXRuntimeError] : 11 : EP_FAIL : CUDA failure 700")
            if name == TENSORRT and self.profile is None and size not in self.seen:
                self._engine("run", options)
            if name == TENSORRT and self.profile and not self.profile[0] <= size <= self.profile[2]:
                raise RuntimeError(f"[ONNXRuntimeError] : 11 : EP_FAIL : {size} is not in the profile")
        except RuntimeError:
            if not self.fallback:
                raise
            self.providers, self.failing = self.providers[1:], False
        self.seen.add(size)
        calls: list[np.ndarray] = self.inner.run(names, given)
        return calls


def forget() -> None:
    """Reset to a new process on a machine where everything loads."""
    built.clear()
    sessions.clear()
    available[:] = [TENSORRT, CUDA, CPU]
    loading.update(available)
