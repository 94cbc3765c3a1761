"""report.json -> one HTML file that needs nothing else: no script, no network, light and dark, phone and paper."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

import trtpoets
from trtpoets.core.formatting import interval, joined, many, milliseconds, percent, shown
from trtpoets.core.optional import needs
from trtpoets.judge.bench.benchmark import BASELINE
from trtpoets.judge.gate import photos_in_groups
from trtpoets.reporting.gallery import galleries_from_report
from trtpoets.reporting.gate_summary import gate_section
from trtpoets.reporting.sections.accuracy_sections import (
    accuracy_section,
    dataset_section,
    engines_section,
    precisions_section,
)
from trtpoets.reporting.sections.confusions import mistakes_section
from trtpoets.reporting.sections.int8_section import int8_section
from trtpoets.reporting.sections.near_copies_section import copies_section
from trtpoets.reporting.sections.provenance import artefacts_from_report, commands_from_report, conditions_from_report
from trtpoets.reporting.sections.speed_section import speed_section, tradeoff
from trtpoets.reporting.sections.training_section import train_benchmark_section, training_section
from trtpoets.reporting.verdict import fastest, narrow_runners, precision_of, surely_faster, verdict_groups

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtpoets.core.types import Photo


def page_from_report(report: Mapping[str, Any], photos: Mapping[str, Photo] | None = None) -> str:
    """The page of a report. `photos` are those that may be shown, by their path as the report has it.

    Raises MissingDependency without the extra `report`. A photo that is gone or damaged is named instead of shown.
    """
    with needs("report", reason="the report's page"):
        import jinja2
    templates = files("trtpoets.reporting") / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_visible
    )
    template = environment.from_string((templates / "page.html").read_text(encoding="utf-8"))
    galleries = galleries_from_report(report, photos or {})
    text = template.render(
        css=(templates / "page.css").read_text(encoding="utf-8"),
        title=shown(report["name"]) or "A classifier",
        subtitle=_subtitle(report),
        tiles=_tiles(report),
        verdict=verdict_groups(report),
        tradeoff=tradeoff(report),
        accuracy=accuracy_section(report),
        gate=gate_section(report),
        speed=speed_section(report),
        errors=mistakes_section(report),
        galleries=galleries.others,
        training=training_section(report),
        rates=train_benchmark_section(report),
        dataset=dataset_section(report),
        copies=copies_section(report),
        precisions=precisions_section(report),
        int8=int8_section(report),
        changed=galleries.int8,
        engines=engines_section(report),
        skipped=[(each["what"], each["why"]) for each in report["skipped"]],
        absent=[(each["what"], each["why"]) for each in report["absent"]],
        conditions=conditions_from_report(report),
        artefacts=artefacts_from_report(report),
        commands=commands_from_report(report),
        version=trtpoets.__version__,
    )
    # A unit stays with its number.
    text = text.replace(" %", "\u00a0%").replace(" ms", "\u00a0ms").replace(" MiB", "\u00a0MiB")
    return shown("\n".join(line for line in text.split("\n") if line.strip()) + "\n", keep="\n")


def _visible(value: Any) -> Any:
    """What the template writes: text as it can be seen. Markup of ours keeps its line ends."""
    return shown(value) if type(value) is str else value


def _subtitle(report: Mapping[str, Any]) -> str:
    labels = [shown(label) for label in report["labels"]]
    what = joined(labels) if 0 < len(labels) <= 6 else many(len(labels), "class", "classes")
    return f"Tells {what} apart, with {report['backbone']} underneath." if labels else "No classifier yet."


def _tiles(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers that one looks for first."""
    tiles = []
    runner = BASELINE if BASELINE in report["accuracy"] else next(iter(report["accuracy"]), None)
    if runner is not None:
        photos = photos_in_groups(report["test_photos"], report["test_groups"])
        note = f"{interval(*report['intervals'][runner]['accuracy'])} on {photos}"
        tiles.append({"what": "Accuracy", "value": percent(report["accuracy"][runner]), "note": note})
    for narrow in narrow_runners(report):
        note = f"same answers as TensorFlow, {interval(*report['intervals'][narrow]['agreement'])}"
        tiles.append(
            {
                "what": f"{precision_of(report, narrow)} agreement",
                "value": percent(report["agreement"][narrow]),
                "note": note,
            }
        )
    batches = sorted({row["batch"] for row in report["benchmarks"]})
    best = fastest(report, batches[0]) if batches else None
    if best is not None and surely_faster(best) and best["runner"] != BASELINE:
        note = f"{best['runner']}, {milliseconds(best['p50_ms'])} ms at batch {best['batch']}"
        tiles.append({"what": "Faster than TensorFlow", "value": f"{best['speedup']:.1f}×", "note": note})
    return tiles
