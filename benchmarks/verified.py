"""docs/verified.md: what has run on which GPU, from the files that first_contact.py wrote.

    python benchmarks/verified.py

Takes every benchmarks/results/*.json of a machine with a GPU, and writes the part of the page below its marker anew.
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
    """The files of machines with a GPU, oldest first."""
    found = [(path, json.loads(path.read_text())) for path in folder.glob("*.json")]
    kept = [(path, value) for path, value in found if value.get("format") == 1 and value["gpu"]]
    return sorted(kept, key=lambda each: (each[1]["begun"], each[0].name))


def cell(found: Mapping[str, Any] | None) -> str:
    """What became of one question."""
    if found is None:
        return "not asked"
    if not found["answered"]:
        why = " ".join(str(found["because"]).split()).replace("|", "/")
        return f"{'**failed**' if found['failed'] else 'not answered'}: {why[:200]}"
    if found["goal_met"] is not None:
        return "yes" if found["goal_met"] else "**no**"
    networks = (found.get("answer") or {}).get("networks")
    if networks and not any(each.get("runs") for each in networks.values()):
        return "built, not run"
    return "answered"


def table(folder: Path) -> str:
    """All machines, one section each; or that there is none."""
    known = files(folder)
    if not known:
        return "Nothing has run on a GPU yet.\n"
    parts = []
    for path, value in known:
        setting = value["setting"]
        words = ("target", "driver", "tensorrt", "rtx", "torch")
        facts = [f"{word} {setting[word]}" for word in words if setting.get(word)]
        lines = [
            f"## {value['gpu']}\n",
            f"{value['begun'][:10]}, {', '.join(facts)}: [{path.name}](../benchmarks/results/{path.name})\n",
            "| question | as it should be |",
            "|---|---|",
            *(f"| {each.id} | {cell(value['answers'].get(each.id))} |" for each in QUESTIONS),
        ]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def page_with(page: str, folder: Path) -> str:
    """The page with its table as the files say."""
    head, marker, _ = page.partition(MARKER)
    assert marker, "the page has lost its marker"
    return head + marker + "\n" + table(folder)


if __name__ == "__main__":
    PAGE.write_text(page_with(PAGE.read_text(), HERE / "results"))
