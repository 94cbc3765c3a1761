"""Names from outside - files, classes, runs, metadata - never reach a terminal, a page or Markdown as they are."""

from __future__ import annotations

import json
import logging
import os
import unicodedata
from dataclasses import replace
from pathlib import Path

import onnx
import pytest

import trtpoets
from tests.cli.test_main import call_main
from tests.pipeline.test_label import Watched
from tests.support.photos import make_photo
from tests.support.report_documents import documents, report_of
from tests.support.tiny import tiny_graph, tiny_spec
from trtpoets.core.console import error_text, json_text, messages, printable, progress_lines
from trtpoets.core.errors import BadPhoto, TrtPoetsError
from trtpoets.device.doctor.findings import Finding, State
from trtpoets.onboard.bundle_options import parser
from trtpoets.onboard.result_lines import finding_lines
from trtpoets.pipeline import label as label_module
from trtpoets.reporting.html import page_from_report
from trtpoets.reporting.markdown import markdown_from_report
from trtpoets.reporting.model import Report
from trtpoets.reporting.tables.results import print_json, print_table

NAMES = (
    "\x1b[31mred\x1b]0;title\x07",
    "line\nError: forged\r\n",
    "\u202egpj.exe\u2066\u200b\u2028\u2029",
    "\x9b2J\x7f\x00\x08",
    "[red]markup[/red] | `code` <script>alert(1)</script>",
    "private \ue000 \U000e0041 \ud800 \udcff",
)
EVERYTHING = " ".join(NAMES)


def obeyed(text: str) -> list[str]:
    """The characters of a text that something may obey: all that are not visible, but for line ends."""
    bad = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return sorted({repr(item) for item in text if item != "\n" and unicodedata.category(item) in bad})


def test_what_is_visible_stays() -> None:
    for text in ("café 🐝", "naïve — “quoted”", "\u00a0%", "日本語", "C:\\photos\\a"):
        assert printable(text) == text
    assert printable("a\x1b\n\t\u202e\U000e0041\udcff") == r"a\x1b\n\t\u202e\U000e0041\xff"
    assert printable("a\nb\t", keep="\n") == "a\nb\\t"
    assert not obeyed(printable("".join(map(chr, range(0x3000)))))


def test_errors_logs_and_progress(caplog: pytest.LogCaptureFixture) -> None:
    text = error_text(TrtPoetsError(EVERYTHING, hint=EVERYTHING))
    assert not obeyed(text)
    assert len(text.splitlines()) == 2
    result: list[str] = []
    with messages(lambda line, warning: result.append(line)):
        logging.getLogger("trtpoets.x").warning("%s is bad", EVERYTHING)
    progress = progress_lines(result.append)
    progress(EVERYTHING, 0, 5)
    progress(EVERYTHING, 5, 5)
    assert len(result) == 2
    assert not obeyed("".join(result).replace("\n", "", 1))
    assert "\n" not in result[0]
    lines = list(finding_lines([Finding(what="GPU", state=State.MISSING, found=EVERYTHING, hint=EVERYTHING)]))
    assert not obeyed("".join(map(printable, lines)))


def test_json_on_the_terminal() -> None:
    text = json_text({EVERYTHING: EVERYTHING.replace("\ud800", "")})
    assert text.isascii()
    assert not obeyed(text)
    json.loads(text)


def hostile_report() -> Report:
    content = documents(NAMES, per_class=3)
    content["spec"]["name"] = EVERYTHING
    content["spec"]["weights_id"] = EVERYTHING
    content["dataset"] |= {
        "folder": EVERYTHING,
        "left_out": [{"path": name, "reason": name, "remedy": name} for name in NAMES],
        "duplicates": [list(NAMES)],
    }
    content["skipped"] = [{"what": name, "why": name} for name in NAMES]
    content["command"] = f"trtpoets run {EVERYTHING}"
    return report_of(content)


def test_the_page_and_markdown() -> None:
    report = hostile_report()
    page, markdown = page_from_report(report), markdown_from_report(report)
    for text in (page, markdown):
        text.encode()
        assert not obeyed(text)
        assert "\nError: forged" not in text
    assert "<script>alert" not in page
    assert "<script>alert" not in markdown.partition("Commands:")[0]  # what follows is in a fence
    assert r"\x1b[31mred" in page
    for line in markdown.splitlines():
        if line.startswith("| "):
            assert "`code`" not in line and "[red]" not in line.replace("\\[", "")


