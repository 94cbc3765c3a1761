"""The sections of the report about the number of photos: the learning curve, and what more photos would bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import first_names, interval, many, percent, point_interval, points, shown
from trtpoets.reporting.plots import learning_curve_plot
from trtpoets.reporting.sections.section import NUMBER, TEXT, Picture, Pictures, Row, Section, Value

if TYPE_CHECKING:
    from trtpoets.judge.learning_curve import ClassCurve, ExpectedGain, LearningCurve
    from trtpoets.reporting.model import Report
    from trtpoets.reporting.tables.inspection import Part

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


_OF_CLASS = (
    "The recall is that of heads trained on a share of all photos. The changes are expected for twice as many photos "
    "of the class, and no more of the others; the accuracy is that on the present photos. A class with more training "
    "photos is answered more often, so that its recall rises at the expense of the others: the accuracy counts both. "
    "Each interval is for one class; the largest of many changes is partly chance."
)

_SHOWN_CLASSES = 30
"""The most classes in the table of the page."""

_TERMINAL_CLASSES = 10
"""The most classes in the table of the terminal."""


def class_curves_section(report: Report) -> Section | None:
    """Return the section with the recall of each class, and what more photos of it would bring; None without curves."""
    curve = report.all_photos.learning_curve if report.all_photos else None
    if curve is None or not curve.classes:
        return None
    sizes = [f"{100 * point.photos / curve.points[-1].photos:.3g} %" for point in curve.points]
    listed = _by_gain(curve)
    rest = len(listed) - _SHOWN_CLASSES
    return Section(
        note=class_sentence(curve),
        columns=[
            ("class", TEXT),
            ("photos", NUMBER),
            *((f"recall at {size}", NUMBER) for size in sizes),
            ("more photos", NUMBER),
            ("recall, points", NUMBER),
            ("accuracy, points", NUMBER),
        ],
        rows=[_class_row(of_class) for of_class in listed[:_SHOWN_CLASSES]],
        notes=[
            _OF_CLASS,
            *([f"{many(rest, 'more class', 'more classes')} not listed."] if rest > 0 else []),
            *_why(listed),
        ],
    )


def class_part(curve: LearningCurve) -> Part | None:
    """Return a table for the terminal of the classes of which more photos are expected to change most."""
    rows = [
        (
            shown(of_class.label),
            f"{of_class.photos:,}",
            percent(of_class.points[-1].accuracy if of_class.points else None),
            points(recall.gain),
            point_interval(recall.low, recall.high),
            points(accuracy.gain),
            point_interval(accuracy.low, accuracy.high),
        )
        for of_class, recall, accuracy in _expected(curve)[:_TERMINAL_CLASSES]
    ]
    title = "Expected from twice as many photos of one class: change of recall and accuracy"
    return (title, ["class", "photos>", "recall>", "change>", "95 %>", "acc.>", "95 %>"], rows) if rows else None


def class_sentence(curve: LearningCurve) -> str:
    """Return a sentence with the class of which more photos are expected to bring most; "" if that is not known."""
    expected = _expected(curve)
    if not expected:
        return ""
    of_class, recall, accuracy = expected[0]
    return (
        f"{many(of_class.more, 'more photo')} of {shown(of_class.label)} would change its recall by "
        f"{points(recall.gain)} points ({point_interval(recall.low, recall.high)}), and the accuracy by "
        f"{points(accuracy.gain)} ({point_interval(accuracy.low, accuracy.high)})."
    )


def _expected(curve: LearningCurve) -> list[tuple[ClassCurve, ExpectedGain, ExpectedGain]]:
    """Return the classes with expected changes of recall and accuracy.

    Those whose accuracy is shown to rise come first, then those with the largest expected change of their recall.
    """
    expected = [
        (of_class, of_class.recall_gain, of_class.accuracy_gain)
        for of_class in curve.classes
        if of_class.recall_gain is not None and of_class.accuracy_gain is not None
    ]
    return sorted(expected, key=lambda entry: (-(entry[2].gain if entry[2].low > 0 else 0.0), -entry[1].gain))


def _by_gain(curve: LearningCurve) -> list[ClassCurve]:
    """Return all classes: first those with expected changes, in their order."""
    first = [of_class for of_class, _, _ in _expected(curve)]
    return [*first, *(of_class for of_class in curve.classes if of_class not in first)]


def _class_row(of_class: ClassCurve) -> Row:
    recalls = [Value(percent(point.accuracy), interval(point.low, point.high)) for point in of_class.points]
    changes = [
        "–" if gain is None else Value(points(gain.gain), point_interval(gain.low, gain.high))
        for gain in (of_class.recall_gain, of_class.accuracy_gain)
    ]
    more = f"{of_class.more:,}" if of_class.more else "–"
    return Row([shown(of_class.label), f"{of_class.photos:,}", *recalls, more, *changes])


def _why(curves: list[ClassCurve]) -> list[str]:
    """Return why nothing is expected for classes, a sentence for each reason."""
    reasons: dict[str, list[str]] = {}
    for of_class in curves:
        if of_class.skipped:
            reasons.setdefault(of_class.skipped, []).append(shown(of_class.label))
    return [f"Nothing is expected for {first_names(names, 3)}: {shown(why)}." for why, names in reasons.items()]


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
