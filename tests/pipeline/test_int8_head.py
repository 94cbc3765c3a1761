"""Refitting the head of an INT8 file, and the precision that quantize recommends."""

from __future__ import annotations

import logging
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from threadpoolctl import threadpool_limits

from tests.support.photos import photo_folder
from tests.support.small_networks import LABELS, residual_network, saved, spec
from trtpoets.convert.graph.graph_view import GraphView
from trtpoets.convert.graph.last_layer import base_of, last_layer, with_last_layer
from trtpoets.convert.int8.bias_correction import layer_sqnr
from trtpoets.convert.int8.calibration import CalibrationConfig, Method, calibration_photos
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.int8_evaluator import Int8Evaluator
from trtpoets.core.files import sha256_of_file
from trtpoets.core.images import photo_batches
from trtpoets.core.onnx_file import check_onnx, open_session, write_onnx
from trtpoets.core.progress import silent
from trtpoets.core.serialization import from_json, to_json
from trtpoets.core.types import INPUT_NAME, OnnxModel, Precision, Split
from trtpoets.core.workspace import Workspace, card_of, open_card, seal_card
from trtpoets.judge.gate import GateConfig, GateOutcome
from trtpoets.judge.head_notes import HeadNotes
from trtpoets.pipeline import int8_head
from trtpoets.pipeline.artefacts import dataset_in
from trtpoets.pipeline.int8_advice import recommendation, recommended_precision
from trtpoets.pipeline.int8_head import _compared_heads, refitted_head
from trtpoets.pipeline.quantize import _int8, _int8_for_cpu, _Int8Work, _Origin
from trtpoets.reporting.model import Int8Summary, Quantisation, Report
from trtpoets.reporting.sections.int8_section import int8_section
from trtpoets.train.dataset import DatasetConfig, dataset_from_folder
from trtpoets.train.head import Head, head_scores


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photo_folder(tmp_path_factory.mktemp("photos") / "photos", dict.fromkeys(LABELS, 60), size=(40, 40))


def workspace(tmp_path: Path, photos: Path, validation_percent: float = 30) -> Workspace:
    space = Workspace(tmp_path, "small")
    space.folder.mkdir()
    dataset = dataset_from_folder(photos, DatasetConfig(validation_percent, 10))
    seal_card(space.dataset, key=dataset.hash, files=[], details=replace(dataset.document, counts=dataset.counts))
    for name in ("classifier.keras", "saved_model/saved_model.pb"):
        (space.classifier / name).parent.mkdir(parents=True, exist_ok=True)
        (space.classifier / name).write_bytes(b"not read")
    (space.classifier / "model.json").write_text(spec().to_json())
    lineage = {"weights_id": spec().weights_id, "dataset": dataset.hash}
    seal_card(card_of(space.classifier), key="classifier", files=[space.classifier], details=lineage)
    return space


def models(space: Workspace, damage: float) -> tuple[OnnxModel, OnnxModel]:
    """A network that tells the labels apart, and one like it whose features are scaled channel by channel."""
    from onnx import numpy_helper

    proto = residual_network()
    photos = dataset_in(space).in_split(Split.TRAIN)
    pixels = next(photo_batches([photo.path for photo in photos], spec().preprocess, len(photos)))
    features = open_session(base_of(proto, "features")).run(None, {INPUT_NAME: pixels})[0]
    truth = np.array([LABELS.index(photo.label) for photo in photos])
    middle = features.mean(axis=0)
    weights = np.linalg.lstsq(features - middle, 9.0 * (truth[:, None] == np.arange(3)) - 3.0, rcond=1e-3)[0]
    proto = with_last_layer(proto, weights.astype(np.float32), (-middle @ weights).astype(np.float32))
    wide = saved(proto, space.onnx(Precision.FP32))
    narrow = with_last_layer(proto, weights.astype(np.float32), (-middle @ weights).astype(np.float32))
    view = GraphView(narrow)
    factors = np.random.default_rng(3).uniform(1 - damage, 1 + damage, len(weights)).astype(np.float32)
    for name in ("top.weight", "top.bias"):
        value = view.array(name)
        scaled = value * factors.reshape(-1, *[1] * (value.ndim - 1))
        view.constants[name].CopyFrom(numpy_helper.from_array(scaled, name))
    return wide, saved(narrow, space.onnx(Precision.INT8), Precision.INT8)


