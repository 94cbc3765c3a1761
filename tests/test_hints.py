"""Hints are commands that work when pasted: their options exist, and name and folder are those of the run."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import typer.main

import trtpoets
from tests.support.hints import begins_well, fragment_in
from tests.support.sources import nodes_of
from trtpoets.cli import main
from trtpoets.core.errors import MissingArtefact, TrtPoetsError
from trtpoets.core.shell_commands import command, filled
from trtpoets.core.types import Precision
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import writing

SOURCES = Path(trtpoets.__file__).parent
NAME = "the director's flowers"
FOLDER = "my runs"

PROGRAM: Any = typer.main.get_command(main.app)


def commands_in(hint: str) -> list[list[str]]:
    """The commands in a hint, as a shell splits them."""
    found_commands = []
    for part in re.split(r"trtpoets (?=[a-z])", hint)[1:]:
        text = re.split(r" && |; | \(|, (?:then|or) ", part)[0]
        found_commands.append(shlex.split(text))
    return found_commands


def parsed(words: list[str]) -> dict[str, Any]:
    """What Typer makes of a command's words: fails where there is no such command or option."""
    verb, *rest = words
    return dict(PROGRAM.commands[verb].make_context(verb, rest).params)


def hints() -> dict[str, Callable[[], Any]]:
    """Calls that fail for a run that does not exist."""
    many: dict[str, Callable[[], Any]] = {
        name: partial(getattr(trtpoets, name), NAME, engines=FOLDER)
        for name in ("export", "quantize", "build", "evaluate", "bench", "recommend", "report", "plan_build")
    }
    many["label"] = lambda: trtpoets.label(NAME, ["x.png"], engines=FOLDER)
    many["label nothing"] = lambda: trtpoets.label(NAME, [], engines=FOLDER)
    many["quantize fp32"] = lambda: trtpoets.quantize(NAME, precisions=[Precision.FP32], engines=FOLDER)
    many["bundle"] = lambda: trtpoets.bundle(NAME, "jetson", engines=FOLDER)
    many["tensorboard"] = lambda: trtpoets.tensorboard(NAME, engines=FOLDER)
    return many


@pytest.mark.parametrize("what", hints())
def test_a_hint_names_the_run(what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TrtPoetsError) as caught:
        hints()[what]()
    hint = caught.value.hint
    for words in commands_in(hint):
        given = parsed(words)
        if "name" in given or "model" in given:
            assert NAME in (given.get("name"), given.get("model")), hint
            assert str(given["engines"]) == FOLDER, hint
    assert commands_in(hint), hint


def test_placeholders_are_filled_with_the_name() -> None:
    engines = Path(FOLDER)
    hint = filled("train: trtpoets run PHOTOS --name NAME, or trtpoets pretrained BACKBONE --name NAME", NAME, engines)
    assert [parsed(words)["name"] for words in commands_in(hint)] == [NAME, NAME]
    hint = filled("trtpoets bench NAME --json > old.json; export FILE.onnx NAME", "a b")
    assert hint == "trtpoets bench 'a b' --json > old.json; export FILE.onnx NAME"
    assert filled(command("quantize", "NAME", engines=engines), "a") == "trtpoets quantize a --engines 'my runs'"


def test_errors_of_lower_layers_get_the_name(tmp_path: Path) -> None:
    space = Workspace(tmp_path / FOLDER, NAME)
    with pytest.raises(MissingArtefact) as caught, writing(space):
        raise MissingArtefact("no file", hint="calibrate again: trtpoets quantize NAME --force")
    (words,) = commands_in(caught.value.hint)
    assert parsed(words)["name"] == NAME and parsed(words)["force"]
    assert str(parsed(words)["engines"]) == str(tmp_path / FOLDER)


_BY_HAND = re.compile(r"^trtpoets $|trtpoets (" + "|".join(PROGRAM.commands) + r")\b[^&;:`]*$")


def test_commands_in_messages_are_built_with_quoting() -> None:
    """In an f-string a name with a space falls into two words: `core.commands.command` quotes it."""
    problems = []
    for path in sorted(SOURCES.rglob("*.py")):
        # provenance.py quotes once, for several commands; the others show the version.
        if path.name in ("provenance.py", "options.py", "bundle_options.py"):
            continue
        for node in nodes_of(path):
            if not isinstance(node, ast.JoinedStr):
                continue
            before = ""
            for part in node.values:
                if isinstance(part, ast.Constant):
                    before += str(part.value)
                elif _BY_HAND.search(before):
                    problems.append(f"{path.relative_to(SOURCES)}:{part.lineno}: {before[-50:]}")
    assert not problems, "\n".join(problems)


def test_every_command_in_the_sources_exists() -> None:
    """Also those with placeholders: each option that a hint names is one of its command's."""
    wrong = []
    for path in sorted(SOURCES.rglob("*.py")):
        for node in nodes_of(path):
            if not (isinstance(node, ast.keyword) and node.arg == "hint" and isinstance(node.value, ast.Constant)):
                continue
            for words in commands_in(str(node.value.value)):
                verb = words[0].rstrip(",.:")
                if verb not in PROGRAM.commands:  # prose
                    continue
                known = {option for param in PROGRAM.commands[verb].params for option in param.opts} | {"--help"}
                wrong += [f"{path.name}: {word}" for word in words if word.startswith("--") and word not in known]
    assert wrong == []


def templates(node: ast.expr) -> list[str]:
    """The texts that an expression gives, with … for each value."""
    if isinstance(node, ast.IfExp):
        return [*templates(node.body), *templates(node.orelse)]
    if isinstance(node, ast.BoolOp):
        return [text for value in node.values for text in templates(value)]
    if isinstance(node, ast.BinOp):
        return [left + right for left in templates(node.left) for right in templates(node.right)]
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values)]
    return [str(node.value)] if isinstance(node, ast.Constant) and isinstance(node.value, str) else ["…"]


def test_every_hint_is_a_whole_command_or_an_instruction() -> None:
    wrong, count = [], 0
    for path in sorted(SOURCES.rglob("*.py")):
        for node in nodes_of(path):
            if isinstance(node, ast.keyword) and node.arg == "hint":
                for text in templates(node.value):
                    count += 1
                    if fragment_in(text) or not begins_well(text):
                        wrong.append(f"{path.relative_to(SOURCES)}:{node.value.lineno}: {text}")
    assert count > 700
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("hint", "fragment"),
    [
        ("--board nano", "--board"),
        ("99.99 is usual", "99.99"),
        ("for example: --batch 1:8:32", ": --batch"),
        ("build --precision fp16", "build --precision"),
        ("pip install onnxruntime-gpu, with CUDA", "pip install onnxruntime-gpu, "),
        ("build with --precision fp16, or leave --dla out", ""),
        ("build again: ./build --force", ""),
        ("pip install 'trtpoets[train]'", ""),
        ("make it: trtpoets export NAME, then trtpoets quantize NAME", ""),
    ],
)
def test_fragments_are_recognised(hint: str, fragment: str) -> None:
    assert fragment_in(hint) == fragment
