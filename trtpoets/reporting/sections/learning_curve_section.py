"""The section of the report about the number of photos: the learning curve, and what more photos would bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import interval, percent, point_interval, points, shown
from trtpoets.reporting.plots import learning_curve_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Picture, Pictures, Row, Section, Value

if TYPE_CHECKING:
    from trtpoets.judge.learning_curve import ExpectedGain, LearningCurve
    from trtpoets.reporting.model import Report

_WORTH = 0.005
"""The smallest expected gain, as a share, that is called likely to help."""

_EXPECTED = (
    "The rows with a change are expected, not measured: the error is fitted by a + b / n^c for several c. The interval "
    "of a change covers the choice of the photos and of c. It holds for more photos like these."
)


def learning_curve_section(report: Report) -> Section | None:
    """Return the section with the points of the learning curve; None where there is no curve."""
    curve = report.all_photos.learning_curve if report.all_photos else None
    if curve is None:
        return None
    if curve.skipped:
        return Section(note=f"There is no learning curve: {shown(curve.skipped)}.")
    return Section(
        note=f"{gain_sentence(curve)} The heads of the folds were trained again on shares of their training photos. "
        "They classified the same photos.",
        columns=[("training photos", TEXT), ("accuracy", NUMBER), ("change, points", NUMBER)],
        rows=[
            *(
                Row([f"{point.photos:,}", Value(percent(point.accuracy), interval(point.low, point.high)), "–"])
                for point in curve.points
            ),
            *(_expected_row(curve, gain) for gain in curve.gains),
        ],
        plots=Pictures(lambda: [_picture(curve)]),
        notes=[_EXPECTED],
    )


def gain_sentence(curve: LearningCurve) -> str:
    """Return a sentence with the change of accuracy that twice as many photos would bring; "" without a curve."""
    if not curve.gains:
        return ""
    gain = curve.gains[0]
    change = f"{points(gain.gain)} points ({point_interval(gain.low, gain.high)})"
    if gain.low > 0:
        return f"{_times(gain)} as many photos of this kind would change the accuracy by {change}."
    return (
        f"{_times(gain)} as many photos of this kind would change the accuracy by {change}: that more photos help is "
        "likely, but not shown."
        if gain.gain >= _WORTH
        else f"{_times(gain)} as many photos of this kind would hardly change the accuracy: by {change}."
    )


def _times(gain: ExpectedGain) -> str:
    return "Twice" if gain.factor == 2 else f"{gain.factor:g} times"


def _expected_row(curve: LearningCurve, gain: ExpectedGain) -> Row:
    last = curve.points[-1]
    number = f"{round(gain.factor * last.photos):,} (expected)"
    change = Value(points(gain.gain), point_interval(gain.low, gain.high))
    return Row([number, percent(min(last.accuracy + gain.gain, 1.0)), change])


def _picture(curve: LearningCurve) -> Picture:
    measured = [(point.photos, point.accuracy, point.low, point.high) for point in curve.points]
    last = curve.points[-1]

    def reached(change: float) -> float:
        return min(last.accuracy + change, 1.0)

    expected = [
        (round(gain.factor * last.photos), reached(gain.gain), reached(gain.low), reached(gain.high))
        for gain in curve.gains
    ]
    ends = ", ".join(f"{photos:,} photos {percent(value)}" for photos, value, *_ in (*measured, *expected))
    return learning_curve_plot(measured, expected), f"accuracy by the number of training photos: {ends}", ""
