"""The documents that the stages write, from scores that are really evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.runner_ids import runner
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import BatchRange, ModelSpec, Photo, Preprocess, Split
from trtpoets.judge.evaluation import evaluation_from_scores
from trtpoets.reporting.document import report_from_documents
from trtpoets.reporting.model import Documents, Report

LABELS = ("ant", "bee", "cow")


def report_of(documents: Mapping[str, Any]) -> Report:
    """The report of documents that are given as JSON."""
    return report_from_documents(from_json(Documents, documents, "the documents"))


def json_report(documents: Mapping[str, Any]) -> dict[str, Any]:
    """The content of report.json, of documents that are given as JSON."""
    report: dict[str, Any] = to_json(report_of(documents))
    return report


def measurement(runner: str, batch: int, p50: float, speedup: float | None = None, **changes: Any) -> dict[str, Any]:
    row = {
        "runner": runner,
        "batch": batch,
        "count": 200,
        "seconds": 2.0,
        "load_seconds": 1.0,
        "first_ms": 3 * p50,
        "mean_ms": p50,
        "p50_ms": p50,
        "p90_ms": 1.1 * p50,
        "p99_ms": None,
        "photos_per_s": 1000 * batch / p50,
        "cv": 0.03,
        "peak_memory_mib": 321.0,
        "accuracy": 0.9,
        "others": 0.01,
        "valid": True,
        "reason": "",
        "speedup": speedup,
    }
    return {**row, **changes}


def evaluations(
    labels: Sequence[str], per_class: int, photos: Sequence[Photo] | None = None
) -> tuple[list[dict[str, Any]], list[Photo]]:
    """TensorFlow right on all photos but one of the second and one of the third class; INT8 loses three more."""
    shown = list(photos or [])
    if not shown:
        shown = [
            Photo(Path(f"{label}/{i}.jpg"), label, Split.TEST, "0" * 64) for label in labels for i in range(per_class)
        ]
    index = {label: i for i, label in enumerate(labels)}
    truth = np.array([index[photo.label] for photo in shown])
    answers = truth.copy()
    for label in (1, 2):
        answers[np.flatnonzero(truth == label)[:1]] = label - 1
    narrow = answers.copy()
    narrow[np.flatnonzero(truth == 0)[-3:]] = 1

    def scores(chosen: np.ndarray) -> np.ndarray:
        content = np.full((len(truth), len(labels)), 0.2 / len(labels), np.float32)
        content[np.arange(len(truth)), chosen] += 0.8
        return content

    reference = scores(answers)
    runners = {"tensorflow": answers, "onnxruntime-fp16": answers, "onnxruntime-int8": narrow}
    result = [
        evaluation_from_scores(runner(name), scores(item), shown, labels, None if name == "tensorflow" else reference)
        for name, item in runners.items()
    ]
    return [to_json(item) for item in result], shown


def documents(
    labels: Sequence[str] = LABELS, per_class: int = 10, photos: Sequence[Photo] | None = None
) -> dict[str, Any]:
    """All documents of a complete run."""
    preprocess = Preprocess(224, 224, (1 / 127,) * 3, (-1.0,) * 3)
    spec = ModelSpec("insects", "efficientnet_lite0", preprocess, tuple(labels), "w" * 64)
    judged, _ = evaluations(labels, per_class, photos)
    card = {
        "flavour": "rtx",
        "tensorrt_version": "1.7.1",
        "targets": ["sm80+"],
        "compute_capability": None,
        "batch": asdict(BatchRange()),
        "sha256": "e" * 64,
        "bytes": 8 << 20,
        "seconds": 12.5,
    }
    return {
        "spec_value": spec,
        "spec": asdict(spec),
        "dataset": {
            "folder": "photos",
            "counts": {label: {"train": 8 * per_class, "validation": per_class, "test": per_class} for label in labels},
            "left_out": [{"path": "ant/broken.jpg", "reason": "it is empty"}],
            "duplicates": [["ant/1.jpg", "ant/2.jpg"]],
            "contradictions": [],
        },
        "training": {
            "config": {"steps": 400, "seed": 3},
            "steps": [0, 200, 400],
            "train_accuracy": [0.4, 0.8, 0.9],
            "validation_accuracy": [0.3, 0.9, 0.8],
            "train_cross_entropy": [1.2, 0.5, 0.3],
            "validation_cross_entropy": [1.3, 0.4, 0.5],
            "best_step": 200,
            "seconds": 2.5,
        },
        "parity": {"photos": 30, "max_abs": 3e-7, "mean_abs": 1e-8, "worst": None},
        "quantisation": {
            "fp16": {"kept_fp32": {"softmax": "it needs the range"}, "max_abs": 7e-4, "compared": 30},
            "int8": {
                "convolutions": 52,
                "convolutions_int8": 51,
                "products": 1,
                "products_int8": 0,
                "share": 0.991,
                "in_float": {f"node {i}": "why" for i in range(9)},
                "calibration": {"method": "entropy", "per_class": dict.fromkeys(labels, 20)},
            },
        },
        "evaluation": {"evaluations": judged, "skipped": []},
        "benchmark": {
            "measurements": [
                measurement("tensorflow", 1, 10.0, 1.0),
                measurement("onnxruntime-fp16", 1, 4.0, 2.5),
                measurement("tensorflow", 8, 50.0, 1.0),
                measurement("onnxruntime-fp16", 8, 25.0, 2.0),
            ],
            "failures": [{"runner": "rtx-fp16", "batch": None, "why": "died of SIGSEGV"}],
            "config": {"threads": 0},
            "photos": 30,
            "conditions": {"cpu": "a processor", "cores": 2, "time": "2026-01-01T00:00:00+00:00", "versions": {}},
        },
        "engines": [
            {**card, **runner("rtx-fp16").row(), "file": "fp16.rtx.engine"},
            {**card, **runner("rtx-int8").row(), "file": "int8.rtx.engine"},
        ],
        "skipped": [{"what": "running fp16.rtx.engine", "why": "no NVIDIA driver here"}],
    }


def train_benchmark() -> dict[str, Any]:
    """The document of `bench --train`: three learning rates, one of which diverged."""
    curves = {
        "steps": [50, 100],
        "validation_accuracy": [0.7, 0.8],
        "validation_cross_entropy": [0.6, 0.5],
    }
    head = {"device": "cpu", "optimizer": "adam", "seconds": 2.0, "best_step": 100, "validation_accuracy": 0.8}
    step = {"layers": 26, "total": 52, "batch_size": 32, "step_seconds": 0.05, "training_steps": 380}
    return {
        "config": {},
        "bottlenecks": [
            {"device": "cpu", "by": "onnxruntime", "photos": 64, "photos_per_s": 200.4, "low": 190.0, "high": 210.0},
            {"device": "gpu", "by": "tensorflow", "photos": 64, "photos_per_s": 2000.0, "low": 1900.0, "high": 2100.0},
        ],
        "heads": [
            {**head, "learning_rate": 0.001, "validation_cross_entropy": 0.5, "curves": curves},
            {**head, "learning_rate": 0.01, "validation_cross_entropy": 0.51, "curves": curves},
            {"device": "cpu", "optimizer": "adam", "learning_rate": 1000.0, "failed": "went astray"},
        ],
        "fine_tuning": [
            {**step, "device": "cpu", "steps_per_s": 0.8, "low": 0.75, "high": 0.81, "training_seconds": 475.0},
            {**step, "device": "gpu", "steps_per_s": 16.0, "low": 15.0, "high": 16.1, "training_seconds": 23.75},
        ],
        "skipped": [{"what": "bottlenecks on a GPU", "why": "TensorFlow finds no GPU on this machine"}],
        "conditions": {},
    }
