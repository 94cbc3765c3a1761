"""Damaged files of every kind give a result or a TrtPoetsError, and never crash this process."""

from __future__ import annotations

import json
import os
import random
import selectors
import subprocess
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.fuzz_files import damaged_bytes, damaged_json, damaged_onnx
from tests.support.tiny import tiny_onnx, tiny_spec
from trtpoets.convert.int8.tensorrt_cache import CalibrationCache, read_cache, text_of_cache
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.files import read_json
from trtpoets.core.onnx_file import read_onnx
from trtpoets.core.types import BatchRange, Engine, Flavour, hash_of
from trtpoets.core.workspace import card_of, seal_card
from trtpoets.device.build.engine import engine_from_onnx, load_engine
from trtpoets.device.build.engine_card import check_fits
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.device.gpu.libcuda import Gpu
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.pipeline.inspect import inspect

ROOT = Path(__file__).parent.parent
RTX = EngineConfig(Flavour.RTX, timeout_seconds=30.0)
SILENCE_SECONDS = 60.0
"""A file that takes longer than this hangs."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine that may be copied, never changed."""
    pytest.importorskip("tensorrt_rtx")
    folder = tmp_path_factory.mktemp("built")
    model = tiny_onnx(folder / "fp32.onnx")
    return engine_from_onnx(model, EngineConfig(Flavour.RTX, batch=BatchRange(1, 2, 4)), folder / "fp32.rtx.engine")


class Worker:
    """A process that builds one damaged file after the other. `ended_at` is the seed that ended or hung it, or None."""

    def __init__(self, folder: Path, first: int, last: int) -> None:
        command = [sys.executable, "-m", "tests.support.fuzz_files", str(folder), str(first), str(last)]
        self.outcomes: dict[int, str] = {}
        self.ended_at: int | None = None
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as process,
            selectors.DefaultSelector() as selector,
        ):
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ)
            rest = b""
            while selector.select(SILENCE_SECONDS):
                block = os.read(process.stdout.fileno(), 1 << 16)
                if not block:
                    break
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    self._take(line)
            else:
                process.kill()

    def _take(self, line: bytes) -> None:
        try:
            seed, *outcome = json.loads(line)
        except ValueError:
            return  # a native library has something to say
        self.ended_at = None if outcome else seed
        if outcome:
            self.outcomes[seed] = outcome[0]


def outcomes_of(folder: Path, first: int, last: int) -> Counter[str]:
    """Build the damaged files of these seeds; a file that ends a worker is built again, the way that users build."""
    values: dict[int, str] = {}
    begin = first
    while begin < last:
        worker = Worker(folder, begin, last)
        values.update(worker.outcomes)
        if worker.ended_at is None:
            break
        assert worker.ended_at >= begin, "the worker does not even start"
        values[worker.ended_at] = as_users_build(folder / f"{worker.ended_at}.onnx")
        begin = worker.ended_at + 1
    bugs = {seed: text for seed, text in values.items() if text.startswith("BUG")}
    assert not bugs, bugs
    assert sorted(values) == list(range(first, last)), "a file without an outcome"
    return Counter(values.values())


