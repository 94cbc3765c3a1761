"""The section of the report about a sweep: settings of the head's training, and learning rates side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import many, percent
from trtpoets.judge.sweep import DEFAULT
from trtpoets.reporting.plots import rates_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Pictures, Section, rows_of

if TYPE_CHECKING:
    from trtpoets.judge.sweep import RateResult, SettingResult, Sweep
    from trtpoets.reporting.model import Report
    from trtpoets.reporting.sections.section import Picture
    from trtpoets.reporting.tables.inspection import Part

_SHOWN = 10
"""The number of settings in the table of the terminal, besides the default one."""

_COLUMNS = ("optimizer", "learning rate", "penalty", "smoothing", "accuracy", "chosen", "")


def sweep_section(report: Report) -> Section | None:
    """Return the section with the settings by accuracy, and the curves of the codelab's learning rates."""
    sweep = report.sweep
    if sweep is None:
        return None
    first, rest = _divided(sweep)
    kinds = (TEXT, NUMBER, NUMBER, NUMBER, NUMBER, NUMBER, TEXT)
    why = f"{sweep.why[0].upper()}{sweep.why[1:]}."
    return Section(
        note=f"{why} {_rates_text(sweep.rates)}",
        columns=list(zip(_COLUMNS, kinds, strict=True)),
        caption=f"Accuracy over {many(sweep.gain.photos, 'training and validation photo')}, by heads that were trained "
        f"without the photo. The highest of {len(sweep.settings)} is partly chance. Chosen: in how many of "
        f"{sweep.folds} folds the setting was the best on the photos that choose.",
        rows=rows_of(_cells(sweep, result) for result in first),
        more=rows_of(_cells(sweep, result) for result in rest),
        plots=Pictures(lambda: _plots(sweep.rates)),
    )


def sweep_part(sweep: Sweep) -> Part:
    """Return the best settings and the default one as a table for the terminal."""
    rows, _ = _divided(sweep)
    title = f"The best {_SHOWN} of {len(sweep.settings)} settings, and the default; {sweep.folds} folds"
    heads = [name if name in ("optimizer", "") else f"{name}>" for name in _COLUMNS]
    return title, heads, [tuple(_cells(sweep, result)) for result in rows]


def _divided(sweep: Sweep) -> tuple[list[SettingResult], list[SettingResult]]:
    """Return the best settings with the default one, and the others, by accuracy."""
    ordered = sorted(sweep.settings, key=lambda result: (-result.accuracy, result.setting != DEFAULT))
    first = [result for place, result in enumerate(ordered) if place < _SHOWN or result.setting == DEFAULT]
    return first, [result for result in ordered if result not in first]


def _cells(sweep: Sweep, result: SettingResult) -> list[str]:
    setting = result.setting
    mark = "default" if setting == DEFAULT else "recommended" if setting == sweep.recommended else ""
    if result.diverged:
        mark = f"diverged in {many(result.diverged, 'fold')}"
    numbers = [f"{value:g}" for value in (setting.learning_rate, setting.l2, setting.label_smoothing)]
    return [setting.optimizer.value, *numbers, percent(result.accuracy), str(result.chosen), mark]


def _rates_text(rates: tuple[RateResult, ...]) -> str:
    """Return sentences that compare the learning rates, and explain what a rate that is too large does."""
    ends = []
    for rate in rates:
        if rate.curves is None:
            ends.append(f"at {rate.learning_rate:g} it diverged")
        else:
            values = rate.curves.validation_cross_entropy
            ends.append(f"at {rate.learning_rate:g} it ends at {values[-1]:.3g}, with {min(values):.3g} at best")
    return (
        f"Gradient descent with the learning rates of the codelab, cross-entropy on the validation photos: "
        f"{', '.join(ends)}. A step moves the weights against the slope of the loss, by the slope times the learning "
        "rate. With a small rate they approach the minimum slowly. With a rate such as 1.0 a step jumps over the "
        "minimum and lands on the other side, often higher: the loss oscillates, or grows until it is not a number any "
        "more (it diverges). The best step on the validation photos is kept, so that oscillation costs less than the "
        "curve suggests."
    )


def _plots(rates: tuple[RateResult, ...]) -> list[Picture]:
    """Return a plot per measure with the validation curves of the codelab's learning rates."""
    curves = {f"{rate.learning_rate:g}": rate.curves for rate in rates if rate.curves is not None}
    if not curves:
        return []
    measures = {
        "accuracy, gradient descent": {name: (own.steps, own.validation_accuracy) for name, own in curves.items()},
        "cross-entropy, gradient descent": {
            name: (own.steps, own.validation_cross_entropy) for name, own in curves.items()
        },
    }
    plots = []
    for unit, lines in measures.items():
        ends = ", ".join(f"{name}: {values[-1]:.3g}" for name, (_, values) in lines.items())
        plots.append(
            (
                rates_plot(unit, lines, logarithmic=unit.startswith("cross")),
                f"Validation {unit} by learning rate; at the end {ends}",
                "",
            )
        )
    return plots
