"""The section about training."""

from __future__ import annotations

import pytest

from tests.support.fine_tuning import fine_tuning_details
from tests.support.pages import read
from tests.support.printed import printed
from tests.support.report_documents import documents, report_of, train_benchmark
from trtpoets.core.fine_tuning import DistortedTraining, Distortions
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.training import TrainingDetails
from trtpoets.judge.train_benchmark import TrainBenchmark
from trtpoets.reporting.sections.training_section import (
    train_benchmark_parts,
    train_benchmark_section,
    training_section,
)


def test_learning_rates_beside_each_other() -> None:
    content = documents()
    assert "Learning rates" not in read(content).text
    content["train_benchmark"] = train_benchmark()
    reader = read(content)
    text = reader.text.replace("\u00a0", " ")
    assert "measured with 64 photos: 200 on the CPU (190 to 210) and 2,000 on the GPU (1,900 to 2,100)." in text
    assert "0.001 has the lowest cross-entropy on the validation photos, 0.500; 0.01 comes within 5 %." in text
    assert "0.001 cpu 100 80.0 % 0.500 2.0 s" in text
    assert "1000 cpu – – diverged –" in text
    assert "bottlenecks on a GPU TensorFlow finds no GPU on this machine" in text
    labels = [str(figure["aria-label"]) for figure in reader.all("figure")]
    assert "validation cross-entropy by learning rate; at the end 0.001 0.500, 0.01 0.500" in labels


def test_the_section_shows_both_curves_and_the_best_step() -> None:
    section = training_section(report_of(documents()))
    assert section is not None
    assert section.note == (
        "The head of efficientnet_lite0 was trained for 400 steps in 2.5 s; step 200, the best on the "
        "validation photos, was kept."
    )
    assert [alt for _, alt, _ in section.plots] == [
        "accuracy over 400 steps; at the end train 0.900, validation 0.800",
        "cross-entropy over 400 steps; at the end train 0.300, validation 0.500",
    ]
    assert training_section(report_of({})) is None


def test_curves_of_unequal_length_are_not_drawn() -> None:
    content = documents()
    content["training"]["train_accuracy"] = [0.4]
    section = training_section(report_of(content))
    assert section is not None and len(section.plots) == 1


def test_the_terminal_has_the_same_learning_rates() -> None:
    benchmark = from_json(TrainBenchmark, train_benchmark(), "train-benchmark.json")
    (_, _, speeds), (_, _, steps), (_, columns, rates) = train_benchmark_parts(benchmark)
    assert [row[:3] for row in speeds] == [("cpu", "onnxruntime", "200"), ("gpu", "tensorflow", "2,000")]
    assert [row[:4] for row in steps] == [
        ("cpu", "26 of 52", "0.8", "0.75 to 0.81"),
        ("gpu", "26 of 52", "16", "15 to 16.1"),
    ]
    assert [row[5] for row in steps] == ["380 in 7.9 min", "380 in 23.8 s"]
    assert len(columns) == 6 and [row[0] for row in rates] == ["0.001", "0.01", "1000"]
    assert rates[2][2:] == ("–", "–", "diverged", "–")
    assert train_benchmark_section(report_of({})) is None


def test_fine_tuning_is_shown_with_its_curves_and_the_reason() -> None:
    content = documents()
    content["training"]["fine_tuning"] = to_json(fine_tuning_details())
    section = training_section(report_of(content))
    assert section is not None
    text = section.note.replace("\u00a0", " ")
    assert "Afterwards the last 10 of 52 layers of the backbone were trained too, for 20 steps" in text
    assert "step 20 was the best of the last third; to compare the networks, each half of the validation photos" in text
    assert "at the best step of the other. The fine-tuned network is shipped." in text
    assert "On 100 test photos, which decide nothing: 80.0 % frozen, 90.0 % fine-tuned" in text
    assert "10 layers 0.400 and 26 layers 0.500" in text
    assert [alt for _, alt, _ in section.plots][2:] == [
        "fine-tuning: accuracy over 20 steps; at the end train 0.900, validation 0.900",
        "fine-tuning: cross-entropy over 20 steps; at the end train 0.900, validation 0.900",
    ]


def test_distortions_are_named() -> None:
    content = documents()
    own = Distortions(flip_left_right=True)
    content["training"]["distorted"] = to_json(DistortedTraining(own, 4))
    section = training_section(report_of(content))
    assert section is not None
    assert "4 distorted variants of each training photo took part in the training of the head (flip)." in section.note
    content["training"]["distorted"] = to_json(DistortedTraining(Distortions(), 0, why="none is better"))
    section = training_section(report_of(content))
    assert section is not None
    assert section.note.endswith("was kept. Distortions: none is better.")


def test_the_terminal_gives_the_accuracy_after_the_fine_tuning_that_it_includes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = documents()["training"] | {"fine_tuning": to_json(fine_tuning_details()), "test_accuracy": 0.9}
    details = from_json(TrainingDetails, {**content, "test_photos": 30}, "x")
    text = " ".join(printed(capsys, "training", details).split())
    assert text.startswith("The head was trained in 2.5 s; step 200 was kept. Afterwards the last 10 of 52 layers")
    assert text.endswith("The shipped network is right on 90.0 % of 30 test photos.")
