"""Writes docs/reference/errors.md: every error of trtpoets with its code, read from the source code.

    python docs/write_errors.py

An error is a call of a class of `trtpoets/core/errors.py`, or of `read_errors`, with a literal `code`.
tests/core/test_errors.py checks that each call has one, that no two share one, and that the page is up to date.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "errors.md"
PACKAGE = ROOT / "trtpoets"

AREAS = {
    "1": ("Files, photos and settings", "core"),
    "2": ("Photo folders and training", "train, core"),
    "3": ("ONNX, INT8 and TFLite", "convert"),
    "4": ("TensorRT, GPUs and runners", "device"),
    "5": ("Evaluation and benchmarks", "judge"),
    "6": ("Reports and bundles", "reporting, bundles"),
    "7": ("Commands of a bundle", "onboard"),
    "8": ("Commands", "pipeline"),
    "9": ("Command line, and classifiers of other programs", "cli, adoption"),
}
"""The first digit of a code -> (title, packages)."""

HEADER = """# Errors

Look here to find which package reports an error, by its code, as in `Error: … [TP1042]`, or to write a script that
distinguishes errors. A code always has the same meaning; the wording of its message may change. `…` stands for a value.
In Python, the code is the attribute `code` of `trtpoets.TrtPoetsError`.

This page is written by `python docs/write_errors.py`.
"""


class Error(NamedTuple):
    """A place in the source code that creates an error. `code` is empty if the call has none."""

    code: str
    kind: str
    message: str
    place: str


def error_classes() -> dict[str, str]:
    """The names of the error classes, with the first line of each docstring."""
    trees = [ast.parse((PACKAGE / "core" / name).read_text()) for name in ("errors.py", "reading.py")]
    classes = [node for tree in trees for node in tree.body if isinstance(node, ast.ClassDef)]
    return {node.name: (ast.get_docstring(node) or "").partition("\n")[0] for node in classes}


@functools.cache
def errors() -> tuple[Error, ...]:
    """Every error that the package makes, in the order of codes."""
    classes = error_classes()
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "templates" in path.parts or path.name == "errors.py":
            continue
        tree = ast.parse(path.read_text())
        constants = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
                continue
            if node.func.id in classes:
                subject = "".join(_text(word.value, constants) + " " for word in node.keywords if word.arg == "subject")
                kind, message = node.func.id, subject + _text(node.args[0], constants) if node.args else ""
            elif node.func.id == "read_errors":
                kind, message = ast.unparse(node.args[0]), "… can't be read: …"
            else:
                continue
            codes = [word.value for word in node.keywords if word.arg == "code"]
            code = codes[0].value if codes and isinstance(codes[0], ast.Constant) else ""
            found.append(Error(str(code), kind, message, f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"))
    return tuple(sorted(found))


def _text(node: ast.expr, constants: Mapping[str, ast.expr]) -> str:
    """A message with `…` for each value that it is given when it is raised. `constants` are those of its module."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part, constants) if isinstance(part, ast.Constant) else "…" for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left, constants) + _text(node.right, constants)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body, constants)} / {_text(node.orelse, constants)}"
    if isinstance(node, ast.Name) and isinstance(constants.get(node.id), (ast.Constant, ast.JoinedStr)):
        return _text(constants[node.id], constants)
    return "…"


def page() -> str:
    """The whole page."""
    kinds = "".join(f"| `{name}` | {text} |\n" for name, text in error_classes().items())
    found = errors()
    parts = [HEADER, f"\n| class | meaning |\n|---|---|\n{kinds}"]
    for digit, (title, packages) in AREAS.items():
        rows = "".join(
            f"| {error.code} | `{error.kind}` | {_cell(error.message)} |\n"
            for error in found
            if error.code.startswith(f"TP{digit}")
        )
        parts.append(f"\n## TP{digit}: {title} ({packages})\n\n| code | class | message |\n|---|---|---|\n{rows}")
    return "".join(parts)


def _cell(text: str) -> str:
    return re.sub(r"([|<>*_`])", r"\\\1", " ".join(text.split()))


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page(), encoding="utf-8")
