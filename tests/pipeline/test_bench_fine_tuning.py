"""The speed of fine-tuning by device, with a tiny network."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

if find_spec("tensorflow") is None:
    pytest.skip("needs TensorFlow", allow_module_level=True)

from tests.support.errors import raises
from tests.support.fine_tuning import labelled_photos, tiny_network
from trtpoets.core.errors import BadInput, BadPhoto
from trtpoets.core.fine_tuning import FineTuneConfig
from trtpoets.core.progress import silent
from trtpoets.judge.train_benchmark import FineTuningRate, TrainBenchConfig
from trtpoets.pipeline.bench_fine_tuning import _on_device, fine_tuning_rates
from trtpoets.pipeline.extractors import Device
from trtpoets.train.finetune import LabelledPhotos
from trtpoets.train.finetune_layers import weights_hash
from trtpoets.train.networks import Network


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    return labelled_photos(tmp_path)


def _rates(photos: LabelledPhotos, network: Network, unfreeze: str, rounds: int = 2) -> tuple[FineTuningRate, ...]:
    config = TrainBenchConfig(rounds=rounds, steps=3, unfreeze=unfreeze)
    labels = photos.train_labels
    return fine_tuning_rates(lambda: network, photos.train, labels, 2, [Device.CPU], config, silent)


def test_steps_per_second_are_measured_and_change_no_weights(photos: LabelledPhotos) -> None:
    network = tiny_network()
    before = weights_hash(network)
    (rate,) = _rates(photos, network, "2")
    assert (rate.device, rate.layers, rate.total, rate.batch_size) == ("cpu", 2, 3, 32)
    assert 0 < rate.low <= rate.steps_per_s <= rate.high
    assert 0 < rate.step_seconds < 3 / rate.low
    assert rate.training_steps == 120
    assert rate.training_seconds == pytest.approx(120 / rate.steps_per_s)
    assert not rate.mixed_precision
    assert weights_hash(network) == before


def test_progress_counts_the_rounds_of_all_devices(photos: LabelledPhotos) -> None:
    seen: list[tuple[str, int, int]] = []
    config = TrainBenchConfig(rounds=1, steps=1)
    labels = photos.train_labels
    fine_tuning_rates(tiny_network, photos.train, labels, 2, [Device.CPU], config, lambda *state: seen.append(state))
    assert seen == [("fine-tuning, timed", 1, 2), ("fine-tuning, timed", 2, 2)]


def test_more_layers_than_there_are_are_refused(photos: LabelledPhotos) -> None:
    with raises(BadInput, "TP2110", "tiny", "3", "4"):
        _rates(photos, tiny_network(), "4")


def test_a_photo_that_disappears_is_named(photos: LabelledPhotos) -> None:
    photos.train[5].path.unlink()
    with raises(BadPhoto, "TP1125", photos.train[5].path):
        _rates(photos, tiny_network(), "1")


def test_the_operators_of_a_step_are_placed_on_the_device() -> None:
    config = TrainBenchConfig()
    loop = _on_device(tiny_network, Device.CPU, config, FineTuneConfig(unfreeze=config.unfreeze), 2).loop
    operations = loop._step.get_concrete_function().graph.get_operations()
    placed = {operation.device for operation in operations if operation.type in ("Conv2D", "MatMul")}
    assert len(placed) == 1
    assert placed.pop().endswith("CPU:0")
