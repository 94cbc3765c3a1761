"""What several test files share: a small network's weights, and one whole run on small photos."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if "PYTEST_XDIST_WORKER" in os.environ:  # before numpy is loaded
    # Each worker has a core: more threads of BLAS only wait for one another, and take a quarter more processor time.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.support.made_once import common_folder, made_once
from tests.support.photos import photo_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from tests.fakes.gpu import FakeGpu
    from trtpoets.pipeline.run import RunConfig

settings.register_profile("trtpoets", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("trtpoets")  # a slow machine must not make a test fail

ROOT = Path(__file__).parent.parent
SMALL = "mobilenet_0.25_128"
_FIRST = (
    *("pipeline/test_run.py", "pipeline/test_lineage.py", "pipeline/test_quantize.py", "train/"),
    *(
        "pipeline/test_bench_train.py",
        "pipeline/test_sweep.py",
        "pipeline/test_tensorboard.py",
        "core/test_keras_settings.py",
        "convert/test_onnx_export.py",
    ),
    *("convert/test_tflite_export.py", "device/runners/test_tflite.py", "bundles/test_tflite_bundle.py"),
    *("convert/test_tflite_graph.py", "convert/test_tflite_int8.py", "convert/test_tflite_twins.py"),
    *("convert/test_tflite_base.py", "pipeline/test_tflite_extractor.py"),
    *("pipeline/test_int8_distill.py", "judge/bench/test_benchmark.py"),
    *("device/runners/test_runners.py", "device/runners/test_tf.py", "device/runners/test_keras.py"),
    *("adoption/tensorflow/", "convert/int8/distill/"),
)
"""Tests that use TensorFlow or the run called "small". They run first, so that one worker has most of them."""
_LAST = (
    *("core/test_child_environment.py", "core/test_errors.py", "core/test_optional.py", "core/test_reading.py"),
    *("core/test_runner_id.py", "device/test_tensorrt_bindings.py", "test_hints.py", "test_structure.py"),
)
"""Tests that read all sources of the package. They run last, so that mostly one worker parses them."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Use work stealing: each worker starts with a contiguous part of the tests, so that the tests of a file, which
    share fixtures, run in one worker.
    """
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getvalue("dist") == "load" else None


@pytest.hookimpl(wrapper=True)
def pytest_collection(session: pytest.Session) -> Generator[None, object, object]:
    """Collect without searching for garbage: all that is imported and collected lives on."""
    gc.disable()
    try:
        _import_in_turn(session.config)
        return (yield)
    finally:
        gc.enable()


def _import_in_turn(config: pytest.Config) -> None:
    """Import the test modules that no other worker has imported yet, before this worker collects all of them.

    Most of the time of collecting goes into rewriting assertions and compiling; for a module that another worker has
    imported, only the cached bytecode is read.
    """
    if "PYTEST_XDIST_WORKER" not in os.environ or config.args_source.name != "TESTPATHS" or sys.dont_write_bytecode:
        return
    taken = common_folder(config._tmp_path_factory) / "imported"  # type: ignore[attr-defined]
    taken.mkdir(exist_ok=True)
    names = sorted(path.relative_to(ROOT) for path in Path(__file__).parent.rglob("test_*.py"))
    worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
    start = worker * len(names) // int(os.environ["PYTEST_XDIST_WORKER_COUNT"])
    for name in (*names[start:], *names[:start]):
        module = ".".join(name.with_suffix("").parts)
        try:
            (taken / module).touch(exist_ok=False)
        except FileExistsError:
            continue
        with contextlib.suppress(Exception, pytest.skip.Exception):  # collecting reports it
            importlib.import_module(module)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Move the tests of `_FIRST` to the front and those of `_LAST` to the end, in that order."""
    tests = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        name = item.path.relative_to(tests).as_posix() if item.path.is_relative_to(tests) else ""
        if name in _LAST:
            return len(_FIRST) + 1 + _LAST.index(name)
        return next((number for number, begin in enumerate(_FIRST) if name.startswith(begin)), len(_FIRST))

    items.sort(key=place)


@pytest.fixture(scope="session", autouse=True)
def _cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Use a cache and a key of this run of the tests, not the user's. All workers have the same ones."""
    folder = common_folder(tmp_path_factory)
    os.environ["TRTPOETS_CACHE"] = str(folder / "cache")
    os.environ["TRTPOETS_KEY"] = str(folder / "key")
    for name in ("cache", "code"):
        (folder / name).mkdir(exist_ok=True)
    os.environ["PAPER_CODE"] = str(folder / "code")


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_reaches_programs() -> None:
    """A shell's job in the background ignores Ctrl-C, and so would all that the tests start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_searched_for_among_new_objects() -> None:
    """TensorFlow's objects live on: to walk through them at each collection takes most of the time of some tests."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _pictures_are_drawn_once() -> None:
    """Pages of the same numbers show the same pictures, and drawing them takes most of the time of a page."""
    from trtpoets.reporting import drawing, plots, speed_plots

    drawn: dict[tuple[Any, ...], str] = {}

    def once(name: str, height: float, draw: Any) -> str:
        values = repr([cell.cell_contents for cell in draw.__closure__ or ()])
        blocked = "matplotlib" in sys.modules and sys.modules["matplotlib"] is None
        if blocked or " at 0x" in values:  # an object's address may be that of an earlier one
            return drawing.svg(name, height, draw)
        key = (name, height, draw.__code__, values)
        if key not in drawn:
            drawn[key] = drawing.svg(name, height, draw)
        return drawn[key]

    for module in (plots, speed_plots):
        setattr(module, "svg", once)  # noqa: B010


