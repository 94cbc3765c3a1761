"""The runner with all versions of TensorRT, over the fake GPU and objects with only the members of each version."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tests.fakes.bindings import committed_listings
from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.fakes.tensorrt_builder import VERSIONS
from tests.support.tiny import tiny_photos, tiny_spec
from trtpoets.core.types import Flavour
from trtpoets.device.runners import open_runner

KINDS = {"Context": "IExecutionContext", "Engine": "ICudaEngine"}
"""What the classes of the fake runtime are called in the bindings."""

RESULTS = {"create_runtime_config": "IRuntimeConfig", "create_runtime_cache": "IRuntimeCache"}
"""What methods give whose results are plain namespaces there."""


class Seen:
    """An object of the fake runtime as a version shows it: members that are not listed do not exist."""

    def __init__(self, thing: Any, kind: str, version: str) -> None:
        for name, value in (("_thing", thing), ("_kind", kind), ("_version", version)):
            object.__setattr__(self, name, value)

    def _check(self, name: str) -> None:
        if name not in committed_listings()[self._version].get(self._kind, ()):
            raise AttributeError(f"{self._kind!r} of {self._version} has no attribute {name!r}")

    def __getattr__(self, name: str) -> Any:
        self._check(name)
        member = getattr(self._thing, name)
        if not callable(member):
            return member

        def call(*given: Any) -> Any:
            result = member(*(item._thing if isinstance(item, Seen) else item for item in given))
            kind = RESULTS.get(name) or KINDS.get(type(result).__name__)
            return Seen(result, kind, self._version) if kind else result

        return call

    def __setattr__(self, name: str, value: Any) -> None:
        self._check(name)
        setattr(self._thing, name, value)


def install(gpu: FakeGpu, monkeypatch: pytest.MonkeyPatch, version: str) -> Flavour:
    """The fake GPU with the runtime of a version."""
    flavour = Flavour.RTX if version == "rtx" else Flavour.TENSORRT
    gpu.install(monkeypatch, rtx=flavour is Flavour.RTX)
    module = sys.modules["tensorrt_rtx" if flavour is Flavour.RTX else "tensorrt"]
    runtime, listing = module.Runtime, committed_listings()[version]
    monkeypatch.setattr(module, "Runtime", lambda logger: Seen(runtime(logger), "Runtime", version))
    monkeypatch.setattr(
        module, "IExecutionContext", SimpleNamespace(**dict.fromkeys(listing["IExecutionContext"])), raising=False
    )
    assert hasattr(module, "IRuntimeCache") == ("IRuntimeCache" in listing)
    return flavour


@pytest.mark.parametrize("version", VERSIONS)
def test_the_runner_runs_in_every_era(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    flavour = install(gpu, monkeypatch, version)
    with nothing_left(gpu), open_runner(paper_engine(tmp_path, flavour)) as runner:
        for count in (1, 3, 3, 3, 20, 1):
            photos = tiny_photos(count)
            np.testing.assert_array_equal(runner.infer(photos), expected_scores(photos))


@pytest.mark.parametrize("version", [version for version in VERSIONS if version not in ("8.5", "rtx")])
def test_engines_with_a_runtime_of_their_own(version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version-compatible engines, 8.6 and later: the runtime gets the permission and the DLA core."""
    gpu = FakeGpu(tiny_spec())
    flavour = install(gpu, monkeypatch, version)
    engine = paper_engine(tmp_path, flavour, version_compatible=True, dla_core=1)
    seen: dict[str, Any] = {}
    plain = Seen.__setattr__

    def remember(self: Seen, name: str, value: Any) -> None:
        seen[name] = value
        plain(self, name, value)

    monkeypatch.setattr(Seen, "__setattr__", remember)
    with nothing_left(gpu), open_runner(engine) as runner:
        runner.infer(tiny_photos(2))
    assert (seen["engine_host_code_allowed"], seen["DLA_core"]) == (True, 1)


def test_a_member_that_a_version_lacks_is_missed() -> None:
    context = Seen(SimpleNamespace(set_aux_streams=None, execute_async_v3=None), "IExecutionContext", "8.5")
    assert hasattr(context, "execute_async_v3")
    with pytest.raises(AttributeError, match=r"'IExecutionContext' of 8\.5 has no attribute 'set_aux_streams'"):
        context.set_aux_streams([])
