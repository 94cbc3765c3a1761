"""A run of the tiny network as its stages leave it, without training: enough to make bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.photos import photo_folder
from tests.support.tiny import tiny_graph, tiny_spec
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, Ranges, calibration_from_photos
from trtpoets.core.files import sha256_of_file
from trtpoets.core.serialization import to_json
from trtpoets.core.types import ModelSpec, OnnxModel, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_details, seal_card
from trtpoets.pipeline.artefacts import classifier_identity, dataset_in
from trtpoets.pipeline.result_status import (
    artefacts_in,
    evaluation_key,
    groups_to_judge,
    identities,
    photos_to_judge,
    recorded,
)
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder

RECOMMENDED = {"precision": "int8", "why": "it answers like TensorFlow"}


def bundle_run(
    folder: Path, precisions: tuple[Precision, ...] = tuple(Precision), opset: int = 17, **notes: Any
) -> Workspace:
    """engines/tiny below `folder`: photos, classifier, ONNX files, ranges, and an up-to-date evaluation."""
    space = Workspace(folder / "engines", "tiny")
    photos = photo_folder(folder / "photos", dict.fromkeys(tiny_spec().labels, 12), size=(24, 24))
    dataset = dataset_from_folder(photos, DatasetConfig(validation_percent=20, test_percent=40))
    seal_card(space.dataset, key="photos", files=[], details=dataset.document)
    (space.classifier / "saved_model").mkdir(parents=True)
    for name in ("classifier.keras", "saved_model/saved_model.pb"):
        (space.classifier / name).write_bytes(b"not looked at")
    (space.classifier / "model.json").write_text(tiny_spec().to_json())
    lineage = {"weights_id": tiny_spec().weights_id, "dataset": None}
    seal_card(card_of(space.classifier), key="classifier", files=[space.classifier], details=lineage)
    fp32 = OnnxModel(space.onnx(Precision.FP32), Precision.FP32, tiny_spec())
    for precision in precisions:
        _onnx(space, precision, opset, {"recommended": RECOMMENDED, "in_float": {}, **notes})
        if precision is Precision.FP32:
            (ranges,) = calibration_from_photos(
                fp32, dataset.in_split(Split.TRAIN), CalibrationConfig(method=Method.MINMAX)
            ).by_method
            seal_card(space.ranges, key="ranges", files=[], details=ranges)
    evaluated(space, {"evaluations": [], "skipped": []})
    return space


def evaluated(space: Workspace, details: dict[str, Any]) -> None:
    """Write an evaluation of all existing artefacts."""
    photos = photos_to_judge(space)
    contents, groups = identities(space, artefacts_in(space)), groups_to_judge(space, photos)
    judged = {"groups": groups, "judged": to_json(recorded(contents, photos))}
    key = evaluation_key(contents, photos, groups)
    seal_card(space.evaluation, key=key, files=[], details={**details, **judged})


def seal_lineage(space: Workspace, key: str) -> None:
    """Write the cards of the classifier and of fp32.onnx again, for tests that replace the classifier."""
    weights = ModelSpec.from_json((space.classifier / "model.json").read_text(), "model.json").weights_id
    lineage = {"weights_id": weights, "dataset": None}
    seal_card(card_of(space.classifier), key=key, files=[space.classifier], details=lineage)
    fp32 = space.onnx(Precision.FP32)
    seal_card(card_of(fp32), key="fp32", files=[fp32], details={"made_from": classifier_identity(space)})


def _onnx(space: Workspace, precision: Precision, opset: int, notes: dict[str, Any]) -> None:
    path = space.onnx(precision)
    model = tiny_graph(precision)
    model.opset_import[0].version = opset
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node{number}"
    path.write_bytes(model.SerializeToString(deterministic=True))
    source = classifier_identity(space) if precision is Precision.FP32 else sha256_of_file(space.onnx(Precision.FP32))
    details: dict[str, Any] = {"made_from": source}
    if precision is not Precision.FP32:
        details["dataset"] = dataset_in(space).hash
    if precision is Precision.INT8:
        ranges = open_details(space.ranges, Ranges)
        assert ranges is not None
        details |= {"notes": notes, "calibration": {"hash": ranges.hash}}
    seal_card(card_of(path), key=precision.value, files=[path], details=details)
