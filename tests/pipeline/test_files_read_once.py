"""A command hashes each artefact of a run at most twice, and checks it once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import trtpoets
from tests.support.bundle_run import bundle_run
from trtpoets.core import files, onnx_file, reading, verified_files
from trtpoets.core.types import Precision
from trtpoets.core.verified_files import checked_once
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import dataset_in


class Reads:
    """How often the files of a folder were hashed and checked, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.hashed: Counter[str] = Counter()
        self.checked: Counter[str] = Counter()

    def count(self, counter: Counter[str], path: Path) -> None:
        if self.folder in path.parents:
            counter[path.relative_to(self.folder).as_posix()] += 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return bundle_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def reads(run: Workspace, monkeypatch: pytest.MonkeyPatch) -> Reads:
    reads, blocks = Reads(run.folder), reading.blocks_of

    def blocks_of(path: Path) -> Iterator[bytes]:
        reads.count(reads.hashed, path)
        return blocks(path)

    def counted(what: str, path: Path, read: Callable[[], Any], check: Callable[[Any], None]) -> Any:
        def check_and_count(value: Any) -> None:
            reads.count(reads.checked, path)
            check(value)

        return checked_once(what, path, read, check_and_count)

    monkeypatch.setattr(verified_files, "_MOMENT_NS", 0)  # a file that was just written counts as any other
    monkeypatch.setattr(files, "blocks_of", blocks_of)
    monkeypatch.setattr(onnx_file, "checked_once", counted)
    return reads


def bundle(target: str) -> Callable[[Workspace], object]:
    return lambda space: trtpoets.bundle(space.name, target, engines=space.engines)


def label(space: Workspace) -> object:
    return trtpoets.label(space.name, [dataset_in(space).photos[0].path], engines=space.engines)


@pytest.mark.parametrize(
    "command",
    [bundle("onnxruntime"), bundle("triton"), bundle("jetson"), label],
    ids=["ort", "triton", "jetson", "label"],
)
def test_each_artefact_is_hashed_and_checked_once(
    command: Callable[[Workspace], object], run: Workspace, reads: Reads
) -> None:
    command(run)
    assert {path.name for path in (run.onnx(p) for p in Precision)} <= set(reads.hashed)
    for name, count in reads.hashed.items():
        assert count <= 2, f"{name} was hashed {count} times"
    for name, count in reads.checked.items():
        assert count == 1, f"{name} was checked {count} times"
    assert run.onnx(Precision.FP32).name in reads.checked
