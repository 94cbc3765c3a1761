"""The contract of all runners; engines run on the fake GPU, which checks the rules of CUDA and TensorRT."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.fakes.engine import paper_engine
from tests.fakes.gpu import FakeGpu, nothing_left
from tests.support.errors import raises
from tests.support.tiny import tiny_onnx, tiny_photos, tiny_spec, tiny_tflite
from trtpoets.core.errors import BadInput, RunFailed
from trtpoets.core.runner_id import Library
from trtpoets.core.types import Classifier, Flavour, Precision, TfliteModel
from trtpoets.device.runners import Way, open_runner
from trtpoets.device.runners.base import Runner, Ticket, pipelined
from trtpoets.device.runners.fake import FakeRunner
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
        model = request.getfixturevalue("classifier")
        if name == "tensorflow-cpu" and pytest.importorskip("tensorflow").config.list_physical_devices("GPU"):
            pytest.skip("TensorFlow may use the GPU in this process already")
        yield lambda: open_runner(model, way=WAYS[name])
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


WRONG_PHOTOS: dict[str, np.ndarray] = {
    "float": np.zeros((2, 16, 16, 3), np.float32),
    "channels first": np.zeros((2, 3, 16, 16), np.uint8),
    "too wide": np.zeros((2, 16, 20, 3), np.uint8),
    "one photo": np.zeros((16, 16, 3), np.uint8),
    "none": np.zeros((0, 16, 16, 3), np.uint8),
}


def test_wrong_photos_are_refused(make: Callable[[], Runner]) -> None:
    with make() as runner:
        for what, photos in WRONG_PHOTOS.items():
            with raises(BadInput, "TP4076", "tiny", "uint8 (N, 16, 16, 3)", f"{photos.dtype} {photos.shape}"):
                runner.infer(photos)
            assert runner.infer(tiny_photos(1)).shape == (1, 3), f"the refused batch ({what}) must not break the runner"


def test_a_runner_that_is_not_entered_says_so(make: Callable[[], Runner]) -> None:
    runner = make()
    for _ in range(2):
        with raises(RunFailed, "TP4079"):
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
            values = {number: runner.collect(tickets[number]) for number in (5, 0, 4, 1, 2, 3)}
            runner.infer(batches[0])
            assert all(np.allclose(values[number], expected[number], atol=1e-6) for number in values)
        with raises(RunFailed, "TP4074", "was collected"):
            runner.collect(tickets[0])
        with raises(RunFailed, "TP4074", "is another runner's"):
            runner.collect(Ticket(object(), values[0]))
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
        with raises(BadInput, "TP4075", "0"):
            runner.input_buffer(0)


def test_a_pipeline_keeps_the_order(make: Callable[[], Runner]) -> None:
    batches = [tiny_photos(3, seed=seed) for seed in range(5)]
    with make() as runner:
        result = list(pipelined(runner, iter(batches)))
        assert all(
            np.allclose(scores, runner.infer(photos), atol=1e-6) for scores, photos in zip(result, batches, strict=True)
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
            with raises(RunFailed, "TP4079"):
                ask()
        with runner, raises(RunFailed, "TP4074", "older than its last entering"):
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


def test_the_cpu_alone_where_the_gpu_is_in_use(classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    def in_use(devices: list[Any], kind: str) -> None:
        raise RuntimeError("Visible devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_visible_devices", in_use)
    with raises(RunFailed, "TP4089"), open_runner(classifier, way=Way.CPU):
        pass


def test_ways_belong_to_their_artefacts(tmp_path: Path, classifier: Classifier) -> None:
    for artefact, way in ((classifier, Way.CUDA), (tiny_onnx(tmp_path / "tiny.onnx"), Way.KERAS)):
        with pytest.raises(ValueError, match=f"can't be run by {way.value}"):
            open_runner(artefact, way=way)
