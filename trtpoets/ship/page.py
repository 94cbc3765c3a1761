"""report.json -> one HTML file that needs nothing else: no script, no network, light and dark, phone and paper."""

from __future__ import annotations

import shlex
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import trtpoets
from trtpoets.core.optional import needs
from trtpoets.ship.gallery import galleries_from_report
from trtpoets.ship.gate import gate_section
from trtpoets.ship.int8 import int8_section
from trtpoets.ship.mistakes import mistakes_section
from trtpoets.ship.sections import (
    accuracy_section,
    dataset_section,
    engines_section,
    training_section,
)
from trtpoets.ship.speed import speed_section, tradeoff
from trtpoets.ship.verdict import BASELINE, fastest, narrow_runners, verdict_groups
from trtpoets.ship.words import interval, joined, many, milliseconds, percent, shown, tiny

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trtpoets.core.spec import Photo


_NODES = 6
"""Nodes of a network that are named in a sentence."""


def page_from_report(report: Mapping[str, Any], photos: Mapping[str, Photo] | None = None) -> str:
    """The page of a report. `photos` are those that may be shown, by their path as the report has it.

    Raises MissingDependency without the extra `report`. A photo that is gone or damaged is named instead of shown.
    """
    with needs("report", reason="the report's page"):
        import jinja2
    templates = files("trtpoets.ship") / "templates"
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
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
        dataset=dataset_section(report),
        precisions=_precisions(report),
        int8=int8_section(report),
        changed=galleries.int8,
        engines=engines_section(report),
        skipped=[(each["what"], each["why"]) for each in report["skipped"]],
        absent=[(each["what"], each["why"]) for each in report["absent"]],
        conditions=_conditions(report),
        commands=_commands(report),
        version=trtpoets.__version__,
    )
    # A unit stays with its number.
    text = text.replace(" %", "\u00a0%").replace(" ms", "\u00a0ms").replace(" MiB", "\u00a0MiB")
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
        note = f"same answers as TensorFlow, {interval(*report['intervals'][narrow]['agreement'])}"
        word = narrow.rsplit("-", 1)[1].upper()
        tiles.append({"what": f"{word} agreement", "value": percent(report["agreement"][narrow]), "note": note})
    batches = sorted({row["batch"] for row in report["benchmarks"]})
    best = fastest(report, batches[0]) if batches else None
    if best is not None and best.get("speedup") and best["runner"] != BASELINE:
        note = f"{best['runner']}, {milliseconds(best['p50_ms'])} ms at batch {best['batch']}"
        tiles.append({"what": "Faster than TensorFlow", "value": f"{best['speedup']:.1f}×", "note": note})
    return tiles


def _precisions(report: Mapping[str, Any]) -> list[str]:
    """What export and FP16 did to the network, in sentences."""
    parity, notes = report["parity"], report["quantisation"]
    told = []
    if parity:
        photos = f" on {many(parity['photos'], 'photo')}" if parity.get("photos") else ""
        told.append(
            f"The exported ONNX graph gives TensorFlow's scores, with a difference of at most "
            f"{tiny(parity['max_abs'])}{photos}."
        )
    if notes.get("fp16"):
        fp16 = notes["fp16"]
        kept = _kept(fp16["kept_fp32"], "stayed FP32", "every node could be narrowed")
        told.append(
            f"FP16: scores differ from FP32's by at most {tiny(fp16['max_abs'])} on "
            f"{many(fp16['compared'], 'calibration photo')}; {kept}."
        )
    return told


def _kept(nodes: Mapping[str, str], what: str, none: str) -> str:
    """Which nodes stayed wider, with the reason of each; the first few where there are many."""
    if not nodes:
        return none
    first = [shown(f"{name} ({why})") for name, why in list(nodes.items())[:_NODES]]
    more = [many(len(nodes) - _NODES, "other")] if len(nodes) > _NODES else []
    return f"{joined(first + more)} {what}"


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
    config = report["training"].get("config") or {}
    options = "".join(f" --{word} {config[word]}" for word in ("steps", "seed") if word in config)
    return [f"trtpoets run {folder} --name {name} --backbone {report['backbone']}{options}"]
