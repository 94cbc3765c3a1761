"""Writes a report as one HTML file without scripts or external files, for light and dark screens, phones and paper."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import trtpoets
from trtpoets.core.formatting import interval, joined, many, milliseconds, percent, shown
from trtpoets.core.optional import needs
from trtpoets.judge.gate import photos_in_groups
from trtpoets.reporting.gallery import galleries_from_report
from trtpoets.reporting.gate_summary import gate_section
from trtpoets.reporting.sections.accuracy_sections import (
    accuracy_section,
    dataset_section,
    engines_section,
    precisions_section,
)
from trtpoets.reporting.sections.all_photos_section import all_photos_section
from trtpoets.reporting.sections.confusions import mistakes_section
from trtpoets.reporting.sections.int8_section import int8_section
from trtpoets.reporting.sections.learning_curve_section import class_curves_section, learning_curve_section
from trtpoets.reporting.sections.near_copies_section import copies_section
from trtpoets.reporting.sections.provenance import artefacts_from_report, commands_from_report, conditions_from_report
from trtpoets.reporting.sections.race_section import race_section
from trtpoets.reporting.sections.speed_section import speed_section, tradeoff
from trtpoets.reporting.sections.sweep_section import sweep_section
from trtpoets.reporting.sections.training_section import train_benchmark_section, training_section
from trtpoets.reporting.verdict import (
    UNKNOWN,
    fastest,
    file_of,
    main_runner,
    narrow_runners,
    precision_of,
    runner_named,
    significantly_faster,
    verdict_groups,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from markupsafe import Markup

    from trtpoets.core.types import Photo
    from trtpoets.reporting.model import Report


def page_from_report(report: Report, photos: Mapping[str, Photo] | None = None) -> str:
    """Return the page of a report. `photos` are those that may be shown, by their path in the report.

    Raises MissingDependency without the extra `report`. For a photo that is missing or damaged, the name is shown.
    """
    with needs("report", reason="the report's page"):
        import jinja2
    templates = files("trtpoets.reporting") / "templates"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_visible
    )
    environment.filters |= {"breakable": _breakable, "whole_options": _whole_options}
    template = environment.from_string((templates / "page.html").read_text(encoding="utf-8"))
    galleries = galleries_from_report(report, photos or {})
    text = template.render(
        css=(templates / "page.css").read_text(encoding="utf-8"),
        title=shown(report.name) or "A classifier",
        subtitle=_subtitle(report),
        tiles=_tiles(report),
        verdict=verdict_groups(report),
        tradeoff=tradeoff(report),
        accuracy=accuracy_section(report),
        all_photos=all_photos_section(report),
        learning_curve=learning_curve_section(report),
        class_curves=class_curves_section(report),
        gate=gate_section(report.gate),
        speed=speed_section(report),
        errors=mistakes_section(report),
        galleries=galleries.others,
        training=training_section(report),
        rates=train_benchmark_section(report),
        sweep=sweep_section(report),
        race=race_section(report),
        dataset=dataset_section(report),
        copies=copies_section(report),
        precisions=precisions_section(report),
        int8=int8_section(report),
        changed=galleries.int8,
        engines=engines_section(report),
        skipped=[(entry.what, entry.why) for entry in report.skipped],
        absent=[(entry.what, entry.why) for entry in report.absent],
        conditions=conditions_from_report(report),
        artefacts=artefacts_from_report(report),
        commands=commands_from_report(report),
        version=trtpoets.__version__,
    )
    # Non-breaking spaces keep a unit with its number.
    text = text.replace(" %", "\u00a0%").replace(" ms", "\u00a0ms").replace(" MiB", "\u00a0MiB")
    return shown("\n".join(line for line in text.split("\n") if line.strip()) + "\n", keep="\n")


def _breakable(text: str) -> Markup:
    """Return HTML that breaks a long name after an underscore instead of within a word."""
    from markupsafe import Markup, escape

    plain = str(escape(text))  # in Python 3.11 re.sub escapes what it puts into Markup
    return Markup(re.sub(r"(?<=[^\W_])_(?=[^\W_])", "_<wbr>", plain))  # noqa: S704 - it is escaped


def _whole_options(command: str) -> Markup:
    """Return a command as HTML that has no line break within an option, such as after the hyphens of --name."""
    from markupsafe import Markup, escape

    plain = str(escape(shown(command)))  # in Python 3.11 re.sub escapes what it puts into Markup
    return Markup(re.sub(r"(?<!\S)--?[\w-]+", r"<span>\g<0></span>", plain))  # noqa: S704 - it is escaped


def _visible(value: Any) -> Any:
    """Escape invisible characters of text in the template; markup is left as it is."""
    return shown(value) if type(value) is str else value


def _subtitle(report: Report) -> str:
    labels = [shown(label) for label in report.labels]
    what = joined(labels) if 0 < len(labels) <= 6 else many(len(labels), "class", "classes")
    if not labels:
        return "No classifier yet."
    adopted = report.spec is not None and report.spec.original is not None
    return f"Classifies {what}, {'adopted from' if adopted else 'with the backbone'} {shown(report.backbone)}."


@dataclass(frozen=True)
class KeyFigure:
    """A number at the head of the page."""

    what: str
    value: str
    note: str


def _agreement(report: Report, name: str) -> KeyFigure:
    """Return the agreement of a runner's file on all photos outside calibration, else the runner's on test photos.

    The note names the file, what its answers are compared with, and the photos.
    """
    runner = runner_named(report, name)
    measured, what = report.on_all_photos(runner), f"{precision_of(report, name)} agreement"
    if measured is None:
        photos = photos_in_groups(report.test_photos, report.test_groups, "test photo")
        bounds = interval(*report.intervals[name].agreement or UNKNOWN)
        note = f"{file_of(runner)}: same answers as {report.baseline_text}, {bounds} on {photos}"
        return KeyFigure(what, percent(report.agreement[name]), note)
    photos = f"{photos_in_groups(measured.photos, measured.groups)} {measured.counted_photos}"
    bounds = interval(measured.agreement_low, measured.agreement_high)
    heads = ", by cross-fitted heads" if report.all_photos and report.all_photos.folds else ""
    note = f"{file_of(runner)}: same answers as fp32.onnx, {bounds} on {photos}{heads}"
    return KeyFigure(what, percent(measured.agreement), note)


def _tiles(report: Report) -> list[KeyFigure]:
    """The key figures: accuracy, agreement of the reduced precisions, and the largest speed-up."""
    tiles = []
    runner = main_runner(report)
    if runner is not None:
        photos = photos_in_groups(report.test_photos, report.test_groups)
        note = f"{interval(*report.intervals[runner].accuracy or UNKNOWN)} on {photos}"
        tiles.append(KeyFigure("Accuracy", percent(report.accuracy[runner]), note))
    for narrow in narrow_runners(report):
        tiles.append(_agreement(report, narrow))
    batches = sorted({row.batch for row in report.benchmarks})
    best = fastest(report, batches[0]) if batches else None
    if best is not None and significantly_faster(best) and best.runner != report.baseline:
        note = f"{best.runner.name}, {milliseconds(best.p50_ms)} ms at batch {best.batch}"
        tiles.append(KeyFigure(f"Faster than {report.baseline_text}", f"{best.speedup:.1f}×", note))
    return tiles