def test_the_command_to_do_it_again_is_one_line() -> None:
    report = replace(hostile_report(), command=None, engines_folder="a\nb")
    from trtpoets.reporting.sections.provenance import commands_from_report

    commands = commands_from_report(report)
    assert not obeyed("".join(commands))
    assert not any("\n" in command for command in commands)
    assert "--engines $'a\\x0ab'" in commands[0]


def test_tables_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    report = hostile_report()
    print_table("report", report)
    print_table("training", report.training)
    out = capsys.readouterr().out
    assert not obeyed(out)
    assert "\nError: forged" not in out
    print_json(report)
    assert not obeyed(capsys.readouterr().out)


def test_what_onnx_files_say_of_themselves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = EVERYTHING.replace("\ud800", "").replace("\udcff", "")
    model = onnx.load_model_from_string(tiny_graph().SerializeToString())
    model.producer_name = model.doc_string = model.graph.name = name
    entry = model.metadata_props.add()
    entry.key, entry.value = name, name
    for node in model.graph.node:
        node.name = name + node.name
    path = tmp_path / "a\x1b[31m\n.onnx"
    path.write_bytes(model.SerializeToString())
    print_table("inspection", trtpoets.inspect(path))
    card = tmp_path / "\u202emodel.json"
    card.write_text(json.dumps({**json.loads(tiny_spec().to_json()), "labels": list(NAMES[:4]), "name": name}))
    print_table("inspection", trtpoets.inspect(card))
    out = capsys.readouterr().out
    assert r"a\x1b[31m\n.onnx" in out.replace("\n", "").replace(" ", "")
    assert not obeyed(out)
    assert "\nError: forged" not in out


FILES = [
    os.fsdecode(name) for name in (b"\x1b[31mred.jpg", b"a\nError: forged\n.jpg", b"\xff\xfe.png", b"\xe2\x80\xae.png")
]


def test_the_program_with_hostile_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = Watched()
    monkeypatch.setattr(label_module, "_best_runner", lambda space, stack, trust: (stack.enter_context(runner), 4))
    monkeypatch.setattr(label_module, "classifier_in", lambda space: None)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(FILES):
        make_photo(0, number).save(tmp_path / name, "PNG")
        (tmp_path / f"broken {name}").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    for extra in ([], ["--json"]):
        assert call_main(monkeypatch, "label", "x", str(tmp_path), *FILES, *extra) in (0, 1)
        streams = capsys.readouterr()
        for text in streams:
            assert not obeyed(text)
            assert "\nError: forged" not in text
    for words in (
        ["inspect", FILES[1]],
        ["inspect", *FILES],
        ["report", FILES[0]],
        ["build", FILES[0] + ".onnx"],
        ["retrain", FILES[1], "--name", "x"],
        [f"--{FILES[0]}"],
        ["bench", "x", "--compare", FILES[1]],
        [FILES[1]],
    ):
        assert call_main(monkeypatch, *words) != 0 or words[0] == "inspect"
        streams = capsys.readouterr()
        for text in streams:
            assert not obeyed(text), words
            assert "\nError: forged" not in text, words


def test_a_bundles_program_with_hostile_words(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser().parse_args(["doctor", EVERYTHING])
    with pytest.raises(SystemExit):
        parser().parse_args([EVERYTHING])
    assert not obeyed(capsys.readouterr().err)


def test_a_report_that_someone_edited(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    from trtpoets.cli.terminal import show_file

    path = tmp_path / "report.md"
    path.write_bytes(b"# a\n\x1b[2J \xff | \xe2\x80\xae\n")
    show_file(path)
    assert capfdbinary.readouterr().out.decode() == "# a\n\\x1b[2J \\xff | \\u202e\n"


def test_what_a_photo_says_of_itself() -> None:
    from PIL import Image

    from tests.core.test_photo_memory import SMALL, encoded
    from trtpoets.core.images import bytes_to_array

    content = encoded(Image.new("RGB", (8, 8)), "TIFF", tiffinfo={271: "\x1b[31mmaker\n", 50706: b"\1\4\0\0"})
    with pytest.raises(BadPhoto) as caught:
        bytes_to_array(content, SMALL, EVERYTHING)
    assert not obeyed(error_text(caught.value))
