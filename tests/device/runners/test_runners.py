"""The contract of all runners; engines run on the fake GPU, which checks the rules of CUDA and TensorRT."""

from __future__ import annotations

import hashlib
import logging
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes.engine import expected_scores, paper_engine
from tests.fakes.gpu import TICK, CudaError, FakeDriver, FakeGpu, nothing_left
from tests.fakes.tensorrt_runtime import VERSION
from tests.support.tiny import tiny_classifier, tiny_onnx, tiny_photos, tiny_spec, tiny_tflite
from trtpoets.core.errors import BadArtefact, BadInput, MissingArtefact, RunFailed
from trtpoets.core.runner_id import Library
from trtpoets.core.types import Classifier, Engine, Flavour, ModelSpec, Precision, TfliteModel
from trtpoets.device.build.engine_card import platform_name
from trtpoets.device.runners import Way, open_runner
from trtpoets.device.runners.base import Runner, Ticket, TimedRunner, pipelined
from trtpoets.device.runners.fake import FakeRunner
from trtpoets.device.runners.ort import gpu_providers
from trtpoets.device.runners.trt import TensorRtRunner

KINDS = [
    *(
        "fake",
        "tensorflow",
        "tensorflow-cpu",
        "tensorflow-xla",
        "keras-predict",
        "onnxruntime-fp32",
        "onnxruntime-fp16",
    ),
    *("onnxruntime-int8", "tflite-fp32", "tflite-int8", "tensorrt-fp16", "rtx-fp16"),
]
WAYS = {
    "tensorflow": Way.PLAIN,
    "tensorflow-cpu": Way.CPU,
    "tensorflow-xla": Way.XLA,
    "keras-predict": Way.KERAS,
}


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    pytest.importorskip("tensorflow")
    return tiny_classifier(tmp_path_factory.mktemp("classifier"))


@pytest.fixture(scope="session")
def tflite_models(classifier: Classifier, tmp_path_factory: pytest.TempPathFactory) -> dict[str, TfliteModel]:
    folder = tmp_path_factory.mktemp("tflite")
    return {p.value: tiny_tflite(folder, classifier, p) for p in (Precision.FP32, Precision.INT8)}


@pytest.fixture(params=KINDS)
def make(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Runner]]:
    """How to make the runner under test; afterwards nothing of it may be left on the GPU."""
    name = request.param
    kind, _, precision = name.partition("-")
    if kind == "fake":
        yield lambda: FakeRunner(tiny_spec())
    elif name in WAYS:
        found = request.getfixturevalue("classifier")
        if name == "tensorflow-cpu" and pytest.importorskip("tensorflow").config.list_physical_devices("GPU"):
            pytest.skip("TensorFlow may use the GPU in this process already")
        yield lambda: open_runner(found, way=WAYS[name])
    elif kind == "onnxruntime":
        pytest.importorskip("onnxruntime")
        model = tiny_onnx(tmp_path / "tiny.onnx", Precision(precision))
        yield lambda: open_runner(model)
    elif kind == "tflite":
        converted = request.getfixturevalue("tflite_models")[precision]
        yield lambda: open_runner(converted)
    else:
        gpu = FakeGpu(tiny_spec())
        gpu.install(monkeypatch, rtx=kind == "rtx")
        engine = paper_engine(tmp_path, Flavour(kind))
        with nothing_left(gpu):
            yield lambda: open_runner(engine)


@pytest.mark.parametrize("count", [1, 3, 33])
def test_scores_have_their_shape_and_sum_to_one(make: Callable[[], Runner], count: int) -> None:
    with make() as runner:
        scores = runner.infer(tiny_photos(count))
    assert scores.shape == (count, 3) and scores.dtype == np.float32
    assert np.allclose(scores.sum(axis=1), 1, atol=2e-3)


def test_a_photo_gets_the_same_scores_in_any_batch(make: Callable[[], Runner]) -> None:
    photos = tiny_photos(11)
    with make() as runner:
        together = runner.infer(photos)
        one_by_one = np.concatenate([runner.infer(photos[i : i + 1]) for i in range(11)])
    assert np.allclose(together, one_by_one, atol=2e-3)
    assert np.ptp(together, axis=0).max() > 1e-4, "the scores must depend on the photo"


def test_scores_stay_as_they_are(make: Callable[[], Runner]) -> None:
    with make() as runner:
        first = runner.infer(tiny_photos(4, seed=1))
        kept = first.copy()
        for seed in range(2, 6):
            runner.infer(tiny_photos(4, seed=seed))
    assert np.array_equal(first, kept)
    assert first.flags.writeable


