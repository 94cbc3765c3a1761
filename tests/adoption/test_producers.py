"""The table of producers: each row recognises its files, and states what they take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import raises
from tests.support.foreign import bgr, foreign_model
from trtpoets.adoption.contract import CAFFE, CIFAR10, IMAGENET, RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.decide import decide
from trtpoets.adoption.facts import nearly_same, raw_feed
from trtpoets.adoption.producer_table import AZURE_MEANS, Producer
from trtpoets.adoption.producers import producer_facts, producer_name, producers_of
from trtpoets.core.errors import BadInput
from trtpoets.core.original import Format
from trtpoets.core.types import Resize

STRETCH, CROP = Geometry(Resize.STRETCH), Geometry(Resize.CROP)
TFLITE, GRAPH, KERAS, ONNX = Format.TFLITE, Format.GRAPH_DEF, Format.KERAS, Format.ONNX

CASES: list[tuple[str, dict[str, Any], Pixels, Geometry | None, bool]] = [
    ("retrain.py of TensorFlow for Poets",
     {"format_": GRAPH, "input_name": "input:0", "output_name": "final_result:0", "side": 128}, SIGNED, STRETCH, True),
    ("retrain.py of TensorFlow for Poets",
     {"format_": GRAPH, "input_name": "Mul:0", "output_name": "final_result:0", "side": 299}, SIGNED, STRETCH, True),
    ("retrain.py of TensorFlow Hub",
     {"format_": GRAPH, "input_name": "Placeholder:0", "output_name": "final_result:0"}, UNIT, STRETCH, True),
    ("make_image_classifier of TensorFlow Hub",
     {"format_": Format.SAVED_MODEL, "input_name": "keras_layer_input"}, UNIT, STRETCH, False),
    ("Teachable Machine",
     {"format_": KERAS, "side": 224, "nodes": ("Conv1", "block_1_expand", "Conv_1", "dense_Dense1", "dense_Dense2")},
     SIGNED, CROP, True),
    ("Teachable Machine",
     {"format_": TFLITE, "side": 224, "input_name": "serving_default_sequential_1_input:0",
      "output_name": "StatefulPartitionedCall:0", "nodes": ("sequential_3/sequential_1/model1/Conv1/Conv2D",)},
     SIGNED, CROP, True),
    ("TF-Slim",
     {"format_": GRAPH, "input_name": "input:0", "output_name": "MobilenetV1/Predictions/Reshape_1:0"},
     SIGNED, None, True),
    ("AutoML Vision Edge",
     {"format_": TFLITE, "input_name": "image", "output_name": "scores", "dtype": "uint8", "scale": 1 / 127,
      "zero_point": 128}, SIGNED, None, True),
    ("TFLite Model Maker or MediaPipe Model Maker",
     {"format_": TFLITE, "dtype": "uint8", "scale": 1 / 127, "zero_point": 127, "metadata": {"input.content": "image"}},
     SIGNED, None, True),
    ("Edge Impulse",
     {"format_": TFLITE, "input_name": "x_input", "dtype": "int8", "scale": 1 / 255, "zero_point": -128},
     UNIT, CROP, True),
    ("Edge Impulse", {"format_": TFLITE, "input_name": "serving_default_x:0"}, UNIT, CROP, False),
    ("Azure Custom Vision",
     {"format_": TFLITE, "input_name": "Placeholder", "output_name": "loss", "side": 227},
     AZURE_MEANS, Geometry(Resize.CROP, 227 / 256), True),
    ("Azure Custom Vision",
     {"format_": GRAPH, "input_name": "Placeholder:0", "output_name": "loss:0", "side": 224}, bgr(RAW), STRETCH, True),
    ("Azure Custom Vision (S1)",
     {"format_": GRAPH, "input_name": "Placeholder:0", "output_name": "loss:0", "side": 300}, RAW, STRETCH, True),
    ("jetson-inference", {"input_name": "input_0", "output_name": "output_0"}, IMAGENET, STRETCH, True),
    ("timm", {"input_name": "input0", "output_name": "output0", "writer": "pytorch 2.1"},
     IMAGENET, Geometry(Resize.CROP, 0.875), False),
    ("Hugging Face", {"input_name": "pixel_values", "output_name": "logits", "writer": "pytorch 2.1"},
     IMAGENET, None, False),
    ("Ultralytics", {"metadata": {"task": "classify", "names": "{0: 'a'}", "date": "2024-02-01T10:00:00"}},
     UNIT, CROP, True),
    ("Ultralytics", {"metadata": {"task": "classify", "names": "{0: 'a'}", "date": "2023-01-20"}}, UNIT, CROP, False),
    ("MXNet GluonCV", {"input_name": "data", "output_name": "mobilenetv20_output_flatten0_reshape0"},
     IMAGENET, Geometry(Resize.CROP, 0.875), False),
    ("MXNet GluonCV", {"input_name": "data", "output_name": "resnetv15_dense0_fwd"},
     IMAGENET, Geometry(Resize.CROP, 0.875), False),
    ("Caffe2", {"input_name": "data_0", "output_name": "prob_1", "writer": "onnx-caffe2"},
     CAFFE, Geometry(Resize.CROP, 0.875), False),
    ("fastai", {"writer": "pytorch 1.9", "nodes": ("GlobalAveragePool_1", "GlobalMaxPool_2")}, IMAGENET, None, False),
    ("PaddlePaddle", {"writer": "PaddlePaddle"}, IMAGENET, None, False),
    ("MATLAB", {"writer": "MATLAB Deep Learning Toolbox Converter for ONNX Model Format 23.2"}, RAW, None, False),
    ("CNTK", {"writer": "CNTK 2.5", "channels": 1}, Pixels(RAW.scale, RAW.offset), None, False),
    ("Keras (VGG)", {"format_": KERAS, "nodes": ("block1_conv1", "block5_conv3", "block5_pool")}, CAFFE, None, False),
    ("Keras (ResNet)", {"format_": KERAS, "nodes": ("conv1_conv", "conv2_block1_1_conv", "conv2_block1_out")},
     CAFFE, None, False),
    ("Keras (ResNet v2)",
     {"format_": KERAS, "nodes": ("conv2_block1_preact_bn", "conv2_block1_1_conv", "conv2_block1_out")},
     SIGNED, None, False),
    ("Keras (DenseNet)", {"format_": KERAS, "nodes": ("conv2_block1_concat", "pool2_conv")}, IMAGENET, None, False),
    ("Keras (EfficientNet)", {"format_": KERAS, "nodes": ("rescaling", "stem_conv", "top_conv")}, RAW, None, False),
    ("Keras (MobileNetV2)", {"format_": KERAS, "nodes": ("Conv1", "block_1_expand", "Conv_1")}, SIGNED, None, False),
    ("MLPerf Tiny", {"path": Path("x/pretrainedResnet.h5"), "format_": KERAS, "side": 32}, RAW, None, False),
    ("MLPerf Tiny", {"path": Path("x/vww_96.h5"), "format_": KERAS, "side": 96}, UNIT, None, False),
]  # fmt: skip


@pytest.mark.parametrize(("name", "model", "pixels", "geometry", "certain"), CASES, ids=[case[0] for case in CASES])
def test_rows(name: str, model: dict[str, Any], pixels: Pixels, geometry: Geometry | None, certain: bool) -> None:
    foreign = foreign_model(**model)
    (row,) = producers_of(foreign)
    assert row.name == name == producer_name(foreign)
    facts = producer_facts(foreign)
    stated = [fact for fact in facts if fact.pixels is not None]
    first = stated[0].pixels
    assert first is not None
    assert foreign.channels == 1 or nearly_same(first, pixels)
    assert all(fact.certain is certain for fact in stated)
    assert [fact.geometry for fact in facts if fact.geometry is not None] == ([geometry] if geometry else [])
    assert all(row.source in fact.evidence.text for fact in facts)


def test_files_beside(tmp_path: Path) -> None:
    foreign = foreign_model(tmp_path / "model.tflite", format_=TFLITE, side=224)
    assert not producers_of(foreign)
    signature = {"doc_id": "1", "inputs": {"Image": {}}, "outputs": {"Confidences": {}}, "classes": {"Label": ["a"]}}
    (tmp_path / "signature.json").write_text(json.dumps(signature))
    assert producer_name(foreign) == "Lobe"
    (tmp_path / "signature.json").unlink()
    (tmp_path / "cvexport.manifest").write_text(json.dumps({"DomainType": "Classification", "ExporterVersion": "2.1"}))
    assert producer_facts(foreign)[0].pixels == bgr(RAW)
    (tmp_path / "metadata_properties.json").write_text(json.dumps({"CustomVision.Preprocess.TargetHeight": "300"}))
    assert producer_name(foreign) == "Azure Custom Vision (S1)"
    (tmp_path / "metadata_properties.json").unlink()
    onnx = foreign_model(tmp_path / "model.onnx")
    assert producer_facts(onnx)[0].pixels == UNIT
    keys = foreign_model(tmp_path / "model.onnx", metadata={"Image.BitmapPixelFormat": "Bgr8"})
    assert producer_name(keys) == "Azure Custom Vision"
    assert all(fact.pixels is None for fact in producer_facts(keys))


def test_an_unknown_file_has_no_facts() -> None:
    assert not producer_facts(foreign_model(input_name="input", output_name="output"))
    assert producer_name(foreign_model(writer="somebody 1.0")) == "somebody 1.0"


def test_contradicting_rows_are_not_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = tuple(Producer(name, "x", "y", lambda _: True, (pixels,)) for name, pixels in (("a", UNIT), ("b", SIGNED)))
    monkeypatch.setattr("trtpoets.adoption.producers.PRODUCERS", rows)
    assert [fact.certain for fact in producer_facts(foreign_model())] == [False, False]


def test_pytorch_leaves_the_preprocessing_open() -> None:
    for side, kinds in ((224, {IMAGENET, UNIT, SIGNED}), (32, {CIFAR10, IMAGENET, UNIT, SIGNED})):
        foreign = foreign_model(writer="pytorch 2.3", input_name="input.1", side=side)
        facts = [fact for fact in producer_facts(foreign) if fact.pixels is not None]
        assert {fact.pixels for fact in facts} == kinds
        assert not any(fact.certain for fact in facts)
        assert producer_name(foreign) == "pytorch 2.3"


def test_raw_is_unchanged_for_integers() -> None:
    foreign = foreign_model(format_=TFLITE, input_name="x_input", dtype="int8", scale=1 / 255, zero_point=-128)
    assert producer_facts(foreign)[0].pixels == raw_feed(foreign.input)


def test_an_error_names_a_producer_once() -> None:
    """The usual values of a producer are one sentence, not one sentence for each of them."""
    foreign = foreign_model(writer="pytorch 2.1", side=224)
    values = "ImageNet statistics, RGB or 0..1, RGB or -1..1, RGB ("
    with raises(BadInput, "TP9431", "flowers.onnx", "PyTorch", values) as caught:
        decide(foreign, producer_facts(foreign))
    assert caught.value.message.count("PyTorch") == 1