def test_the_head_is_refitted_to_a_changed_base(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.5)
    before = check_onnx(narrow.path)
    notes = refitted_head(space, wide, narrow)
    assert notes.kept, notes
    assert notes.divergence is not None and notes.agreement is not None and notes.change_high is not None
    assert notes.divergence[1] < notes.divergence[0] / 2
    assert notes.change_high < 0
    assert notes.agreement[1] >= notes.agreement[0]
    dataset = dataset_in(space)
    assert notes.photos == len(dataset.in_split(Split.TRAIN))
    assert notes.validation_photos == len(dataset.in_split(Split.VALIDATION))
    after = check_onnx(narrow.path)
    assert not np.allclose(last_layer(after).weights, last_layer(before).weights)
    restored = with_last_layer(after, last_layer(before).weights, last_layer(before).bias)
    assert restored.graph == before.graph
    assert list(restored.metadata_props) == list(before.metadata_props)
    tested = recommendation(space, wide, narrow, GateConfig(min_agreement=98))
    assert tested.gate is not None
    assert notes.agreement is not None
    assert tested.gate.runners[0].checks[0].measured == notes.agreement[1]


def test_a_published_head_is_fitted_without_labels(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.5)
    published = replace(wide, spec=replace(wide.spec, labels=("tench", "goldfish", "shark")))
    notes = refitted_head(space, published, narrow)
    assert notes.kept, notes
    assert notes.accuracy is None


def test_an_equal_base_keeps_its_head_and_its_file(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0)
    narrow.path.write_bytes(wide.path.read_bytes())
    content = sha256_of_file(narrow.path)
    notes = refitted_head(space, wide, narrow)
    assert not notes.kept
    assert notes.why == "its scores are not significantly closer to the FP32 scores"
    assert sha256_of_file(narrow.path) == content


def test_only_a_significant_loss_of_agreement_rejects_the_head() -> None:
    photos = 200
    features = np.linspace(-3, 3, photos, dtype=np.float32)[:, None]
    exact = Head(np.array([[1.0, -1.0]], np.float32), np.zeros(2, np.float32))
    wanted = head_scores(exact, features)
    blunt = Head(0.5 * exact.weights, exact.bias)
    truth = wanted.argmax(axis=1)

    def judged(shift: float) -> HeadNotes:
        after = Head(exact.weights, np.array([shift, 0], np.float32))
        return _compared_heads(wanted, blunt, after, features, truth, groups, 1.0, 50)

    groups = np.arange(photos)
    assert judged(0.04).kept
    assert judged(0.04).agreement == (1.0, 1 - 1 / photos)
    many = judged(0.4)
    assert many.divergence is not None
    assert many.divergence[1] < many.divergence[0]
    assert (many.kept, many.why) == (False, "it agrees significantly less often with FP32")
    groups = np.arange(photos) // 10  # ten copies of each photo: as many answers less are chance
    assert judged(0.4).kept


def test_too_few_photos_for_a_refit(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos, validation_percent=8)
    wide, narrow = models(space, 0.5)
    content = sha256_of_file(narrow.path)
    notes = refitted_head(space, wide, narrow)
    assert not notes.kept
    assert "validation photos are too few: 30 of each are needed" in notes.why
    assert sha256_of_file(narrow.path) == content


def test_a_graph_without_a_known_last_layer_is_not_changed(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.5)
    proto = check_onnx(narrow.path)
    GraphView(proto).producer["scores"].op_type = "LogSoftmax"
    write_onnx(proto, narrow.path)
    notes = refitted_head(space, wide, narrow)
    assert (notes.kept, notes.why) == (False, "the graph does not end in a dense layer and a softmax")


def test_fp16_is_recommended_if_int8_misses_its_target(
    tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0.5)
    # An answer in the other corner: no two agree.
    layer = last_layer(check_onnx(narrow.path))
    write_onnx(with_last_layer(check_onnx(narrow.path), -layer.weights, -layer.bias), narrow.path)
    content = sha256_of_file(narrow.path)
    with caplog.at_level(logging.INFO):
        result = recommendation(space, wide, narrow)
    assert result.precision is Precision.FP16
    assert "training and validation photos outside calibration it agrees on 0.0 % (0.0 to" in result.why
    assert "int8.onnx is not recommended: on " in caplog.text
    assert "trtpoets build small --precision fp16" in caplog.text
    assert sha256_of_file(narrow.path) == content
    seal_card(card_of(narrow.path), key="k", files=[narrow.path], details={"notes": {"recommended": to_json(result)}})
    assert recommended_precision(space) is Precision.FP16


def test_fp16_is_recommended_if_little_runs_in_int8(
    tmp_path: Path, photos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0)
    result = recommendation(space, wide, narrow, share=0.31)
    assert result.precision is Precision.FP16
    assert result.why.startswith("only 31% of its multiply-adds run in INT8")
    assert result.gate is not None
    assert "int8.onnx is not recommended: only " in caplog.text
    assert recommendation(space, wide, narrow, share=0.79).precision is Precision.FP16
    slow = recommendation(space, wide, narrow, share=0.99, time=1.04)
    assert slow.precision is Precision.FP16
    assert slow.why.startswith("by an estimate its layers take 1.04 times as long as in FP16")
    decided = GateConfig(min_agreement=90)  # which 48 photos that all agree can show
    assert recommendation(space, wide, narrow, decided, share=0.81, time=0.9).precision is Precision.INT8