def test_the_name_is_the_reports(make: Callable[[], Runner], request: pytest.FixtureRequest) -> None:
    runner = make()
    assert runner.name == runner.identity.name
    # The paper engines have other batch sizes than the default.
    assert replace(runner.identity, variant=()).name == request.node.callspec.params["make"]
    assert make().spec == tiny_spec()


@pytest.mark.parametrize(
    "photos",
    [
        np.zeros((2, 16, 16, 3), np.float32),
        np.zeros((2, 3, 16, 16), np.uint8),
        np.zeros((2, 16, 20, 3), np.uint8),
        np.zeros((16, 16, 3), np.uint8),
        np.zeros((0, 16, 16, 3), np.uint8),
    ],
    ids=["float", "channels first", "too wide", "one photo", "none"],
)
def test_wrong_photos_are_refused(make: Callable[[], Runner], photos: np.ndarray) -> None:
    with make() as runner:
        with pytest.raises(BadInput) as caught:
            runner.infer(photos)
        assert caught.value.message == (
            f"photos for tiny must be uint8 (N, 16, 16, 3), not {photos.dtype} {photos.shape}"
        )
        assert runner.infer(tiny_photos(1)).shape == (1, 3), "a refused batch must not break the runner"


def test_a_runner_that_is_not_entered_says_so(make: Callable[[], Runner]) -> None:
    runner = make()
    for _ in range(2):
        with pytest.raises(RunFailed, match="was used before it was entered"):
            runner.infer(tiny_photos(1))
        with runner:
            pass


def test_a_runner_can_be_entered_again(make: Callable[[], Runner]) -> None:
    runner, photos = make(), tiny_photos(2)
    with runner:
        first = runner.infer(photos)
    with runner:
        assert np.array_equal(runner.infer(photos), first)


def test_nothing_is_left_when_the_body_raises(make: Callable[[], Runner]) -> None:
    runner = make()
    with pytest.raises(ZeroDivisionError), runner:
        runner.infer(tiny_photos(2))
        raise ZeroDivisionError
    with pytest.raises(RunFailed):
        runner.infer(tiny_photos(1))


