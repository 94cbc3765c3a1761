"""The PCI bus id of the GPU that CUDA uses."""

from __future__ import annotations

import pytest

from tests.fakes.gpu import FakeGpu
from tests.fakes.nvml import OURS, Driver
from tests.support.tiny import tiny_spec
from trtpoets.device.gpu.pci import cuda_bus_id
from trtpoets.judge.bench.conditions import conditions


def test_the_gpu_is_the_one_that_cuda_uses(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch)
    assert cuda_bus_id() == OURS
    (state,) = conditions().gpu_state
    assert (state.name, state.pci_bus_id) == ("NVIDIA H100", OURS)
    assert cuda_bus_id(1) is None
