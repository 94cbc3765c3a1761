"""Plots as SVG for the page that contains them."""

from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from typing import Any

import pytest

from trtpoets.core.errors import MissingDependency
from trtpoets.reporting import drawing


def line(figure: Any) -> None:
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=drawing.ACCENT)
    axes.fill_between([0, 1], [0, 1], color=drawing.SECOND)
    axes.set_title("a < b & c")


def test_a_plot_is_one_element_with_the_colours_of_the_page() -> None:
    text = drawing.svg("speed", 1.5, line)
    root = ET.fromstring(text)
    assert root.tag.endswith("svg") and root.attrib["aria-hidden"] == "true"
    assert "viewBox" in root.attrib and not {"width", "height"} & root.attrib.keys()
    assert "var(--accent)" in text and "var(--second)" in text and "currentColor" in text
    for placeholder in (drawing.INK, drawing.SOFT, drawing.LINE, drawing.ACCENT, drawing.SECOND):
        assert placeholder not in text
    assert "font-family" not in text and "<metadata" not in text and "<!--" not in text
    assert "a &lt; b &amp; c" in text, "text stays text"


def test_ids_begin_with_the_name_and_the_same_numbers_give_the_same_bytes() -> None:
    text = drawing.svg("speed", 1.5, line)
    assert drawing.svg("speed", 1.5, line) == text
    ids = [element.attrib["id"] for element in ET.fromstring(text).iter() if "id" in element.attrib]
    assert ids and all(name.startswith("speed-") for name in ids)
    other = drawing.svg("other", 1.5, line)
    assert other.replace("other-", "speed-") == text


def test_without_plots_nothing_is_drawn() -> None:
    with drawing.without_plots():
        assert drawing.svg("speed", 1.5, lambda _: pytest.fail("drawn")) == ""
    assert drawing.svg("speed", 1.5, line).startswith("<svg")


def test_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency) as caught:
        drawing.svg("speed", 1.5, line)
    assert caught.value.hint == "pip install 'trtpoets[report]'"
