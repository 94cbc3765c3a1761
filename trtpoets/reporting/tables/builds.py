"""Builds on the terminal: plans of builds, and the precisions of the layers of built engines."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import joined, many, percent, shown, targets

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


_COLUMNS = 80


def plan_text(plan: Any) -> str:
    """Return a BuildPlan as a few lines of text."""
    if plan.problems:
        verdict = "can't be built here"
    else:
        verdict = "exists and is up to date" if plan.current else "can be built here"
    cached = plan.timing_cache is not None and plan.timing_cache.is_file()
    lines = [
        ("from", f"{plan.onnx}, operator set {plan.opset}"),
        ("by", f"{plan.library or plan.flavour.value + ', which is not installed'}{_device(plan)}"),
        ("photos", _shapes(plan.shapes)),
        ("options", _options(plan)),
        *([("types", plan.typing)] if plan.typing else []),
        *([("timings", f"{plan.timing_cache}{'' if cached else ', will be written'}")] if plan.timing_cache else []),
        *(("note", note) for note in plan.notes),
        *(line for problem in plan.problems for line in (("but", problem.message), ("try", problem.hint))),
    ]
    return "\n".join([f"{shown(plan.engine)}: {verdict}", *(_line(word, text) for word, text in lines)])


def _line(word: str, text: str) -> str:
    """Return one fact with indented continuation lines. Paths are not broken."""
    return textwrap.fill(
        shown(text),
        _COLUMNS,
        initial_indent=f"  {word:<8}",
        subsequent_indent=" " * 10,
        break_long_words=False,
        break_on_hyphens=False,
    )


def layer_lines(engines: Iterable[Any]) -> list[str]:
    """Return a line for each engine whose layers are known, and one for each reason why others are unknown."""
    lines, reasons = [], {}
    for engine in engines:
        layers = engine.card.layers
        if layers is None:
            continue
        if layers.counts:
            lines.append(f"{engine.path.name}: {layers_text(layers.counts, layers.shares)}")
            lines += [f"{engine.path.name}: {note}" for note in engine.card.notes]
        else:
            reasons[layers.why_not] = f"Layer by layer: {layers.why_not}"
    return [*lines, *reasons.values()]


def layers_text(counts: Mapping[str, int], shares: Mapping[str, float]) -> str:
    """Return text such as "61 layers: 52 in INT8 (85.2 %) and 9 in FP16 (14.8 %)"."""
    parts = [f"{count} in {kind.upper()} ({percent(shares[kind])})" for kind, count in counts.items()]
    return f"{many(sum(counts.values()), 'layer')}: {joined(parts)}"


def _device(plan: Any) -> str:
    places = targets(list(plan.targets))
    device = f" for {places}" if places else ""
    if plan.gpu:
        device += f", on {plan.gpu}"
    return device + (f", DLA core {plan.dla_core}" if plan.dla_core is not None else "")


def _shapes(shapes: Iterable[tuple[int, ...]]) -> str:
    least, usual, most = (shape[0] for shape in shapes)
    size = "×".join(map(str, next(iter(shapes))[1:]))
    return f"{size}, {least} to {most} at a time, tuned for {usual}" if least != most else f"{size}, {most} at a time"


def _options(plan: Any) -> str:
    words = [*plan.network, *plan.flags, f"workspace {plan.workspace_mib:,} MiB"]
    if plan.optimization_level is not None:
        words.append(f"level {plan.optimization_level}")
    return ", ".join(words)