def as_users_build(path: Path) -> str:
    """In a process of our own the parent must live on: only the child may end, and hangs are cut short."""
    program = (
        "import sys; from pathlib import Path; from trtpoets.core.errors import TrtPoetsError\n"
        "import trtpoets; from trtpoets.core.types import Flavour\n"
        "try: trtpoets.build(sys.argv[1], flavour=Flavour.RTX, timeout_seconds=30.0); print('built')\n"
        "except TrtPoetsError as error: print('contained', type(error).__name__)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 0, f"{path}: the parent ended with {result.returncode}: {result.stderr[-2000:]}"
    return result.stdout.strip().splitlines()[-1]


def test_a_few_damaged_onnx_files(rtx: None, tmp_path: Path) -> None:
    """The seeds were chosen by nobody; the many are below."""
    outcomes = outcomes_of(tmp_path, 0, 60)
    assert outcomes["built"] >= 5 and outcomes["BadArtefact"] >= 20


@pytest.mark.slow
def test_many_damaged_onnx_files(rtx: None, tmp_path: Path) -> None:
    outcomes = outcomes_of(tmp_path, 1000, 4000)
    reached = sum(count for outcome, count in outcomes.items() if outcome != "BadArtefact")
    assert outcomes["read BuildFailed"] >= 30 and reached >= 500, outcomes


def test_the_same_seed_damages_in_the_same_way() -> None:
    assert damaged_onnx(7) == damaged_onnx(7) != damaged_onnx(8)


@pytest.mark.slow
def test_a_damaged_file_through_the_whole_of_build(rtx: None, tmp_path: Path) -> None:
    """Parent, child and all, for files that reach the child."""
    path, tried = tmp_path / "x.onnx", 0
    for seed in range(300):
        path.write_bytes(damaged_onnx(seed))
        try:
            model = read_onnx(path)
        except TrtPoetsError:
            continue
        try:
            engine_from_onnx(model, RTX, tmp_path / "x.engine")
        except TrtPoetsError as error:
            assert error.message and "\n" not in error.message
        tried += 1
        if tried == 4:
            return
    raise AssertionError("the mutations are too coarse: none reaches the child")


# Engines, cards, caches: read by this process itself


def clean(action: Any) -> bool:
    """Whether it works; what it raises instead must be a TrtPoetsError of one sentence."""
    try:
        action()
    except TrtPoetsError as error:
        assert error.message and "\n" not in error.message
        return False
    return True


def copy_of(engine: Engine, folder: Path) -> Path:
    path = folder / engine.path.name
    path.write_bytes(engine.path.read_bytes())
    card_of(path).write_bytes(card_of(engine.path).read_bytes())
    return path


@pytest.mark.parametrize("seed", range(3))
def test_damaged_engines(built: Engine, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path, whole = copy_of(built, tmp_path), built.path.read_bytes()
    for _ in range(40):
        # The header is where readers look, and a small part of the file.
        head = damaged_bytes(rng, whole[:128]) + whole[128:]
        content = rng.choice((head, damaged_bytes(rng, whole), whole[: rng.randrange(len(whole))]))
        path.write_bytes(content)
        assert clean(lambda: load_engine(path)) == (content == whole)
        clean(lambda: inspect(path))


@pytest.mark.parametrize("seed", range(3))
def test_damaged_cards(built: Engine, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    path, whole = copy_of(built, tmp_path), card_of(built.path).read_bytes()
    for _ in range(60):
        card_of(path).write_bytes(damaged_bytes(rng, whole))
        clean(lambda: load_engine(path))
        clean(lambda: inspect(card_of(path)))


@pytest.mark.parametrize("seed", range(3))
def test_sealed_cards_with_invalid_content(built: Engine, tmp_path: Path, seed: int) -> None:
    """A card with a valid seal may have any content."""
    rng = random.Random(seed)
    path, whole = copy_of(built, tmp_path), read_json(card_of(built.path))
    library, loaded = load_tensorrt(Flavour.RTX), 0
    for _ in range(100):
        value = damaged_json(rng, {key: entry for key, entry in whole.items() if key != "seal"})
        if rng.random() < 0.9 and isinstance(value, dict):
            value = {**value, "files": whole["files"], "key": whole["key"]}
        try:
            text = json.dumps({**value, "seal": hash_of(value)} if isinstance(value, dict) else value)
        except (UnicodeEncodeError, ValueError):
            continue
        card_of(path).write_text(text)
        clean(lambda: inspect(card_of(path)))
        try:
            card = load_engine(path).card
        except TrtPoetsError:
            continue
        loaded += 1
        clean(lambda card=card: check_fits(card, library, Gpu("Paper GPU", (8, 6), 8 << 30), path))
    assert loaded, "no card was taken: the mutations are too coarse"


@pytest.mark.parametrize("seed", range(3))
def test_damaged_calibration_caches(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    scales = {"photos": 1 / 127, "conv/Relu:0": 0.25, "caf\u00e9 (Unnamed Layer* 4) [x]": 3e-5}
    whole = text_of_cache(CalibrationCache("10.3.0", "EntropyCalibration2", scales)).encode()
    path = tmp_path / "x.cache"
    path.write_bytes(whole)
    assert clean(lambda: read_cache(path))
    for _ in range(150):
        path.write_bytes(damaged_bytes(rng, whole))
        clean(lambda: read_cache(path))
        clean(lambda: inspect(path))


@pytest.mark.parametrize("content", ["[" * 200_000, '{"a":' * 50_000, "", "\ud800", "NaN", "1" * 5000])
def test_invalid_json(tmp_path: Path, content: str) -> None:
    path = tmp_path / "x.engine.json"
    path.write_bytes(content.encode("utf-8", "surrogatepass"))
    (tmp_path / "x.engine").write_bytes(b"x")
    assert not clean(lambda: load_engine(tmp_path / "x.engine"))
    assert not clean(lambda: inspect(path))


def test_a_card_of_ours_survives_its_own_checks(tmp_path: Path) -> None:
    """So that the tests above fail for damage alone."""
    path = tmp_path / "x.engine"
    path.write_bytes(b"x")
    seal_card(card_of(path), key="k", files=[path], details={"spec": asdict(tiny_spec())})
    assert clean(lambda: inspect(card_of(path)))
