"""What a benchmark says beside its speeds, as tables: the three clocks, a scenario's outcomes, what changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import milliseconds, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

Part = tuple[str, list[str], list["Sequence[Any]"]]
"""A table: title, columns (those that end in ">" are numbers), rows."""


DRIFTS = "drifts"
"""Stands where an interval would, if a ratio had not been another at the end than at the beginning."""


def ratio(row: Mapping[str, Any]) -> str:
    """How many times as fast as TensorFlow, and by how much two runs differ, where that did not drift."""
    if not row["valid"]:
        return "INVALID"
    if row.get("speedup") is None:
        return "–"
    if row.get("drifts"):
        return f"{row['speedup']:.2f}× {DRIFTS}"
    low, high = row.get("speedup_low"), row.get("speedup_high")
    if low is None or high is None or low == high:
        return f"{row['speedup']:.2f}×"
    return f"{row['speedup']:.2f}× ±{(high / low) ** 0.5 - 1:.0%}"


def benched_parts(details: Mapping[str, Any]) -> Iterator[Part]:
    """The tables that there is something for."""
    timed = [row for row in details["measurements"] if row.get("end_to_end") or row.get("device")]
    if timed:
        yield _clocks(timed)
        yield _costs(timed)
    if details.get("outcomes"):
        yield _outcomes(details["outcomes"])
    if details.get("compared"):
        yield from _compared(details["compared"])


def _clocks(measured: list[Mapping[str, Any]]) -> Part:
    rows: list[Sequence[Any]] = []
    for row in sorted(measured, key=lambda each: int(each["batch"])):
        device, whole = row.get("device") or {}, row.get("end_to_end") or {}
        parts = [device.get(f"{part}_ms") for part in ("h2d", "compute", "d2h", "enqueue")]
        medians = [row["p50_ms"], whole.get("p50_ms"), *parts]
        rows.append((row["runner"], row["batch"], *(milliseconds(each) for each in medians)))
    columns = ["runner", "batch>", "infer>", "from file>", "copy in>", "compute>", "copy out>", "queue>"]
    title = "Three clocks, ms (medians): inference; from the file; the GPU's own"
    if not any(row.get("device") for row in measured):
        return title.replace("Three", "Two").replace("; the GPU's own", ""), columns[:4], [row[:4] for row in rows]
    return title, columns, rows


def _costs(measured: list[Mapping[str, Any]]) -> Part:
    rows: list[Sequence[Any]] = []
    for row in sorted(measured, key=lambda each: int(each["batch"])):
        joules = row.get("joules_per_photo")
        memory = [row.get("peak_memory_mib"), row.get("gpu_memory_mib")]
        rows.append(
            (
                row["runner"],
                row["batch"],
                f"{row['load_seconds']:.2f}",
                milliseconds(row["first_ms"]),
                *("–" if each is None else f"{each:,.0f}" for each in memory),
                "–" if joules is None else f"{1000 * joules:,.3g}",
            )
        )
    names = ["runner", "batch>", "load s>", "first ms>", "MiB>", "GPU MiB>", "mJ a photo>"]
    known = [place for place, _ in enumerate(names) if any(row[place] != "–" for row in rows)]
    columns = [names[place] for place in known]
    title = "Loading, the first inference, memory at most" + (", energy beyond idling" if names[-1] in columns else "")
    return title, columns, [[row[place] for place in known] for row in rows]


def _outcomes(outcomes: list[Mapping[str, Any]]) -> Part:
    asked = any(each.get("loadgen") for each in outcomes)
    rows: list[Sequence[Any]] = []
    for each in outcomes:
        judged = each.get("loadgen") or {}
        theirs = "" if not judged else f"{_value(judged.get('value'))} {'VALID' if judged.get('valid') else 'INVALID'}"
        many = each.get("under_way", 1)
        streamed = f"{many} batches under way" if many > 1 else ""
        why = "; ".join(text for text in (each["reason"], streamed, judged.get("why")) if text)
        verdict = "VALID" if each["valid"] else "INVALID"
        told = [theirs] if asked else []
        rows.append((each["runner"], each["batch"], _value(each["value"]), verdict, *told, why))
    first = outcomes[0]
    what = {"p90_ms": "90th percentile, ms", "p99_ms": "99th percentile, ms", "photos_per_s": "photos/s"}
    title = f"MLPerf's {first['scenario']} scenario: {what[first['metric']]}"
    return title, ["runner", "batch>", "ours>", "", *(["LoadGen>"] if asked else []), "why"], rows


def _value(value: float | None) -> str:
    return "–" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"


def _brief(value: Any) -> str:
    """Enough of a condition to tell two apart: a hash by its beginning."""
    text = shown(str(value))
    return text[:12] if len(text) == 64 and " " not in text else text[:40]


def _compared(compared: Mapping[str, Any]) -> Iterator[Part]:
    rows: list[Sequence[Any]] = []
    for each in compared["changes"]:
        values = [_value(each[word]) for word in ("before", "now")]
        shares = ["–" if each[word] is None else f"{each[word]:+.1%}" for word in ("change", "noise")]
        by = {"speedup": "× TF", "p50_ms": "p50 ms"}.get(each["by"], "")
        noise = shares[1].replace("+", "±")
        rows.append((each["runner"], each["batch"], by, *values, shares[0], noise, each["verdict"]))
    columns = ["runner", "batch>", "by", "before>", "now>", "change>", "noise>", ""]
    yield "What changed, and whether it is more than noise", columns, rows
    different: list[Sequence[Any]] = [(each, "measured", "not measured") for each in compared["missing"]]
    different += [
        (each["what"], *(_brief(each[word]) for word in ("before", "now"))) for each in compared["conditions"]
    ]
    if different:
        yield "What else is different", ["", "before", "now"], different
