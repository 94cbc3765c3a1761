"""Documents keep their bytes, and keys their hashes: the literals were computed before the documents were typed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, is_dataclass
from pathlib import Path

import pytest

from trtpoets.convert.int8.calibration import CalibrationConfig, Equalised, Method, Ranges
from trtpoets.convert.int8.int8_config import Int8Config
from trtpoets.convert.int8.range_histograms import Histogram
from trtpoets.core.manifest import MANIFEST, Manifest, write_manifest
from trtpoets.core.network_notes import Fidelity, Parity, WorstLayer
from trtpoets.core.serialization import Hint, from_json, hints_of, to_json
from trtpoets.core.training import Accuracy, HeadConfig, TrainingDetails
from trtpoets.core.types import (
    BatchRange,
    EngineCard,
    Flavour,
    LayerReport,
    ModelSpec,
    Photo,
    Precision,
    Preprocess,
    Resize,
    Split,
    hash_of,
)
from trtpoets.device.build.build_messages import BuildResult, Order, ProbeResult
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.judge.advice import Recommended
from trtpoets.judge.bench.bench_config import BenchConfig
from trtpoets.judge.head_notes import HeadNotes
from trtpoets.onboard.build_record import BuildRecord
from trtpoets.pipeline.card_details import DOCUMENTS, CalibrationRecord, ExportDetails, Int8Details, Int8FileNotes
from trtpoets.pipeline.result_status import benchmark_key, evaluation_key
from trtpoets.train.dataset import Dataset, DatasetConfig, LeftOut
from trtpoets.train.photo_table import table_of

PREPROCESS = Preprocess(224, 192, (1 / 128, 0.5, 2.0), (-1.0, 0.0, 3.25), Resize.CROP, 0.875)
SPEC = ModelSpec("flowers", "mobilenet_v2", PREPROCESS, ("daisy", "rosé"), "sha")
RANGES = Ranges(
    Method.MSE,
    {"x": (-1.0, 2.5)},
    ("a" * 64,),
    {"daisy": 1},
    "b" * 64,
    {"x": Equalised(2.5, (1.0, 0.5))},
    {"x": Histogram(2.5, (0.25, 0.75))},
)
PHOTOS = (
    Photo(Path("/p/a/1.jpg"), "a", Split.TRAIN, "1" * 64),
    Photo(Path("/p/b/2.jpg"), "b", Split.TEST, "2" * 64, 4080),
)
DATASET = Dataset(
    Path("/p"),
    ("a", "b"),
    table_of(PHOTOS, Path("/p")),
    (LeftOut(Path("/p/x.txt"), "is no photo"),),
    ((Path("/p/a/1.jpg"), Path("/p/a/3.jpg")),),
    (),
    DatasetConfig(),
    families=(("1" * 64,),),
)
CARD = EngineCard(
    Flavour.RTX,
    Precision.INT8,
    "1.7",
    "12",
    None,
    "GPU",
    "8.6",
    ("sm86",),
    "linux-x86_64",
    BatchRange(),
    1024,
    "o" * 64,
    None,
    PREPROCESS.hash,
    "e" * 64,
    7,
    1.5,
    SPEC,
    layers=LayerReport({"a": "int8"}, {"int8": 1}, {"int8": 1.0}),
    notes=("n",),
)
FIDELITY = Fidelity(4, 30.0, 31.0, 1.0, 0.01)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_documents_have_the_bytes_that_they_had(tmp_path: Path) -> None:
    ranges = {name: value for name, value in to_json(RANGES).items() if name != "trials"}
    (tmp_path / "a").write_bytes(b"x")
    order = (Precision.INT8, Precision.FP32)
    write_manifest(tmp_path, name="n", target="jetson", version="1", model="m", order=order, board="orin", created=5)
    assert {
        "model.json": sha256(SPEC.to_json()),
        "ranges.json": sha256(json.dumps(ranges)),
        "dataset.json": sha256(json.dumps(to_json(DATASET.document), default=list)),
        "manifest.json": sha256((tmp_path / MANIFEST).read_text()),
        "engine card": sha256(json.dumps(to_json(CARD))),
    } == {
        "model.json": "029a76250fc2649b2fc5a646a4acffedccfcf22c1970dc03945cb510c6df9428",
        "ranges.json": "633adfba1e344b573e41ba1a1f29f23f02bde4090367de2a145742ca0659e931",
        "dataset.json": "0360a50e66f12da6bc27d5af7a5536109727945841881ebb752442c19657f4f6",
        "manifest.json": "0fbf11e85633931f29933e199eb1787c0dd46eae0b488a871ca0b15ddaec6c59",
        "engine card": "67a11be79d3f722e3ea16bdc35cc73660806a8e6c8494c8b66487c30da4341ab",
    }


def test_keys_have_the_hashes_that_they_had() -> None:
    assert {
        "ranges": RANGES.hash,
        "dataset": DATASET.hash,
        "calibration": hash_of(asdict(CalibrationConfig(photos=256))),
        "int8": hash_of(asdict(Int8Config())),
        "head": hash_of(asdict(HeadConfig())),
        "engine": hash_of(asdict(EngineConfig(Flavour.RTX, ("sm86",)))),
        "evaluation": evaluation_key(["x"], PHOTOS, (0, 1)),
        "benchmark": benchmark_key(["x"], PHOTOS, BenchConfig()),
    } == {
        "ranges": "fd56ca290e65a7ee2f364f4da05fdad23fc597338fe4e331b8e005590cdcc926",
        "dataset": "4e030d298ddf0ac559edd0861e6990328a0c48fc33c19922df51c5ce59d02137",
        "calibration": "a83cdff153e59aa38f51b502748a24139d7d992560641e9669da88c73058e6a0",
        "int8": "ed28a01192b2ff3dd0bea1d9ab19a342ce78163e588e328c77575ca0de7f0d23",
        "head": "5de18e2dbaab6707de45a845d678c76fc504e026bbf325be3fa97c302d37507f",
        "engine": "61112ee97bfccd9e282733ae7ac32896baaf2b26b179002d654260bcb9fec019",
        "evaluation": "cab5db604c6bf505f9d7ce0e20dc0f11eeb7f8f6184318f25e1297c4599dd888",
        "benchmark": "873211b720bdbd9b6e811466955d5b5a5cce44dbf7eff1128d53ececaac7d861",
    }


def test_the_details_of_int8_keep_their_order_and_come_back() -> None:
    notes = Int8FileNotes(
        *(1, 1, 1, 0, 4, 1000, 0.95, {"head": "a matrix-vector product"}, 0, 0),
        *(FIDELITY, FIDELITY, FIDELITY, FIDELITY, (), {"stem": 30.0}),
        histograms=(WorstLayer("stem", 30.0, "x", 2.5, 2.5, (0.25, 0.75)),),
        head=HeadNotes(False, "too few"),
        recommended=Recommended(Precision.INT8, "it agrees", 4, None),
    )
    record = CalibrationRecord(
        method=Method.MSE, asked=Method.AUTO, per_class={"a": 1}, hash=RANGES.hash, trials={"mse": FIDELITY}
    )
    details = Int8Details(notes, record, Int8Config(), "m", "d", "c")
    value = to_json(details)
    assert list(value) == ["notes", "calibration", "config", "made_from", "dataset", "command"]
    assert list(value["notes"])[-6:] == ["before_head", "kept_fp32", "frontier", "histograms", "head", "recommended"]
    assert list(value["calibration"]) == [
        *("photos", "method", "percentile", "seed", "batch_size", "asked", "per_class", "hash", "trials")
    ]
    assert from_json(Int8Details, json.loads(json.dumps(value)), "int8.onnx.json") == details
    without = to_json(Int8FileNotes(**{**vars(notes), "head": None}))
    assert "head" not in without, "nothing was fitted"


def test_the_details_of_a_training_keep_their_order_and_come_back() -> None:
    details = TrainingDetails(
        *(HeadConfig(), 10, 1.5, (10,), (0.5,), (0.7,), (0.5,), (0.8,)),
        test_accuracy=0.5,
        test_photos=4,
        test_groups=3,
        test_accuracy_low=0.1,
        test_accuracy_high=0.9,
        families=1,
        families_photos=2,
        together=Accuracy(4, 3, 0.5, 0.1, 0.9),
        command="trtpoets retrain",
    )
    value = to_json(details)
    assert list(value) == [
        *("config", "best_step", "seconds", "steps", "train_accuracy", "train_cross_entropy"),
        *("validation_accuracy", "validation_cross_entropy", "test_accuracy", "test_photos", "test_groups"),
        *("test_accuracy_low", "test_accuracy_high", "families", "families_photos", "together", "command"),
    ]
    assert from_json(TrainingDetails, json.loads(json.dumps(value)), "training.json") == details


def test_cards_of_earlier_versions_are_read() -> None:
    older = {"opset": 17, "parity": {"photos": 1, "max_abs": 0.0, "mean_abs": 0.0, "worst": None}, "made_from": "x"}
    assert from_json(ExportDetails, older, "fp32.onnx.json") == ExportDetails(17, Parity(1, 0.0, 0.0, None), "x")


@pytest.mark.parametrize(
    "kind",
    [
        *DOCUMENTS.values(),
        *(BuildRecord, Manifest, ModelSpec, Order, BuildResult, ProbeResult),
    ],
)
def test_the_types_of_all_fields_are_known_when_documents_are_read(kind: type) -> None:
    seen: set[type] = set()

    def look(hint: Hint) -> None:
        if isinstance(hint.kind, type) and is_dataclass(hint.kind) and hint.kind not in seen:
            seen.add(hint.kind)
            for field in hints_of(hint.kind).values():
                look(field)
        for item in hint.args:
            look(item)

    look(Hint(kind))
    assert kind in seen
