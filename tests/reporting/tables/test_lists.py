"""Tables of networks, stores and bundles."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.printed import printed
from trtpoets.core.manifest import Target
from trtpoets.core.types import Precision
from trtpoets.pipeline.label import LabelledPhoto
from trtpoets.reporting.tables.lists import bundle_part, cache_part
from trtpoets.reporting.tables.results import print_table


def test_the_models_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    from trtpoets.train.backbones import BACKBONES

    text = printed(capsys, "models", tuple(BACKBONES.values()))
    for name, backbone in BACKBONES.items():
        row = next(line.split() for line in text.splitlines() if line.split()[:1] == [name])
        assert row[-1] == backbone.delivery
        assert row[4] == str(backbone.feature_width)


def test_a_long_path_above_a_table_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    photo = Path("/") / "a folder" / ("x" * 90) / "photo 1.jpg"
    answer = LabelledPhoto(photo, "tensorflow", ("ant", "bee"), (0.75, 0.25))
    print_table("answers", [answer, answer])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{photo}  (tensorflow)"
    assert lines.count(lines[0]) == 2
    assert lines[1].split() == ["ant", "75.0", "%"]  # no head and no rule over columns without a name
    assert lines[lines.index(lines[0], 1) - 1] == ""
    assert max(len(line) for line in lines if line != lines[0]) <= 80


def test_stores_of_bottlenecks_have_sizes() -> None:
    store = SimpleNamespace(
        key="mobilenet_v2-0123", path=Path("/c/abcdef0123456789"), photos=1200, width=1280, bytes=1 << 20
    )
    title, columns, rows = cache_part([store])
    assert (title, len(columns)) == ("/c", 5)
    assert rows[0][:4] == ("mobilenet_v2", "abcdef012345", "1,200", 1280)


def test_a_bundle_has_a_row_for_each_folder() -> None:
    manifest = SimpleNamespace(name="flowers", target=Target.JETSON, order=(Precision.INT8, Precision.FP32))
    sizes = {"manifest.json": 10, "golden/1.bmp": 100, "golden/2.bmp": 200}
    bundle: Any = SimpleNamespace(sizes=sizes, manifest=manifest, archive=Path("f.tar"), archive_bytes=99)
    title, _, rows = bundle_part(bundle)
    assert title.endswith("; to be tried in this order: int8, fp32")
    assert [row[:2] for row in rows] == [("golden/", 2), ("manifest.json", 1), ("together", 3), ("f.tar", "")]
    manifest.target = Target.TRITON
    assert "to be tried" not in bundle_part(bundle)[0]