def test_an_undecided_target_is_reported(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, narrow = models(space, 0)
    narrow.path.write_bytes(wide.path.read_bytes())
    result = recommendation(space, wide, narrow)
    assert result.precision is Precision.FP16
    assert "at least 98 % of the answers stay (about 189 independent photos could, if no answers change)" in result.why
    assert result.gate is not None
    assert result.gate.outcome is GateOutcome.UNKNOWN
    assert recommended_precision(space) is None


def test_the_notes_describe_the_final_file(tmp_path: Path, photos: Path) -> None:
    space = workspace(tmp_path, photos)
    wide, _ = models(space, 0.5)
    rough = CalibrationConfig(photos=8, method=Method.MINMAX)
    config = Int8Config(correct_bias=False, round_weights=False, target_db=0, target_agreement=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(int8_head, "paired_difference", lambda *results: SimpleNamespace(low=-1.0, high=-0.5))
        patch.setattr(int8_head, "difference_interval", lambda *results: SimpleNamespace(low=-0.1, high=0.1))
        dataset = dataset_in(space)
        used = calibration_photos(dataset.photos, rough), dataset.in_split(Split.VALIDATION)
        origin = _Origin("", dataset.hash, "")
        model = _int8(_Int8Work(space, wide, *used, rough, config, True, origin, force=False, progress=silent), None)
    card = open_card(card_of(model.path))
    assert card is not None
    notes = card["notes"]
    assert notes["head"]["kept"]
    fresh = Int8Evaluator(wide, *used, config)
    shipped = check_onnx(model.path)
    assert notes["final"] == pytest.approx(asdict(fresh.fidelity(shipped)), rel=1e-5)
    layers = layer_sqnr(fresh.proto, shipped, fresh.search_photos)
    assert notes["layers_db"] == pytest.approx(layers, rel=1e-5)
    assert notes["before_head"] != notes["final"]
    worst = {histogram["layer"]: histogram["db"] for histogram in notes["histograms"]}
    assert worst == pytest.approx({name: layers[name] for name in worst}, rel=1e-5)
    section = int8_section(Report(quantisation=Quantisation(int8=from_json(Int8Summary, notes, "notes"))))
    assert section is not None
    assert section.rows[-1].cells[0] == "as written, with the refitted last layer"
    assert section.rows[-2].cells[0] == "as converted" or notes["before_head"] == notes["plain"]


def quantised_with(threads: int, folder: Path, photos: Path) -> list[bytes]:
    """Both forms of INT8, written by sessions and matrix products with this number of threads."""
    folder.mkdir()
    space = workspace(folder, photos)
    wide, _ = models(space, 0.5)
    dataset = dataset_in(space)
    calibration = CalibrationConfig(photos=16, method=Method.PERCENTILE)
    used = calibration_photos(dataset.photos, calibration), dataset.in_split(Split.VALIDATION)
    config = Int8Config(target_db=0, target_agreement=0)
    opened = onnxruntime.InferenceSession

    def session(content: object, options: onnxruntime.SessionOptions, **others: object) -> object:
        options.intra_op_num_threads = threads
        return opened(content, options, **others)

    with pytest.MonkeyPatch.context() as patch, threadpool_limits(threads, "blas"):
        patch.setenv("TRTPOETS_CACHE", str(folder / "cache"))  # features that the other run stored are not read
        patch.setattr(onnxruntime, "InferenceSession", session)
        patch.setattr(int8_head, "paired_difference", lambda *results: SimpleNamespace(low=-1.0, high=-0.5))
        patch.setattr(int8_head, "difference_interval", lambda *results: SimpleNamespace(low=-0.1, high=0.1))
        work = _Int8Work(
            space, wide, *used, calibration, config, True, _Origin("", dataset.hash, ""), force=True, progress=silent
        )
        files = [_int8(work), _int8_for_cpu(work)]
    for file in files:
        card = open_card(card_of(file.path))
        assert card is not None
        assert card["notes"]["head"]["kept"]
    return [file.path.read_bytes() for file in files]


@pytest.mark.slow  # test_a_head_does_not_depend_on_the_number_of_threads has the part that once did
def test_the_files_do_not_depend_on_the_number_of_threads(tmp_path: Path, photos: Path) -> None:
    assert quantised_with(1, tmp_path / "one", photos) == quantised_with(2, tmp_path / "two", photos)