@pytest.fixture(scope="session")
def _fragments() -> Iterator[list[str]]:
    """Collect the hints of all errors that the package makes in this process and that are fragments of commands."""
    from tests.support.hints import fragment_in
    from trtpoets.core.errors import TrtPoetsError

    fragment_in("")  # imports the commands now, and not while a test makes an error
    found: list[str] = []
    create = TrtPoetsError.__init__

    def noting(error: TrtPoetsError, *values: Any, **named: Any) -> None:
        create(error, *values, **named)
        if fragment_in(error.hint):
            found.append(f"{error.code}: {error.hint}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrtPoetsError, "__init__", noting)
        yield found


@pytest.fixture(autouse=True)
def _no_hint_is_a_fragment(_fragments: list[str]) -> Iterator[None]:
    _fragments.clear()
    yield
    assert not _fragments


@pytest.fixture(scope="session")
def small_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Untrained weights of the smallest backbone: enough to tell colours apart."""
    return made_once(tmp_path_factory, "weights", _save_small_weights) / "small.weights.h5"


def _save_small_weights(folder: Path) -> None:
    from trtpoets.core.optional import tensorflow

    tf = tensorflow()
    tf.keras.utils.set_random_seed(3)
    network = tf.keras.applications.MobileNet(input_shape=(128, 128, 3), alpha=0.25, weights=None)
    random = np.random.default_rng(3)
    for layer in network.layers:
        if layer.get_weights() and "bn" not in layer.name:
            kernel, *rest = layer.get_weights()
            taps = kernel.size // kernel.shape[2 if "dw" in layer.name else -1]  # keeps the signal's size, as He et al.
            # Without outliers, INT8 reaches its target at once, and no layers need to be tried in FP32.
            limit = (6 / taps) ** 0.5
            layer.set_weights([random.uniform(-limit, limit, kernel.shape), *rest])
    network.save_weights(folder / "small.weights.h5")


@pytest.fixture(scope="session")
def small_photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes of 30 photos. Tests copy what they change."""
    labels = ("ant", "bée 🐝", "cow's")
    return made_once(tmp_path_factory, "photos", lambda folder: photo_folder(folder, dict.fromkeys(labels, 30)))


def small_config(weights: Path, **head: Any) -> RunConfig:
    """How the runs called "small" are made."""
    from trtpoets.convert.int8.calibration import CalibrationConfig, Method
    from trtpoets.core.training import HeadConfig
    from trtpoets.judge.bench.benchmark import BenchConfig
    from trtpoets.pipeline.retrain import RetrainConfig
    from trtpoets.pipeline.run import RunConfig

    return RunConfig(
        retrain=RetrainConfig(backbone=SMALL, weights=weights, head=HeadConfig(**{"steps": 100, **head})),
        calibration=CalibrationConfig(photos=16, method=Method.MSE),  # AUTO takes as long for each of its methods
        # With several threads, most of the CPU time goes to threads that wait for work.
        bench=BenchConfig(batches=(1,), min_seconds=0.1, warmup_seconds=0.05, rounds=3, threads=1),
    )


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory, small_photos: Path, small_weights: Path) -> Path:
    """The engines folder of a run called "small" that was trained and exported, but not quantised."""
    import trtpoets

    def make(engines: Path) -> None:
        trtpoets.retrain(small_photos, "small", small_config(small_weights).retrain, engines=engines)
        trtpoets.export("small", engines=engines)

    return made_once(tmp_path_factory, "exported", make)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, exported: Path, small_photos: Path, small_weights: Path) -> Path:
    """The engines folder after a complete run called "small", which continued from `exported`."""
    import trtpoets

    def make(engines: Path) -> None:
        shutil.copytree(exported, engines, dirs_exist_ok=True)
        trtpoets.run(small_photos, "small", small_config(small_weights), engines=engines)

    return made_once(tmp_path_factory, "finished", make)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """A fake GPU in place of the driver, pycuda and TensorRT's runtime; nothing of ours may be left on it."""
    from tests.fakes.gpu import FakeGpu, nothing_left
    from tests.support.tiny import tiny_spec

    fake = FakeGpu(tiny_spec())
    fake.install(monkeypatch)
    with nothing_left(fake):
        yield fake


@pytest.fixture
def rtx() -> None:
    """Skips a test without TensorRT-RTX."""
    pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Jetson bundle of the tiny network. A test that changes it takes `bundle`."""
    from tests.fakes.board_bundle import paper_bundle

    return paper_bundle(tmp_path_factory.mktemp("bundle") / "tiny-jetson")


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of `tiny_bundle` for one test."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "tiny-jetson"))


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`child(behaviour)`: from now on "tensorrt" is a builder of Python, here and in the child process."""
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    from trtpoets.device.gpu import libcuda

    monkeypatch.setattr(libcuda, "gpus", lambda: (libcuda.Gpu("Paper GPU", (8, 6), 8 << 30),))
    monkeypatch.setattr(libcuda, "cuda_version", lambda: "12.6")
    pid_file = tmp_path / "pid"

    def choose(behaviour: str, version: str = "10.3", **more: Any) -> Path:
        (folder / "tensorrt.py").write_text(
            f"import tests.fakes.tensorrt_builder as fake\nglobals().update(fake.namespace({version!r}, {behaviour!r}, "
            f"{str(pid_file)!r}, **{more!r}))\n"
        )
        return pid_file

    yield choose
    sys.modules.pop("tensorrt", None)
