"""Writes docs/verified.md, which lists what has run on which GPU, from the result files of first_contact.py.

    python benchmarks/verified.py

It reads benchmarks/results/*.json of machines with a GPU and replaces the part of the page below its marker.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from contact.questions import QUESTIONS

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "verified.md"
MARKER = "<!-- Below here: python benchmarks/verified.py -->\n"


def files(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Return the result files of machines with a GPU, oldest first."""
    contents = [(path, json.loads(path.read_text())) for path in folder.glob("*.json")]
    with_gpu = [
        (path, value)
        for path, value in contents
        if isinstance(value, dict) and value.get("format") == 1 and value["gpu"]
    ]
    return sorted(with_gpu, key=lambda item: (item[1]["begun"], item[0].name))


def cell(result: Mapping[str, Any] | None) -> str:
    """Return the text for the result of one question."""
    if result is None:
        return "not asked"
    if not result["answered"]:
        why = " ".join(str(result["because"]).split()).replace("|", "/")
        return f"{'**failed**' if result['failed'] else 'not answered'}: {why[:200]}"
    if result["goal_met"] is not None:
        return "yes" if result["goal_met"] else "**no**"
    networks = (result.get("answer") or {}).get("networks")
    if networks and not any(network.get("runs") for network in networks.values()):
        return "built, not run"
    return "answered"


def table(folder: Path) -> str:
    """Return one section per machine, or a sentence if there is none."""
    results = files(folder)
    if not results:
        return "Nothing has run on a GPU yet.\n"
    parts = []
    for path, value in results:
        setting = value["setting"]
        names = ("target", "driver", "tensorrt", "rtx", "torch")
        facts = [f"{name} {setting[name]}" for name in names if setting.get(name)]
        lines = [
            f"## {value['gpu']}\n",
            f"{value['begun'][:10]}, {', '.join(facts)}: [{path.name}](../benchmarks/results/{path.name})\n",
            "| question | as it should be |",
            "|---|---|",
            *(f"| {question.id} | {cell(value['answers'].get(question.id))} |" for question in QUESTIONS),
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def page_with(page: str, folder: Path) -> str:
    """Return the page with the part below its marker replaced."""
    head, marker, _ = page.partition(MARKER)
    assert marker, "the page has lost its marker"
    return head + marker + "\n" + table(folder)


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(), HERE / "results"))
