"""The section of the report about the race between networks, and its table for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import interval, many, milliseconds, percent, shown
from trtpoets.core.types import Precision
from trtpoets.reporting.plots import race_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Pictures, Row, Section, Value

if TYPE_CHECKING:
    from trtpoets.judge.race import Contestant, Race
    from trtpoets.reporting.model import Report
    from trtpoets.reporting.sections.section import Picture
    from trtpoets.reporting.tables.inspection import Part


def race_section(report: Report) -> Section | None:
    """Return the section with the networks and their frontier of accuracy and latency; None without a race."""
    race = report.race
    if race is None:
        return None
    return Section(
        note=f"{why_sentence(race)} {_how(race)}",
        columns=[
            ("network", TEXT),
            ("pixels", NUMBER),
            ("latency, ms", NUMBER),
            ("photos", NUMBER),
            ("accuracy", NUMBER),
            ("rating", NUMBER),
            ("judged in", TEXT),
            ("", TEXT),
        ],
        rows=[_row(race, contestant) for contestant in _ordered(race)],
        plots=Pictures(lambda: _plots(race)),
        notes=[
            "Networks that left earlier were judged on fewer photos, so that their accuracy is less certain.",
            *_about_int8(race),
        ],
    )


def race_part(race: Race) -> Part:
    """Return the networks as a table for the terminal."""
    rows = [
        (
            shown(contestant.backbone),
            milliseconds(contestant.latency_ms),
            f"{contestant.rounds[-1].photos:,}" if contestant.rounds else "–",
            percent(contestant.rounds[-1].accuracy if contestant.rounds else None),
            percent(contestant.rounds[-1].rating if contestant.rounds else None),
            contestant.rounds[-1].precision.value if contestant.rounds else "–",
            shown(contestant.outcome),
        )
        for contestant in _ordered(race)
    ]
    title = f"Networks; latency {_latency_text(race)}"
    return title, ["network", "ms>", "photos>", "accuracy>", "rating>", "in", ""], rows


def why_sentence(race: Race) -> str:
    """Return what the race decided, and what `quantize` may decide otherwise, as sentences."""
    doubt = f" But {race.int8.doubt}." if race.int8 is not None and race.int8.doubt else ""
    return f"Result: {race.why}.{doubt}"


def _about_int8(race: Race) -> list[str]:
    """Return how far INT8 of the chosen network was checked."""
    int8 = race.int8
    if int8 is None:
        return []
    agrees = f"agrees with FP32 on {percent(int8.agreement)} ({interval(int8.low, int8.high)})"
    text = (
        f"In the race, INT8 of {shown(race.winner.backbone)} {agrees} of {many(int8.photos, 'photo')}, and "
        f"{percent(int8.share, 0)} of its multiply-adds run in INT8. It was made from few photos for calibration, "
        "without layers in float and without a refitted last layer. Whether INT8 is recommended is decided by "
        "quantize, on all training and validation photos."
    )
    return [text]


def _how(race: Race) -> str:
    return (
        f"The networks were judged by cross-fitted heads on training and validation photos: in FP32 on a part of "
        f"them{_in_precision(race)}. They are compared by the rating, which is the mean of the accuracy and of the "
        f"probability of the right label. The latency is for one photo, {_latency_text(race)}."
    )


def _latency_text(race: Race) -> str:
    if race.estimated:
        return f"estimated for {shown(race.device)}, which is a lower bound"
    return f"measured in {'INT8' if race.precision is Precision.INT8 else 'FP32'} on {shown(race.device)}"


def _in_precision(race: Race) -> str:
    return ", the one that would be chosen in INT8 too" if race.precision is Precision.INT8 else ""


def _ordered(race: Race) -> list[Contestant]:
    """Return the chosen network, then the others by the number of rounds and the last accuracy."""

    def place(contestant: Contestant) -> tuple[bool, int, float]:
        accuracy = contestant.rounds[-1].accuracy if contestant.rounds else 0.0
        return contestant is not race.winner, -len(contestant.rounds), -accuracy

    return sorted(race.contestants, key=place)


def _row(race: Race, contestant: Contestant) -> Row:
    name = Value(shown(contestant.backbone), shown(contestant.weights or ""))
    cells: list[object] = [name, str(contestant.pixels), milliseconds(contestant.latency_ms)]
    if contestant.rounds:
        last = contestant.rounds[-1]
        accuracy = Value(percent(last.accuracy), interval(last.low, last.high))
        cells += [f"{last.photos:,}", accuracy, percent(last.rating), last.precision.value.upper()]
    else:
        cells += ["–", "–", "–", "–"]
    return Row([*cells, shown(contestant.outcome)], "best" if contestant is race.winner else "")


def _plots(race: Race) -> list[Picture]:
    judged = [
        (
            shown(contestant.backbone),
            contestant.latency_ms,
            contestant.rounds[-1].accuracy,
            contestant.rounds[-1].low,
            contestant.rounds[-1].high,
            contestant.on_frontier,
        )
        for contestant in race.contestants
        if contestant.rounds and contestant.latency_ms is not None
    ]
    if len(judged) < 2:
        return []
    ends = ", ".join(f"{name} {percent(accuracy)} at {milliseconds(ms)} ms" for name, ms, accuracy, *_ in judged)
    return [(race_plot(judged), f"accuracy by latency: {ends}", "")]
