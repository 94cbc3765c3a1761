"""The report as Markdown: the page's words and tables, and nothing from the disk that does more than stand there."""

from __future__ import annotations

import re

import pytest
from markdown_it import MarkdownIt

from tests.support.pages import HOSTILE, Reader
from tests.support.report_documents import documents, report_of
from trtpoets.reporting.markdown import escaped, markdown_from_report


def rendered(text: str) -> Reader:
    """As CommonMark with GitHub's tables; raw HTML is let through, as GitHub lets some."""
    page = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text)
    return Reader(page)


def test_it_says_what_the_page_says() -> None:
    text = markdown_from_report(report_of(documents()))
    assert text.startswith("# insects\n\n**Gained.** Fastest here")
    assert "| onnxruntime-fp16 | 1 | 4.00 | 2.50× | 250 | 4.40 | – | 321 MiB |" in text
    assert "| onnxruntime-int8 | 83.3 % (66.4–92.7 %) | 90.0 % (74.4–96.5 %) | −10.0 (" in text
    assert "| ant | 10 | 0 | 0 |" in text
    assert "- ant/broken.jpg: it is empty" in text
    assert "differ from TensorFlow's by at most 3.0\u00a0×\u00a010⁻⁷ on 30 photos" in text.replace(
        " × ", "\u00a0×\u00a0"
    )
    assert "- fp16.rtx.engine: sha256 eeee" in text
    assert "- measuring rtx-fp16: died of SIGSEGV" in text
    assert "```bash\ntrtpoets retrain photos --name insects --backbone efficientnet_lite0 --resize" in text
    assert "<svg" not in text
    reader = rendered(text)
    assert len(reader.all("table")) >= 7
    assert len(reader.all("h1")) == 1


def test_every_row_has_as_many_cells_as_its_table() -> None:
    text = markdown_from_report(report_of(documents(("a|b", "c\\|d", "`|`"))))
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        counts = {len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in block.splitlines()}
        assert len(counts) == 1, block


def test_names_are_text_and_nothing_else() -> None:
    mentions = (
        "@octocat",
        "see #12",
        "https://example.com",
        "www.example.com",
        "[a](https://b.c)",
        "**bold** _x_ ~~y~~",
    )
    labels = (*HOSTILE, *mentions)
    content = documents(labels, per_class=6)
    content["spec"]["name"] = HOSTILE[0]
    content["dataset"] |= {"folder": "a ```b", "left_out": [{"path": HOSTILE[1], "reason": "- 1. x"}]}
    text = markdown_from_report(report_of(content))
    text.encode("utf-8")
    reader = rendered(text)
    for tag in ("script", "img", "a", "em", "s"):
        assert not reader.all(tag), tag
    bold = re.findall(r"\*\*([^*]+)\*\*", text)
    assert set(bold) <= {"Gained.", "Lost.", "Ship.", "INT8.", "Accuracy.", "Engines.", "The gate.", "bold\\"}
    assert "<script>alert(1)</script>" in reader.text
    assert "**bold** _x_ ~~y~~" in reader.text
    assert "{{ 7 * 7 }}" in reader.text
    assert not re.search(r"@octocat|see #12|https://example|www\.example", text)
    assert "````bash\n" in text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("- a", "&#45; a"),
        ("## a", "&#35;&#8203;# a"),
        ("1. a", "&#49;. a"),
        ("1.5 a", "1.5 a"),
        ("a\n\n# b", "a # b"),
        ("$x$", "<span>$</span>x<span>$</span>"),
        ("<b>&", "&lt;b&gt;&amp;"),
    ],
)
def test_escaped(text: str, shown: str) -> None:
    assert escaped(text) == shown


def test_nothing_at_all() -> None:
    text = markdown_from_report(report_of({}))
    assert text.startswith("# A classifier\n\nNothing was measured yet.")
    assert "- accuracy: not evaluated yet" in text
