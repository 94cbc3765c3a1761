"""report.json -> one HTML file that needs nothing else: no script, no network, light and dark, phone and paper."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import trtpoets
from trtpoets.core.optional import needs
from trtpoets.ship.gallery import galleries_from_samples
from trtpoets.ship.mistakes import mistakes_section
from trtpoets.ship.sections import (
    accuracy_section,
    dataset_section,
    engines_section,
    speed_section,
    training_section,
)
from trtpoets.ship.verdict import BASELINE, fastest, narrow_runners
from trtpoets.ship.words import interval, joined, many, milliseconds, percent, shown

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtpoets.core.spec import Photo


def page_from_report(report: Mapping[str, Any], photos: Mapping[str, Photo] | None = None) -> str:
    """The page of a report. `photos` are those that may be shown, by their path as the report has it.

    Raises MissingDependency without the extra `report`. A photo that is gone or damaged is named instead of shown.
    """
    with needs("report", reason="the report's page"):
        import jinja2
    templates = files("trtpoets.ship") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    template = environment.from_string((templates / "page.html").read_text(encoding="utf-8"))
    text = template.render(
        css=(templates / "page.css").read_text(encoding="utf-8"),
        title=shown(report["name"]) or "A classifier",
        subtitle=_subtitle(report),
        tiles=_tiles(report),
        verdict=[each["text"] for each in report["verdict"]],
        accuracy=accuracy_section(report),
        speed=speed_section(report),
        errors=mistakes_section(report),
        galleries=galleries_from_samples(report["samples"], photos or {}),
        training=training_section(report),
        dataset=dataset_section(report),
        precisions=_precisions(report),
        engines=engines_section(report),
        skipped=[(each["what"], each["why"]) for each in report["skipped"]],
        absent=[(each["what"], each["why"]) for each in report["absent"]],
        conditions=_conditions(report),
        commands=_commands(report),
        version=trtpoets.__version__,
    )
    return shown("\n".join(line for line in text.splitlines() if line.strip()) + "\n")


def _subtitle(report: Mapping[str, Any]) -> str:
    labels = [shown(label) for label in report["labels"]]
    what = joined(labels) if 0 < len(labels) <= 6 else many(len(labels), "class", "classes")
    return f"Tells {what} apart, with {report['backbone']} underneath." if labels else "No classifier yet."


def _tiles(report: Mapping[str, Any]) -> list[dict[str, str]]:
    """The few numbers that one looks for first."""
    tiles = []
    runner = BASELINE if BASELINE in report["accuracy"] else next(iter(report["accuracy"]), None)
    if runner is not None:
        note = f"{interval(*report['intervals'][runner]['accuracy'])} on {many(report['test_photos'], 'photo')}"
        tiles.append({"what": "Accuracy", "value": percent(report["accuracy"][runner]), "note": note})
    for narrow in narrow_runners(report):
        note = f"{interval(*report['intervals'][narrow]['agreement'])}, answers like TensorFlow"
        word = narrow.rsplit("-", 1)[1].upper()
        tiles.append({"what": f"{word} agreement", "value": percent(report["agreement"][narrow]), "note": note})
    batches = sorted({row["batch"] for row in report["benchmarks"]})
    best = fastest(report, batches[0]) if batches else None
    if best is not None and best.get("speedup") and best["runner"] != BASELINE:
        note = f"{best['runner']}, {milliseconds(best['p50_ms'])} ms at batch {best['batch']}"
        tiles.append({"what": "Faster than TensorFlow", "value": f"{best['speedup']:.1f}×", "note": note})
    if report["engines"]:
        flavours = joined(sorted({str(card["flavour"]) for card in report["engines"]}))
        tiles.append({"what": "Engines built", "value": str(len(report["engines"])), "note": f"by {flavours}"})
    return tiles


def _precisions(report: Mapping[str, Any]) -> list[str]:
    """What export and quantisation noted, as far as it is a number or a word."""
    told = []
    parity = report["parity"]
    if parity:
        told.append(
            f"The exported ONNX graph gives TensorFlow's scores to {parity['max_abs']:.1e} at worst"
            + (f", on {many(parity['photos'], 'photo')}." if parity.get("photos") else ".")
        )
    for precision, notes in (report["quantisation"] or {}).items():
        words = [f"{word.replace('_', ' ')}: {_value(value)}" for word, value in (notes or {}).items() if _told(value)]
        if words:
            told.append(f"{precision.upper()}. {'; '.join(words)}.")
    return told


def _told(value: Any) -> bool:
    return value not in (None, "", [], {})


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        shortened = [f"{shown(key)} {_value(each)}" for key, each in list(value.items())[:8] if _told(each)]
        return ", ".join(shortened) + (f" and {len(value) - 8} more" if len(value) > 8 else "")
    if isinstance(value, list):
        return joined([_value(each) for each in value[:8]]) + (f" and {len(value) - 8} more" if len(value) > 8 else "")
    text = shown(value)
    return text[:16] if len(text) == 64 and text.isalnum() else text


def _conditions(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Machine, versions and provenance, line by line."""
    now = report["conditions"]
    gpus = [gpu["name"] for gpu in now.get("gpus") or []]
    threads = (report["benchmark"].get("config") or {}).get("threads")
    jetson = now.get("jetson")
    lines = [
        ("when", now.get("time")),
        ("processor", f"{now.get('cpu')}, {many(now.get('cores') or 0, 'usable core')}"),
        ("threads", None if threads is None else "all cores" if threads == 0 else threads),
        ("memory", f"{now['memory_mib']:,} MiB" if now.get("memory_mib") else None),
        ("load at the start", ", ".join(str(value) for value in now.get("load") or [])),
        ("frequency governor", now.get("governor")),
        ("GPU", joined(gpus) or (f"{jetson['model']}, L4T {jetson['l4t']}" if jetson else "none")),
        ("NVIDIA driver", now.get("nvidia_driver") or "none"),
        ("system", f"{now.get('os')}, Linux {now.get('kernel')}, Python {now.get('python')}"),
        ("packages", ", ".join(f"{name} {version}" for name, version in (now.get("versions") or {}).items())),
        ("weights", (report["spec"] or {}).get("weights_id")),
    ]
    return [(what, str(value)) for what, value in lines if value]


def _commands(report: Mapping[str, Any]) -> list[str]:
    """The command that was given, or else the ones that lead here."""
    if report["command"]:
        return [shown(report["command"])]
    name = shlex.quote(shown(report["name"]))
    if not report["name"]:
        return []
    if not report["training"]:
        return [f"trtpoets pretrained {report['backbone']} --name {name}", f"trtpoets report {name}"]
    folder = shlex.quote(shown((report["dataset"] or {}).get("folder") or "PHOTOS"))
    return [f"trtpoets run {folder} --name {name} --backbone {report['backbone']}"]