def test_a_worker_thread_can_infer(make: Callable[[], Runner]) -> None:
    photos, answers = tiny_photos(5), []
    with make() as runner:
        expected = runner.infer(photos)
        threads = [threading.Thread(target=lambda: answers.append(runner.infer(photos))) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(answers) == 3 and all(np.allclose(answer, expected, atol=1e-6) for answer in answers)


def test_photos_that_are_not_contiguous(make: Callable[[], Runner]) -> None:
    photos = tiny_photos(8)
    with make() as runner:
        assert np.allclose(runner.infer(photos[::2]), runner.infer(photos[::2].copy()), atol=1e-6)


def times(runner: Runner) -> int:
    """How often slots and buffers are used again. Keras has none, and takes a tenth of a second for each batch."""
    return 1 if runner.identity.library is Library.KERAS else 3


def test_batches_are_collected_in_any_order(make: Callable[[], Runner]) -> None:
    """More batches than slots; photos may change after submitting, and scores stay unchanged."""
    batches = [tiny_photos(count, seed=count) for count in (1, 4, 3, 4, 20, 2)]
    with make() as runner:
        expected = [runner.infer(photos) for photos in batches]
        for _ in range(times(runner)):
            tickets = []
            for photos in batches:
                given = photos.copy()
                tickets.append(runner.submit(given))
                given[:] = 0
            found = {number: runner.collect(tickets[number]) for number in (5, 0, 4, 1, 2, 3)}
            runner.infer(batches[0])
            assert all(np.allclose(found[number], expected[number], atol=1e-6) for number in found)
        with pytest.raises(RunFailed, match=r"the ticket for .* was collected"):
            runner.collect(tickets[0])
        with pytest.raises(RunFailed, match=r"the ticket for .* is another runner's"):
            runner.collect(Ticket(object(), found[0]))
        with pytest.raises(BadInput):
            runner.submit(np.zeros((2, 16, 20, 3), np.uint8))


def test_photos_are_written_into_the_runners_memory(make: Callable[[], Runner]) -> None:
    photos = tiny_photos(7)
    with make() as runner:
        expected = runner.infer(photos)
        for _ in range(times(runner)):
            first, second = runner.input_buffer(4), runner.input_buffer(3)
            assert (first.shape, first.dtype) == ((4, 16, 16, 3), np.uint8)
            first[:] = photos[:4]
            other = runner.infer(photos[4:6])  # with photos of others in between
            second[:] = photos[4:]
            assert np.allclose(other, expected[4:6], atol=1e-6)
            ticket = runner.submit(first[:3])  # not all could be decoded
            assert np.allclose(runner.infer(second), expected[4:], atol=1e-6)
            assert np.allclose(runner.collect(ticket), expected[:3], atol=1e-6)
            del first, second
        with pytest.raises(BadInput, match="the buffer must be for at least 1 photo, not 0"):
            runner.input_buffer(0)


def test_a_pipeline_keeps_the_order(make: Callable[[], Runner]) -> None:
    batches = [tiny_photos(3, seed=seed) for seed in range(5)]
    with make() as runner:
        found = list(pipelined(runner, iter(batches)))
        assert all(
            np.allclose(scores, runner.infer(photos), atol=1e-6) for scores, photos in zip(found, batches, strict=True)
        )
        assert list(pipelined(runner, [])) == []


def test_a_runner_that_was_left_gives_nothing(make: Callable[[], Runner]) -> None:
    runner = make()
    with runner:
        ticket = runner.submit(tiny_photos(2))
        runner.collect(ticket)
        left = runner.submit(tiny_photos(2))
    if isinstance(runner, TensorRtRunner):
        photo = tiny_photos(1)
        for ask in (lambda: runner.collect(left), lambda: runner.submit(photo), lambda: runner.input_buffer(1)):
            with pytest.raises(RunFailed, match="before it was entered"):
                ask()
        with runner, pytest.raises(RunFailed, match="older than its last entering"):
            runner.collect(left)


def test_every_format_answers_alike(
    classifier: Classifier, tflite_models: dict[str, TfliteModel], tmp_path: Path
) -> None:
    photos = tiny_photos(16)
    with open_runner(classifier) as baseline:
        expected = baseline.infer(photos)
    for precision, tolerance in [(Precision.FP32, 1e-5), (Precision.FP16, 0.01), (Precision.INT8, 0.05)]:
        with open_runner(tiny_onnx(tmp_path / f"{precision.value}.onnx", precision)) as runner:
            assert abs(runner.infer(photos) - expected).max() < tolerance, precision
    for precision, tolerance in [(Precision.FP32, 1e-5), (Precision.INT8, 0.05)]:
        with open_runner(tflite_models[precision.value]) as runner:
            assert abs(runner.infer(photos) - expected).max() < tolerance, precision


# TensorFlow and ONNX Runtime


def test_a_classifier_without_its_saved_model(tmp_path: Path) -> None:
    with pytest.raises(MissingArtefact, match="has no SavedModel"), open_runner(Classifier(tmp_path, tiny_spec())):
        pass


def test_a_damaged_saved_model(tmp_path: Path) -> None:
    pytest.importorskip("tensorflow")
    (tmp_path / "saved_model").mkdir()
    (tmp_path / "saved_model" / "saved_model.pb").write_bytes(b"not a graph")
    with pytest.raises(BadArtefact, match="TensorFlow can't load"), open_runner(Classifier(tmp_path, tiny_spec())):
        pass


def test_an_onnx_file_that_runtime_refuses(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    model.path.write_bytes(b"\x08\x08garbage")
    with pytest.raises(BadArtefact, match="ONNX Runtime can't open"), open_runner(model):
        pass


def test_threads_come_too_late(classifier: Classifier, caplog: pytest.LogCaptureFixture) -> None:
    with open_runner(classifier) as first:
        first.infer(tiny_photos(1))
    with caplog.at_level(logging.WARNING), open_runner(classifier, threads=1) as runner:
        runner.infer(tiny_photos(1))
    assert "its number of threads can't be changed" in caplog.text


def test_a_provider_that_does_not_load(tmp_path: Path) -> None:
    model = tiny_onnx(tmp_path / "tiny.onnx")
    runner = open_runner(model, way=Way.CUDA)
    assert runner.name == "onnxruntime-cuda-fp32"
    # This ONNX Runtime has no CUDA; one that has, but no GPU, falls back just as silently.
    with (
        pytest.raises(RunFailed, match="would run with CPUExecutionProvider, because CUDAExecutionProvider can't"),
        runner,
    ):
        pass


def test_providers_that_are_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setitem(sys.modules, "onnxruntime", SimpleNamespace(get_available_providers=lambda: there))
    assert gpu_providers() == ["cuda", "tensorrt"]
    there[:2] = ["AzureExecutionProvider"]
    assert gpu_providers() == []
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert gpu_providers() == []


def test_the_cpu_alone_where_the_gpu_is_in_use(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def in_use(devices: list[Any], kind: str) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", in_use)
    with pytest.raises(RunFailed, match="already uses the GPU in this process"), open_runner(classifier, way=Way.CPU):
        pass


def test_ways_belong_to_their_artefacts(tmp_path: Path, classifier: Classifier) -> None:
    for artefact, way in ((classifier, Way.CUDA), (tiny_onnx(tmp_path / "tiny.onnx"), Way.KERAS)):
        with pytest.raises(ValueError, match=f"can't be run by {way.value}"):
            open_runner(artefact, way=way)


def test_a_classifier_without_its_keras_file(tmp_path: Path) -> None:
    runner = open_runner(Classifier(tmp_path, tiny_spec()), way=Way.KERAS)
    with pytest.raises(MissingArtefact, match=r"classifier\.keras is not there"), runner:
        pass
    (tmp_path / "classifier.keras").write_bytes(b"not a model")
    with pytest.raises(BadArtefact, match="Keras can't load"), runner:
        pass


# FakeRunner


def test_fake_scores_of_ones_own() -> None:
    spec = tiny_spec()
    with FakeRunner(spec, lambda photos: np.tile([0.5, 0.25, 0.25], (len(photos), 1)), delay_seconds=0.01) as runner:
        assert runner.infer(tiny_photos(2)).tolist() == [[0.5, 0.25, 0.25]] * 2
    with FakeRunner(spec, lambda photos: np.ones((1, 2))) as wrong, pytest.raises(RunFailed, match=r"\(1, 2\)"):
        wrong.infer(tiny_photos(2))
    with pytest.raises(BadInput, match="the delay must be at least 0 seconds, not -1"):
        FakeRunner(spec, delay_seconds=-1)


def test_fake_scores_have_any_number_of_classes() -> None:
    spec = ModelSpec("many", "none", tiny_spec().preprocess, tuple(f"class {i}" for i in range(2000)), "w")
    with FakeRunner(spec) as runner:
        assert runner.infer(tiny_photos(2)).shape == (2, 2000)


# Engines


@pytest.fixture
def one_context(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeGpu]:
    """A library before 10.1, which allows one execution context."""
    found = FakeGpu(tiny_spec(), one_context=True)
    found.install(monkeypatch)
    with nothing_left(found):
        yield found


def calls(gpu: FakeGpu) -> list[str]:
    """What was called since the last look, beside making the context current."""
    found = [call for call in gpu.journal if call.partition(" ")[0] not in ("push", "pop")]
    gpu.journal.clear()
    return found


def test_a_batch_is_captured_with_its_copies_at_the_second_time(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(4)
    copies = ["upload", "execute", "download"]
    with open_runner(paper_engine(tmp_path)) as runner:
        gpu.journal.clear()
        runner.infer(photos)
        new = ["new context", "context memory", "shape 4", "address of photos", "address of scores"]
        assert calls(gpu) == [*new, *copies, "synchronize"]
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        # The fake notes work when it is queued: what is captured shows, though nothing of it runs.
        capture = ["begin capture", *copies, "end capture", "instantiate", "destroy graph"]
        assert calls(gpu) == [*capture, "launch", "synchronize"]
        other = tiny_photos(4, seed=9)
        assert np.allclose(runner.infer(other), expected_scores(other)), "a graph must work on the new photos"
        assert calls(gpu) == ["launch", "synchronize"]
        runner.infer(photos[:2])
        runner.infer(photos[:2])
        calls(gpu)
        for count in (4, 2, 4):
            assert np.allclose(runner.infer(photos[:count]), expected_scores(photos[:count]))
        assert calls(gpu) == ["launch", "synchronize"] * 3, "each size has a context and a graph of its own"


def test_with_one_context_a_graph_is_of_the_computing_and_goes_with_its_size(
    one_context: FakeGpu, tmp_path: Path
) -> None:
    gpu, photos = one_context, tiny_photos(4)
    with open_runner(paper_engine(tmp_path)) as runner:
        assert runner.slots == 1
        gpu.journal.clear()
        runner.infer(photos)
        new = ["shape 4", "address of photos", "address of scores"]
        assert calls(gpu) == [*new, "upload", "execute", "download", "synchronize"]
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        capture = ["begin capture", "execute", "end capture", "instantiate", "destroy graph"]
        assert calls(gpu) == [*capture, "upload", "launch", "download", "synchronize"]
        runner.infer(photos[:2])
        assert calls(gpu)[:2] == ["destroy executable", "shape 2"]


@pytest.mark.parametrize("count", [20, 9, 33])
def test_sizes_that_alternate_are_not_captured_again_and_again(
    one_context: FakeGpu, tmp_path: Path, count: int
) -> None:
    gpu, photos = one_context, tiny_photos(count)
    with open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(70):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        calls(gpu)
        for _ in range(20):
            runner.infer(photos)
        captures = calls(gpu).count("begin capture")
        assert captures == 0 if count < 33 else captures <= 1, "three replays don't pay for making a graph"
        for _ in range(100):
            runner.infer(photos[:8])
        assert calls(gpu).count("begin capture") == 1, "a size that stays is captured in the end"


def test_a_graph_that_pays_is_made_at_once(one_context: FakeGpu, tmp_path: Path) -> None:
    gpu = one_context
    with open_runner(paper_engine(tmp_path)) as runner:
        for count in (1, 2, 4, 8) * 3:
            calls(gpu)
            for _ in range(6):
                runner.infer(tiny_photos(count))
            found = calls(gpu)
            assert (found.count("execute"), found.count("begin capture"), found.count("launch")) == (2, 1, 5)


def test_a_runner_without_graphs(gpu: FakeGpu, tmp_path: Path) -> None:
    with TensorRtRunner(paper_engine(tmp_path), graphs=False) as runner:
        for _ in range(4):
            _, timing = runner.infer_timed(tiny_photos(2))
            assert timing.graph is False
    assert "begin capture" not in gpu.journal


def test_nothing_is_allocated_and_little_is_called_for_a_batch(gpu: FakeGpu, tmp_path: Path) -> None:
    with open_runner(paper_engine(tmp_path)) as runner:
        runner.infer(tiny_photos(4))
        runner.infer(tiny_photos(4))
        gpu.journal.clear()
        runner.infer(tiny_photos(4))
        assert gpu.journal == ["push driver", "launch", "synchronize", "pop driver"]


def test_a_failed_capture_is_told_once_and_the_runner_goes_on(
    gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    gpu.fail_capture = True
    photos = tiny_photos(3)
    with caplog.at_level(logging.WARNING), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
    why = "cuStreamEndCapture failed: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"
    assert [record.message for record in caplog.records] == [
        f"running with a CUDA graph of the computing alone: {why}",
        f"running without a CUDA graph: {why}",
    ]


def test_copies_that_cannot_be_captured(gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    gpu.fail_captured_copy = True
    photos, why = tiny_photos(4), "cuMemcpyAsync failed: operation not permitted when stream is capturing"
    with caplog.at_level(logging.WARNING), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
        calls(gpu)
        runner.infer(photos)
        assert calls(gpu) == ["upload", "launch", "download", "synchronize"]
    assert [record.message for record in caplog.records] == [f"running with a CUDA graph of the computing alone: {why}"]


def test_an_enqueue_that_cannot_be_captured(gpu: FakeGpu, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Engines with loops or weight streaming fail only during capture."""
    gpu.fail_captured_execute = True
    photos = tiny_photos(3)
    with caplog.at_level(logging.WARNING), open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(4):
            assert np.allclose(runner.infer(photos), expected_scores(photos))
    assert [record.message for record in caplog.records] == [
        "running with a CUDA graph of the computing alone: TensorRT 10.3.0 can't run the engine: it gave no reason",
        "running without a CUDA graph: TensorRT 10.3.0 can't run the engine: it gave no reason",
    ]


@pytest.mark.parametrize(("count", "sizes"), [(8, [8]), (9, [8, 1]), (20, [8, 8, 4]), (1, [1])])
def test_large_batches_go_in_pieces(one_context: FakeGpu, tmp_path: Path, count: int, sizes: list[int]) -> None:
    gpu, photos = one_context, tiny_photos(count)
    with open_runner(paper_engine(tmp_path)) as runner:
        gpu.journal.clear()
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert gpu.journal.count("upload") == len(sizes)
        shapes = [call for call in gpu.journal if call.startswith("shape")]
        changes = [size for before, size in zip([8, *sizes], sizes, strict=False) if size != before]
        assert shapes == [f"shape {size}" for size in changes], "a new runner is set up for its largest batch"


def test_small_batches_are_filled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec(), batch=(4, 4, 8))
    gpu.install(monkeypatch)
    photos = tiny_photos(2)
    with nothing_left(gpu), open_runner(paper_engine(tmp_path, batch=(4, 4, 8))) as runner:
        assert np.allclose(runner.infer(photos), expected_scores(photos))
        assert "shape 4" in gpu.journal


def test_rtx_captures_by_itself_and_keeps_its_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    cache = engine.path.with_name(f"{engine.path.name}.{VERSION}-sm86-paper-gpu.runtime-cache")
    with nothing_left(gpu):
        with open_runner(engine) as runner:
            for _ in range(3):
                runner.infer(tiny_photos(2))
        assert "begin capture" not in gpu.journal
        assert (gpu.cache_in, cache.read_bytes()) == (None, b"compiled kernels")
        written = cache.stat().st_mtime_ns
        with open_runner(engine):
            assert gpu.cache_in == b"compiled kernels"
        assert cache.stat().st_mtime_ns == written, "an unchanged cache is not written again"


def test_a_foreign_runtime_cache_is_warned_about(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    gpu.cache_accepted = gpu.cache_taken = False
    engine = paper_engine(tmp_path, Flavour.RTX)
    gpu.cache_out = b"of another release"
    with open_runner(engine):
        pass
    with nothing_left(gpu), caplog.at_level(logging.WARNING), open_runner(engine) as runner:
        runner.infer(tiny_photos(1))
    assert "the runtime cache is from another GPU or library" in caplog.text
    assert "kernels are compiled at every start" in caplog.text


def test_kernels_are_kept_apart_by_library_and_gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    with nothing_left(gpu):
        with open_runner(engine):
            pass
        gpu.cache_out = b"of the other GPU"
        monkeypatch.setattr(FakeDriver, "cuDeviceGetName", lambda self, name, *_: setattr(name, "value", b"RTX (TM) 1"))
        with open_runner(engine):
            assert gpu.cache_in is None
    kept = {file.name: file.read_bytes() for file in engine.path.parent.glob("*.runtime-cache")}
    assert kept == {
        f"{engine.path.name}.{VERSION}-sm86-paper-gpu.runtime-cache": b"compiled kernels",
        f"{engine.path.name}.{VERSION}-sm86-rtx-tm-1.runtime-cache": b"of the other GPU",
    }


def test_a_runtime_cache_that_fails_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    engine = paper_engine(tmp_path, Flavour.RTX)
    engine.path.with_name(f"{engine.path.name}.{VERSION}-sm86-paper-gpu.runtime-cache").mkdir()
    with nothing_left(gpu), caplog.at_level(logging.WARNING), open_runner(engine) as runner:
        runner.infer(tiny_photos(1))
    assert "the runtime cache can't be read, so its kernels are compiled again" in caplog.text
    assert "the runtime cache of this engine could not be saved" in caplog.text


def test_timings(gpu: FakeGpu, tmp_path: Path) -> None:
    photos = tiny_photos(20)
    runner = open_runner(paper_engine(tmp_path))
    assert isinstance(runner, TimedRunner)
    with runner:
        scores, timing = runner.infer_timed(photos)
        assert np.allclose(scores, expected_scores(photos))
        assert (timing.h2d_ms, timing.compute_ms, timing.d2h_ms) == (3 * TICK, 3 * TICK, 3 * TICK), "three pieces"
        assert timing.device_ms == 9 * TICK and timing.graph is False
        assert 0 < timing.enqueue_ms < 1000
    with runner:
        for graph in (False, True, True):
            scores, timing = runner.infer_timed(photos[:2])
            assert timing.graph is graph and timing.compute_ms == TICK
            assert np.allclose(scores, expected_scores(photos[:2]))


def test_two_engines_at_once(gpu: FakeGpu, tmp_path: Path) -> None:
    """Both on one GPU, used alternately and from threads, left in the order of entering."""
    first, second = (open_runner(paper_engine(tmp_path / name)) for name in "ab")
    photos = tiny_photos(5)
    first.__enter__()
    with second:
        for _ in range(3):
            assert np.allclose(first.infer(photos), expected_scores(photos))
            assert np.allclose(second.infer(photos[:2]), expected_scores(photos[:2]))
        with ThreadPoolExecutor(4) as pool:
            jobs = [pool.submit(runner.infer, photos[:3]) for _ in range(8) for runner in (first, second)]
            assert all(np.allclose(job.result(), expected_scores(photos[:3])) for job in jobs)
        first.__exit__(None, None, None)
        assert np.allclose(second.infer(photos), expected_scores(photos))


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.tuples(st.sampled_from(["infer", "timed", "thread", "no run", "no shape"]), st.integers(1, 20))),
    smallest=st.sampled_from([1, 3]),
)
def test_any_order_of_sizes_threads_and_failures(steps: list[tuple[str, int]], smallest: int) -> None:
    gpu = FakeGpu(tiny_spec(), batch=(smallest, 4, 8))
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        gpu.install(patch)
        runner = TensorRtRunner(paper_engine(Path(folder), batch=gpu.batch))
        with nothing_left(gpu), runner, ThreadPoolExecutor(1) as pool:
            for number, (step, count) in enumerate(steps):
                photos = tiny_photos(count, seed=number)
                gpu.fail_execute, gpu.fail_shape = step == "no run", step == "no shape"
                try:
                    if step == "thread":
                        scores = pool.submit(runner.infer, photos).result()
                    else:
                        scores = runner.infer_timed(photos)[0] if step == "timed" else runner.infer(photos)
                except RunFailed:
                    assert step.startswith("no ")
                else:
                    assert np.allclose(scores, expected_scores(photos))


def test_leaving_waits_for_a_thread_that_is_asking(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, leave = threading.Event(), threading.Event()
    real = gpu.finish

    def slow(stream: int) -> None:
        asked.set()
        leave.wait(5)
        real(stream)

    with ThreadPoolExecutor(1) as pool:
        with open_runner(paper_engine(tmp_path)) as runner:
            monkeypatch.setattr(gpu, "finish", slow)
            job = pool.submit(runner.infer, tiny_photos(2))
            assert asked.wait(5)
            threading.Timer(0.05, leave.set).start()
        assert job.result().shape == (2, 3)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tensorrt_version": "10.0.1"}, "was built by tensorrt 10.0.1, but TensorRT 10.3.0 is installed"),
        ({"platform": "linux-aarch64"}, f"was built for linux-aarch64, but this is {platform_name()}"),
        ({"targets": ("sm87",)}, "was built for sm87, but this Paper GPU is sm86"),
        ({"targets": ("sm90+",)}, "was built for sm90+, but this Paper GPU is sm86"),
        ({"targets": ()}, "was built for an unknown GPU, but this Paper GPU is sm86"),
    ],
)
def test_an_engine_for_elsewhere_is_never_loaded(
    gpu: FakeGpu, tmp_path: Path, changes: dict[str, Any], text: str
) -> None:
    engine = paper_engine(tmp_path, **changes)
    with pytest.raises(RunFailed) as caught, open_runner(engine):
        pass
    assert text in caught.value.message
    assert caught.value.hint.startswith("build it again on this machine: trtpoets build tiny --force --engines /")
    assert "new engine" not in gpu.journal


@pytest.mark.parametrize(("targets", "runs"), [(("sm80+",), True), (("sm86", "sm89"), True), (("sm120",), False)])
def test_targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, targets: tuple[str, ...], runs: bool) -> None:
    gpu = FakeGpu(tiny_spec())
    gpu.install(monkeypatch, rtx=True)
    runner = open_runner(paper_engine(tmp_path, Flavour.RTX, targets=targets))
    with nothing_left(gpu):
        if runs:
            with runner:
                runner.infer(tiny_photos(1))
        else:
            with pytest.raises(RunFailed, match="was built for sm120"), runner:
                pass


def test_an_engine_that_changed_since_it_was_opened(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = paper_engine(tmp_path)
    runner = open_runner(engine)
    engine.path.write_bytes(b"plan of another network")
    with pytest.raises(BadArtefact, match="is not the engine that its card describes"), runner:
        pass
    engine.path.unlink()
    with pytest.raises(MissingArtefact, match="is not there"), runner:
        pass
    assert gpu.journal == [], "nothing of an unknown engine may reach the GPU"


def test_an_engine_that_tensorrt_refuses(gpu: FakeGpu, tmp_path: Path) -> None:
    engine = paper_engine(tmp_path)
    engine.path.write_bytes(b"damaged before its card was written")
    changed = replace(engine.card, engine_sha256=hashlib.sha256(engine.path.read_bytes()).hexdigest())
    with pytest.raises(RunFailed) as caught, open_runner(Engine(engine.path, changed)):
        pass
    assert caught.value.message == (
        "TensorRT 10.3.0 can't load the engine: Serialization assertion magicTag == kPLAN_MAGIC_TAG failed"
    )


def test_a_card_that_promises_other_batches(gpu: FakeGpu, tmp_path: Path) -> None:
    with pytest.raises(BadArtefact, match="but its card has"), open_runner(paper_engine(tmp_path, batch=(1, 2, 4))):
        pass


def test_a_full_gpu(gpu: FakeGpu, tmp_path: Path) -> None:
    gpu.fail_memory = True
    with pytest.raises(RunFailed, match="the GPU is out of memory"), open_runner(paper_engine(tmp_path)):
        pass


def test_an_enqueue_that_fails(gpu: FakeGpu, tmp_path: Path) -> None:
    with open_runner(paper_engine(tmp_path)) as runner:
        gpu.fail_execute = True
        with pytest.raises(RunFailed, match=r"TensorRT 10\.3\.0 can't run the engine: it gave no reason"):
            runner.infer(tiny_photos(2))
        gpu.fail_execute = False
        other = tiny_photos(2, seed=5)
        assert np.allclose(runner.infer(other), expected_scores(other)), "the copy of before must not see these photos"
        gpu.fail_execute = True
        with ThreadPoolExecutor(1) as pool, pytest.raises(RunFailed):
            pool.submit(runner.infer, tiny_photos(2)).result()


@pytest.mark.parametrize("one", [True, False])
def test_a_shape_that_is_refused_is_set_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, one: bool) -> None:
    gpu, photos = FakeGpu(tiny_spec(), one_context=one), tiny_photos(4)
    gpu.install(monkeypatch)
    with nothing_left(gpu):
        refuse_a_shape(gpu, tmp_path, photos, 4 if one else 2)


def refuse_a_shape(gpu: FakeGpu, tmp_path: Path, photos: np.ndarray, again: int) -> None:
    with open_runner(paper_engine(tmp_path)) as runner:
        runner.infer(photos)
        gpu.fail_shape = True
        with pytest.raises(RunFailed, match=r"rejects the input shape \(2, 16, 16, 3\)"):
            runner.infer(photos[:2])
        gpu.fail_shape = False
        gpu.journal.clear()
        for count in (2, 4):
            assert np.allclose(runner.infer(photos[:count]), expected_scores(photos[:count]))
        assert f"shape {again}" in gpu.journal, "nobody knows what the refused call has left"


@pytest.mark.parametrize("call", ["cuCtxPushCurrent_v2", "cuGraphLaunch", "cuStreamSynchronize"])
def test_everything_is_freed_when_a_replay_breaks(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    def broken(*_: Any) -> int:
        for queue in gpu.queues.values():
            queue.waiting.clear()
        return 700

    with pytest.raises(RunFailed) as caught, open_runner(paper_engine(tmp_path)) as runner:
        for _ in range(3):
            runner.infer(tiny_photos(2))
        monkeypatch.setattr(FakeDriver, call, broken)
        for slot in runner._resources._slots:  # type: ignore[attr-defined]  # the calls were bound when it was made
            (shot,) = slot.ready.values()
            shot._push = broken if "Push" in call else shot._push
            shot._wait = broken if "Sync" in call else shot._wait
            shot._lane.queue = broken if "Launch" in call else shot._lane.queue
        runner.infer(tiny_photos(2))
    assert caught.value.message.startswith("the GPU failed: ") and "CUDA_ERROR_ILLEGAL_ADDRESS" in caught.value.message


@pytest.mark.parametrize("call", ["memcpy_htod_async", "memcpy_dtoh_async", "Stream.synchronize"])
def test_everything_is_freed_when_the_gpu_breaks(
    gpu: FakeGpu, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, call: str
) -> None:
    """The first error is reported, whatever fails afterwards because of it."""

    def broken(*args: Any) -> None:
        del args  # the stream among them would outlive its context in this frame, which pycuda's C++ does not have
        for queue in gpu.queues.values():
            queue.waiting.clear()
        raise CudaError("an illegal memory access was encountered")

    module = sys.modules["pycuda.driver"]
    with pytest.raises(RunFailed) as caught, TensorRtRunner(paper_engine(tmp_path), graphs=False) as runner:
        runner.infer(tiny_photos(2))
        runner.infer(tiny_photos(2))
        owner = module.Stream if "." in call else module
        monkeypatch.setattr(owner, call.rpartition(".")[2], broken)
        runner.infer_timed(tiny_photos(2))
    assert caught.value.message == "the GPU failed: an illegal memory access was encountered"
    assert runner.name == "tensorrt-fp16.batch1-4-8" and "may not all be free" not in caplog.text


def test_without_a_driver_an_engine_says_so(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    from trtpoets.device.gpu import libcuda

    try:
        libcuda.gpus()
    except RunFailed:
        import tensorrt_rtx

        engine = paper_engine(tmp_path, Flavour.RTX, tensorrt_version=tensorrt_rtx.__version__)
        with pytest.raises(RunFailed, match="NVIDIA driver"), open_runner(engine):
            pass
    else:
        pytest.skip("there is a GPU here")
