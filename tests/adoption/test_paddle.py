"""inference.yml of PaddleClas and PaddleX states the preprocessing and the labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.foreign import foreign_model
from trtpoets.adoption.contract import IMAGENET, Geometry
from trtpoets.adoption.facts import nearly_same
from trtpoets.adoption.labels import labels_for
from trtpoets.adoption.metadata import metadata_facts
from trtpoets.adoption.paddle import paddle_facts, paddle_labels
from trtpoets.core.original import Channels, Source
from trtpoets.core.types import Resize

TEXT = """Global:
  model_name: PP-LCNet_x1_0
Hpi:
  backend_configs:
    tensorrt:
      dynamic_shapes:
        x:
        - - 1
          - 3
PreProcess:
  transform_ops:
  - DecodeImage:
      to_rgb: true
  - ResizeImage:
      resize_short: 256
  - CropImage:
      size: 224
  - NormalizeImage:
      channel_num: 3
      mean:
      - 0.485
      - 0.456
      - 0.406
      order: ''
      scale: 0.00392156862745098
      std:
      - 0.229
      - 0.224
      - 0.225
  - ToCHWImage: null
PostProcess:
  Topk:
    topk: 5
    label_list:
    - rose
    - 'tulip, wild'
    - daisy
    - poppy
    - lily
"""


def test_pixels_crop_and_labels(tmp_path: Path) -> None:
    (tmp_path / "inference.yml").write_text(TEXT)
    model = foreign_model(tmp_path / "inference.onnx")
    pixels, geometry = metadata_facts(model)
    assert pixels.pixels is not None and nearly_same(pixels.pixels, IMAGENET)
    assert (pixels.source, pixels.channels_known, pixels.size) == (Source.METADATA, True, (224, 224))
    assert geometry.geometry == Geometry(Resize.CROP, 224 / 256)
    labels, evidence = labels_for(model)
    assert labels == ("rose", "tulip, wild", "daisy", "poppy", "lily")
    assert evidence.source is Source.METADATA and "label_list in inference.yml" in evidence.text


def test_other_forms(tmp_path: Path) -> None:
    """A size of width and height in one line, as for lines of text, and channels that are not stated or BGR."""
    resize = "  - ResizeImage:\n      size: [160, 80]\n"
    text = TEXT.replace("      resize_short: 256\n  - CropImage:\n      size: 224\n", "      size: [160, 80]\n")
    assert resize in text
    (tmp_path / "inference.yml").write_text(text.replace("  - DecodeImage:\n      to_rgb: true\n", ""))
    model = foreign_model(tmp_path / "inference.onnx")
    pixels, geometry = paddle_facts(model)
    assert (pixels.channels_known, pixels.size) == (False, (80, 160))
    assert geometry.geometry == Geometry(Resize.STRETCH)
    (tmp_path / "inference.yml").write_text(text.replace("to_rgb: true", "to_rgb: False"))
    (bgr, _) = paddle_facts(model)
    assert bgr.pixels is not None and bgr.pixels.channels is Channels.BGR and bgr.channels_known
    assert bgr.pixels.offset[0] == pytest.approx(-0.406 / 0.225)


@pytest.mark.parametrize(
    "text", ["", "PreProcess: {}", "- NormalizeImage:\n    mean: [a, b, c]\n", "  - NormalizeImage:\n      scale: -1\n"]
)
def test_damaged_files_state_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "inference.yml").write_text(text)
    model = foreign_model(tmp_path / "inference.onnx")
    assert paddle_facts(model) == () and paddle_labels(model) == ()
