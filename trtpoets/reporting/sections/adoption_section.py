"""How an adopted classifier's file expects its photos, and how that is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.formatting import many, shown
from trtpoets.core.original import Source
from trtpoets.core.runner_id import baseline_of, baseline_text

if TYPE_CHECKING:
    from trtpoets.core.network_notes import Parity
    from trtpoets.core.original import Original
    from trtpoets.core.types import ModelSpec

SOURCES = {
    Source.OPTION: "given as an option",
    Source.GRAPH: "read from the graph",
    Source.METADATA: "read from metadata",
    Source.SIBLING: "read from a neighbouring file",
    Source.PRODUCER: "known of its producer",
    Source.TRIAL: "found by a trial with photos",
    Source.ASSUMED: "assumed",
}


def pixels_text(spec: ModelSpec, original: Original) -> str:
    """Return the formula of the values that the network takes, like "BGR, x - 104, x - 117, x - 124"."""
    preprocess = spec.preprocess
    order = original.channels.text
    number = original.channels.number
    pairs = list(zip(preprocess.scale[:number], preprocess.offset[:number], strict=True))
    if order == "BGR":
        pairs.reverse()
    texts = [_formula(scale, offset) for scale, offset in pairs]
    return f"{order}, {texts[0] if len(set(texts)) == 1 else ', '.join(texts)}"


def _formula(scale: float, offset: float) -> str:
    text = "x" if abs(scale - 1) < 1e-4 else f"x / {1 / scale:.6g}"
    return text if offset == 0 else f"{text} {'+' if offset > 0 else '-'} {abs(offset):.6g}"


def adoption_rows(spec: ModelSpec) -> list[tuple[str, str]]:
    """Return (what, value) lines about the original of an adopted classifier; none for another classifier."""
    original = spec.original
    if original is None:
        return []
    preprocess = spec.preprocess
    fraction = f", {preprocess.crop_fraction:.3g} of the shorter side" if preprocess.crop_fraction != 1 else ""
    rows = [
        ("original file", f"{original.file} ({original.format.value})"),
        ("producer", original.producer or "unknown"),
        ("pixel values", pixels_text(spec, original)),
        ("photos", f"{preprocess.height} x {preprocess.width} pixels, {preprocess.resize.value}{fraction}"),
        ("output", original.output.answers.value.replace("-", " ")),
    ]
    rows += [(f"{item.about}: {SOURCES[item.source]}", item.text) for item in original.evidence]
    return [(what, shown(value)) for what, value in rows]


def parity_sentence(spec: ModelSpec, parity: Parity, rounded: Parity | None) -> str:
    """Return how fp32.onnx compares with the classifier. For an integer network `rounded` is a variant that rounds."""
    original = baseline_text(baseline_of(spec))
    on = f"on {many(parity.photos, 'image')}"
    if rounded is None:
        return f"fp32.onnx gives the scores of {original} {on}: the largest difference is {parity.max_abs:.1g}."
    same = "" if parity.same_answers is None else f"; it gives the same answer to {parity.same_answers} of them"
    return (
        f"With the rounding of its integers, the converted network gives the scores of {original} {on}, with a "
        f"difference of at most {rounded.max_abs:.2g}. fp32.onnx does not round: its scores differ by at most "
        f"{parity.max_abs:.2g}{same}."
    )
