"""Whether products of uint8 and int8 are exact here: measured, not read from a list of processors."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trtpoets.convert.int8 import exact_products
from trtpoets.convert.int8.exact_products import signed_weights_are_exact


class Session:
    """A session whose products are computed by `sums`."""

    def __init__(self, content: bytes, sums: Any) -> None:
        from onnx import ModelProto, numpy_helper

        self.weights = numpy_helper.to_array(ModelProto.FromString(content).graph.initializer[0])
        self.sums = sums

    def run(self, names: None, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [self.sums(inputs["a"].astype(np.int32), self.weights.astype(np.int32))]


def saturating(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Add pairs of products in 16 bits, as vpmaddubsw does, and the pairs in 32 bits."""
    products = values[:, :, None] * weights[None]
    pairs = products[:, 0::2] + products[:, 1::2]
    return np.asarray(np.clip(pairs, -(2**15), 2**15 - 1).sum(axis=1))


def test_exact_products_are_recognised_and_saturating_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for sums, expected in ((np.matmul, True), (saturating, False)):
        signed_weights_are_exact.cache_clear()
        monkeypatch.setattr(exact_products, "open_session", lambda content, threads: Session(content, sums))  # noqa: B023
        assert signed_weights_are_exact() is expected
    signed_weights_are_exact.cache_clear()


def test_processors_with_vnni_are_exact() -> None:
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    if "avx512_vnni" not in flags and "avx_vnni" not in flags:
        pytest.skip("this processor has no VNNI")
    assert signed_weights_are_exact()
