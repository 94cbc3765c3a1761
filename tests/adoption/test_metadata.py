"""What metadata states about the preprocessing, and that damaged metadata states nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.foreign import foreign_model
from trtpoets.adoption.contract import IMAGENET, RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.facts import Fact, raw_feed
from trtpoets.adoption.known import known_facts, size_from_facts
from trtpoets.adoption.metadata import metadata_facts
from trtpoets.core.original import Channels, Format, Source
from trtpoets.core.types import Resize


def facts_of(tmp_path: Path, **files: Any) -> tuple[Pixels | None, Geometry | None, tuple[Fact, ...]]:
    for name, content in files.items():
        (tmp_path / name.replace("__", ".")).write_text(json.dumps(content))
    facts = metadata_facts(foreign_model(tmp_path / "model.onnx"))
    pixels = [fact.pixels for fact in facts if fact.pixels is not None]
    geometry = [fact.geometry for fact in facts if fact.geometry is not None]
    return next(iter(pixels), None), next(iter(geometry), None), facts


HUGGING_FACE = {"do_normalize": True, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}


@pytest.mark.parametrize(
    ("config", "pixels", "geometry"),
    [
        (
            {**HUGGING_FACE, "size": {"shortest_edge": 256}, "do_center_crop": True, "crop_size": 224},
            IMAGENET,
            Geometry(Resize.CROP, 0.875),
        ),
        (
            {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": {"height": 224, "width": 224}},
            SIGNED,
            Geometry(Resize.STRETCH),
        ),
        ({"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "size": 384}, SIGNED, Geometry(Resize.STRETCH)),
        (
            {**HUGGING_FACE, "size": {"shortest_edge": 224}, "crop_pct": 0.875},
            IMAGENET,
            Geometry(Resize.CROP, 0.875),
        ),
        ({**HUGGING_FACE, "size": {"shortest_edge": 384}, "crop_pct": 0.9}, IMAGENET, Geometry(Resize.STRETCH)),
        ({"do_normalize": False, "rescale_factor": 1 / 255, "do_resize": False}, UNIT, None),
        ({"do_normalize": False, "do_rescale": False}, RAW, None),
        ({"do_normalize": False, "rescale_factor": 1 / 127.5, "rescale_offset": True}, SIGNED, None),
        (
            {"image_processor_type": "MobileViTImageProcessor", "size": {"shortest_edge": 288}, "do_center_crop": True,
             "crop_size": {"height": 256, "width": 256}},
            Pixels(UNIT.scale, UNIT.offset, Channels.BGR),
            Geometry(Resize.CROP, 256 / 288),
        ),
    ],
)  # fmt: skip
def test_preprocessor_config(tmp_path: Path, config: Any, pixels: Pixels, geometry: Geometry | None) -> None:
    actual, resized, facts = facts_of(tmp_path, preprocessor_config__json=config)
    assert actual is not None
    assert actual.same_as(pixels)
    assert resized == geometry
    assert all(fact.certain and fact.source is Source.METADATA for fact in facts)


def _normalised(mean: float, std: float, times: int = 1) -> Pixels:
    scale, offset = 1 / 255 / std**times, -mean / std**times
    return Pixels((scale, scale, scale), (offset, offset, offset))


@pytest.mark.parametrize(
    ("config", "pixels", "geometry", "size"),
    [
        # The keys that decide, as save_pretrained of transformers 5.24 writes them. What each class does with them was
        # measured by giving it photos of one colour, and ramps.
        ({"image_processor_type": "MobileViTImageProcessor", "do_center_crop": True, "do_flip_channel_order": True,
          "crop_size": {"height": 256, "width": 256}, "do_rescale": True, "do_resize": True, "image_mean": [0.5] * 3,
          "image_std": [0.5] * 3, "rescale_factor": 1 / 255, "size": {"shortest_edge": 288}},
         Pixels(UNIT.scale, UNIT.offset, Channels.BGR), Geometry(Resize.CROP, 256 / 288), (256, 256)),
        ({"image_processor_type": "EfficientNetImageProcessor", "do_center_crop": False, "do_normalize": True,
          "crop_size": {"height": 289, "width": 289}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3,
          "include_top": True, "rescale_offset": False, "size": {"height": 346, "width": 346}},
         _normalised(0.5, 0.5, times=2), Geometry(Resize.STRETCH), (346, 346)),
        ({"image_processor_type": "LevitImageProcessor", **HUGGING_FACE, "do_center_crop": True,
          "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}},
         IMAGENET, Geometry(Resize.CROP, 0.875), (224, 224)),
        ({"image_processor_type": "PoolFormerImageProcessor", **HUGGING_FACE, "do_center_crop": True, "crop_pct": 0.9,
          "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}},
         IMAGENET, Geometry(Resize.CROP, 0.9), (224, 224)),
        ({"image_processor_type": "PerceiverImageProcessor", **HUGGING_FACE, "do_center_crop": True,
          "crop_size": {"height": 256, "width": 256}, "size": {"height": 224, "width": 224}},
         IMAGENET, Geometry(Resize.CROP, 0.875), (224, 224)),
        ({"image_processor_type": "ConvNextImageProcessor", **HUGGING_FACE, "crop_pct": 0.875,
          "size": {"shortest_edge": 224}}, IMAGENET, Geometry(Resize.CROP, 0.875), (224, 224)),
        ({"image_processor_type": "BitImageProcessor", **HUGGING_FACE, "do_center_crop": True,
          "crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 224}},
         IMAGENET, Geometry(Resize.CROP), (224, 224)),
        # Feature extractors of transformers 4.
        ({"feature_extractor_type": "LevitFeatureExtractor", **HUGGING_FACE, "do_center_crop": True, "size": 224},
         IMAGENET, Geometry(Resize.CROP, 0.875), None),
    ],
)  # fmt: skip
def test_the_class_of_hugging_face_decides_what_keys_mean(
    tmp_path: Path, config: Any, pixels: Pixels, geometry: Geometry, size: tuple[int, int] | None
) -> None:
    actual, resized, facts = facts_of(tmp_path, preprocessor_config__json=config)
    assert actual is not None
    assert actual.same_as(pixels)
    assert resized == geometry
    assert size_from_facts(facts) == size


@pytest.mark.parametrize("size", [256, {"height": 256, "width": 256}])
def test_a_stretch_before_the_crop_is_not_certain(tmp_path: Path, size: Any) -> None:
    config = {"feature_extractor_type": "DeiTFeatureExtractor", **HUGGING_FACE, "do_center_crop": True, "size": size}
    _, resized, facts = facts_of(tmp_path, preprocessor_config__json={**config, "crop_size": 224})
    assert resized == Geometry(Resize.CROP, 0.875)
    fact = next(fact for fact in facts if fact.geometry is not None)
    assert not fact.certain and "stretched to 256 x 256 pixels and then cropped to 224 x 224" in fact.evidence.text


def test_preprocessor_config_of_the_folder_above_onnx(tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({**HUGGING_FACE, "size": 224}))
    facts = metadata_facts(foreign_model(tmp_path / "onnx" / "model.onnx"))
    assert facts[0].pixels is not None
    assert size_from_facts(facts) == (224, 224)


def test_timm_config(tmp_path: Path) -> None:
    settings = {
        "mean": [0.5] * 3,
        "std": [0.5] * 3,
        "crop_pct": 0.95,
        "crop_mode": "center",
        "input_size": [3, 240, 240],
    }
    pixels, geometry, facts = facts_of(tmp_path, config__json={"architecture": "x", "pretrained_cfg": settings})
    assert pixels is not None
    assert pixels.same_as(SIGNED)
    assert geometry == Geometry(Resize.CROP, 0.95)
    assert size_from_facts(facts) == (240, 240)
    settings["crop_mode"] = "squash"
    assert facts_of(tmp_path, config__json={"pretrained_cfg": settings})[1] == Geometry(Resize.STRETCH)


def test_timm_states_another_crop_for_the_larger_size_of_tests(tmp_path: Path) -> None:
    # resnet10t.c3_in1k, as save_for_hf of timm 1.0.31 writes it
    settings = {
        "input_size": [3, 176, 176],
        "test_input_size": [3, 224, 224],
        "crop_pct": 0.875,
        "test_crop_pct": 0.95,
        "crop_mode": "center",
    }
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": settings}))
    for side, share in ((176, 0.875), (224, 0.95)):
        foreign = foreign_model(tmp_path / "model.onnx", side=side)
        assert [fact.geometry for fact in metadata_facts(foreign)] == [Geometry(Resize.CROP, share)]


@pytest.mark.parametrize(
    ("bitmap", "nominal", "expected"),
    [
        ("Bgr8", "NominalRange_0_255", Pixels(RAW.scale, RAW.offset, Channels.BGR)),
        ("Rgb8", "Normalized_0_1", UNIT),
        ("Rgb8", None, UNIT),
        ("Bgr8", "Normalized_1_1", Pixels(SIGNED.scale, SIGNED.offset, Channels.BGR)),
        ("Gray8", "Normalized_0_1", None),
        ("Rgb8", "NominalRange_16_235", None),
    ],
)
def test_image_keys_of_onnx(bitmap: str, nominal: str | None, expected: Pixels | None) -> None:
    metadata = {"Image.BitmapPixelFormat": bitmap}
    if nominal is not None:
        metadata["Image.NominalPixelRange"] = nominal
    facts = metadata_facts(foreign_model(metadata=metadata))
    assert len(facts) == (expected is not None)
    if expected is not None and facts[0].pixels is not None:
        assert facts[0].pixels.same_as(expected)


def test_normalization_options() -> None:
    def pixels(mean: str, std: str, **model: Any) -> Fact:
        metadata = {"input.mean": mean, "input.std": std, "input.color_space": "RGB"}
        (fact,) = metadata_facts(foreign_model(format_=Format.TFLITE, metadata=metadata, **model))
        return fact

    signed = pixels("127.5", "127.5").pixels
    assert signed is not None
    assert signed.same_as(SIGNED)
    imagenet = pixels("123.675,116.28,103.53", "58.395,57.12,57.375").pixels
    assert imagenet is not None
    assert imagenet.same_as(IMAGENET)
    # For integer inputs (127.5, 127.5) and (0, 1) both mean that photos are stored unchanged.
    integer = {"dtype": "uint8", "scale": 0.0078740157, "zero_point": 128}
    unchanged = raw_feed(foreign_model(**integer).input)  # type: ignore[arg-type]
    for mean, std in (("127.5", "127.5"), ("0", "1")):
        assert pixels(mean, std, **integer).pixels == unchanged
    assert not metadata_facts(foreign_model(metadata={"input.mean": "1,2", "input.std": "0"}))


def test_ultralytics_size() -> None:
    facts = metadata_facts(foreign_model(side=0, metadata={"task": "classify", "names": "{}", "imgsz": "[224, 320]"}))
    assert size_from_facts(facts) == (224, 320)


def test_azure_properties_state_no_pixels(tmp_path: Path) -> None:
    properties = {
        "CustomVision.Preprocess.CropMethod": "FullImageShorterSide",
        "CustomVision.Preprocess.TargetHeight": "300",
        "CustomVision.Preprocess.TargetWidth": "300",
        "Image.BitmapPixelFormat": "Rgb8",
        "Image.NominalPixelRange": "Normalized_0_1",
    }
    pixels, geometry, facts = facts_of(tmp_path, metadata_properties__json=properties)
    assert pixels is None
    assert geometry == Geometry(Resize.CROP)
    assert not facts[0].certain
    assert size_from_facts(facts) == (300, 300)


_HOSTILE = [
    b"", b"[]", b"null", b"{", b"[" * 100_000, b"\xff\xfe", b'{"size": "a"}', b'{"image_mean": [1e999, 0, 0]}',
    b'{"image_mean": [0.5, 0.5, 0.5], "image_std": [0, 0, 0]}', b'{"image_mean": [[1]], "image_std": {}}',
    b'{"rescale_factor": "x"}', b'{"rescale_factor": -1}', b'{"pretrained_cfg": {"mean": "x", "crop_pct": "y"}}',
    b'{"pretrained_cfg": []}', b'{"size": {"shortest_edge": 1e308}, "crop_size": -5, "do_center_crop": true}',
    b'{"size": {"height": 1e9, "width": true}}', b'{"CustomVision.Preprocess.TargetHeight": {}}',
]  # fmt: skip


@pytest.mark.parametrize("content", _HOSTILE)
def test_damaged_files_state_nothing(tmp_path: Path, content: bytes) -> None:
    for name in ("config.json", "metadata_properties.json", "signature.json", "cvexport.manifest"):
        (tmp_path / name).write_bytes(content)
    (tmp_path / "preprocessor_config.json").write_bytes(content)
    facts = known_facts(foreign_model(tmp_path / "model.onnx"))
    assert all(fact.pixels is None or max(map(abs, fact.pixels.scale)) < 1e6 for fact in facts)
    if b"image_mean" in content or b"rescale_factor" in content:
        assert not facts


_json = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_KEYS = ("do_resize", "size", "do_center_crop", "crop_size", "rescale_factor", "image_mean", "image_std", "crop_pct",
         "do_normalize", "rescale_offset", "mean", "std", "input_size", "crop_mode")  # fmt: skip


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(st.sampled_from(_KEYS), _json, max_size=8))
def test_any_json_is_read_or_ignored(tmp_path: Path, config: dict[str, Any]) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(json.dumps({"pretrained_cfg": config, "id2label": config}))
    for fact in metadata_facts(foreign_model(tmp_path / "model.onnx")):
        assert fact.geometry is None or 0.1 <= fact.geometry.crop_fraction <= 1
