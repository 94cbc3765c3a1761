"""What `inspect` found, in rows for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import many, percent, seconds, shown, targets
from trtpoets.reporting.sections.adoption_section import adoption_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trtpoets.core.types import EngineCard, LayerReport, ModelSpec, TfliteModel

Part = tuple[str, "Sequence[str]", "Sequence[Sequence[Any]]"]
"""A table: its title, its columns, its rows."""

_LISTED = 20
"""Rows of a kind that may be thousands: operators, tensors, labels."""

_CAPTION = {
    "engine": "an engine",
    "onnx": "an ONNX file",
    "tflite": "a TFLite file",
    "card": "a card",
    "model": "a model.json",
}


def inspection_parts(found: Any) -> list[Part]:
    """The tables of an Inspection."""
    rows, *more = _PARTS[found.kind](found.facts) if found.of_ours else _other(found.facts)
    caption = _CAPTION.get(found.kind, "a calibration cache") if found.of_ours else found.facts.words
    what = f"{caption}, {found.bytes:,} bytes"
    return [("", ["", ""], [("file", shown(found.path)), ("is", what), *rows[2], ("sha256", found.sha256)]), *more]


def _engine(facts: Any) -> list[Part]:
    header, card = facts.header, facts.card
    rows: list[tuple[Any, ...]] = [
        ("built by", f"{'TensorRT-RTX' if header.flavour.value == 'rtx' else 'TensorRT'} {header.version}"),
        ("size", "as its header says" if header.whole else "not told by its header"),
        ("runs on", targets(list(header.targets)) or "not told by its header"),
        ("integrity", "intact: the file is the one that its card describes" if card else facts.not_intact),
        ("authenticity", _origin(facts.foreign if card else facts.not_intact)),
    ]
    if card:
        on = f" on {_gpu(card)}" if card.gpu else ""
        batch = card.batch
        rows += [
            ("network", f"{card.spec.name}: {card.spec.backbone}, {many(len(card.spec.labels), 'label')}"),
            ("precision", card.precision.value + (f", {card.typing}" if card.typing else "")),
            ("for", f"{targets(list(card.targets)) or 'an unknown GPU'}, {card.platform}"),
            ("batch", f"{batch.minimum} to {batch.maximum}, tuned for {batch.optimum}"),
            ("built", f"in {seconds(card.build_seconds)}{on}"),
            *([("layers", _layers(card.layers))] if card.layers else []),
            *(("note", note) for note in card.notes),
            ("from ONNX", card.onnx_sha256),
            ("photos", f"{_photos(card.spec)}, rule {card.preprocess_hash[:12]}"),
        ]
    return [("", [], rows)]


def _gpu(card: EngineCard) -> str:
    """The GPU of a card, with what tells GPUs of one name apart: Jetson modules above all."""
    told = (
        f"compute capability {card.compute_capability}",
        f"{card.multiprocessors} SMs" if card.multiprocessors else "number of SMs unknown",
        f"{card.memory_gib} GiB" if card.memory_gib else "",
        card.board or "",
    )
    return f"{card.gpu} ({', '.join(filter(None, told))})"


def _origin(foreign: str) -> str:
    """Who made a file, as far as its card's HMAC tells."""
    return f"not known to be made here by you: {foreign}" if foreign else "made here by you: its HMAC is of your key"


def _layers(report: LayerReport) -> str:
    told = ", ".join(f"{count} {name} ({percent(report.shares[name])})" for name, count in report.counts.items())
    return told or f"not told: {report.why_not}"


def _onnx(facts: Any) -> list[Part]:
    rows: list[tuple[Any, ...]] = [
        ("written by", f"{shown(facts.producer) or 'unknown'}, format {facts.ir_version}"),
        ("operator sets", ", ".join(f"{shown(name)} {version}" for name, version in facts.opsets.items())),
        *(("takes", _tensor(each)) for each in facts.inputs),
        *(("gives", _tensor(each)) for each in facts.outputs),
        ("parameters", f"{facts.parameters:,}"),
        ("multiply-adds", f"{facts.multiply_adds:,} a photo{_unknown(facts.sizes_unknown)}"),
        *([("not counted", _counted(facts.not_counted))] if facts.not_counted else []),
        *(("weights in", _external(each)) for each in facts.external),
        ("Q/DQ", f"{facts.quantizers:,} and {facts.dequantizers:,}"),
    ]
    if facts.spec:
        rows += [
            ("network", f"{shown(facts.spec.name)}: {facts.spec.backbone}, {many(len(facts.spec.labels), 'label')}"),
            ("precision", facts.precision or "not told"),
            ("photos", f"{_photos(facts.spec)}, rule {facts.spec.preprocess.hash[:12]}"),
            *adoption_rows(facts.spec),
        ]
    else:
        rows.append(("of trtpoets", "no; if it is a classifier: trtpoets adopt FILE --name NAME"))
    work = [
        (name, each.layers, f"{each.multiply_adds:,}", _share(each.multiply_adds, facts.multiply_adds))
        for name, each in facts.work.items()
    ]
    operators = _first(list(facts.operators.items()), len(facts.operators))
    return [
        ("", [], rows),
        ("Convolutions and matrix products", ["precision", "layers>", "multiply-adds>", "share>"], work),
        ("Operators", ["operator", "nodes>"], [(shown(name), count) for name, count in operators]),
        *(
            [("What ONNX's checker says", [""], [(shown(each),) for each in facts.complaints])]
            if facts.complaints
            else []
        ),
    ]


def _tflite(facts: TfliteModel) -> list[Part]:
    network, *more = _model(facts.spec)[0][2]
    return [("", [], [network, ("precision", facts.precision.value), *more])]


def _card(facts: Any) -> list[Part]:
    rows: list[tuple[Any, ...]] = [(shown(name), state) for name, state in facts.files.items()]
    told = [
        (shown(name), shown(value)) for name, value in facts.details.items() if isinstance(value, str | int | float)
    ]
    described = [("describes", f"{name}: {state}") for name, state in rows]
    parts: list[Part] = [("", [], [*described, ("authenticity", _origin(facts.foreign)), ("key", facts.key)])]
    return [*parts, ("What it says", ["", ""], _first(told, len(told)))] if told else parts


def _model(facts: ModelSpec) -> list[Part]:
    labels = ", ".join(shown(label) for label in facts.labels[:_LISTED])
    more = f" and {len(facts.labels) - _LISTED:,} more" if len(facts.labels) > _LISTED else ""
    rows: list[tuple[Any, ...]] = [
        ("network", f"{shown(facts.name)}: {facts.backbone}"),
        ("labels", labels + more),
        ("photos", f"{_photos(facts)}, rule {facts.preprocess.hash[:12]}"),
        ("weights", facts.weights_id),
        *adoption_rows(facts),
    ]
    return [("", [], rows)]


def _calibration_cache(facts: Any) -> list[Part]:
    steps = [(shown(name), f"{step:.6g}", f"{127 * step:.6g}") for name, step in facts.scales.items()]
    rows: list[tuple[Any, ...]] = [
        ("for", f"TensorRT {facts.tensorrt}"),
        ("algorithm", facts.algorithm),
        ("tensors", f"{len(steps):,}"),
    ]
    return [("", [], rows), ("Tensors", ["tensor", "step>", "saturates at>"], _first(steps, len(steps)))]


def _photos(spec: ModelSpec) -> str:
    rule = spec.preprocess
    return f"{rule.height}×{rule.width}, {rule.resize.value}"


def _tensor(tensor: Any) -> str:
    if tensor.shape is None:
        return f"{shown(tensor.name)}: {tensor.dtype}, of a shape that is not told"
    return f"{shown(tensor.name)}: {tensor.dtype} ({', '.join('?' if n is None else shown(n) for n in tensor.shape)})"


def _counted(found: Any) -> str:
    return ", ".join(f"{count:,} {shown(name)}" for name, count in found.items())


def _external(file: Any) -> str:
    size = "" if file.bytes is None else f", {file.bytes:,} bytes"
    told = f"{shown(file.location)}{size}: {many(file.tensors, 'tensor')}"
    return f"{told}; can't be used: {shown(file.problem)}" if file.problem else told


def _other(facts: Any) -> list[Part]:
    rows: list[tuple[Any, ...]] = [(shown(name), shown(value)) for name, value in facts.details.items()]
    return [("", [], [*rows, ("next", facts.remedy)])]


def _share(part: int, whole: int) -> str:
    return percent(part / whole if whole else None)


def _unknown(count: int) -> str:
    return f"; {many(count, 'product')} of unknown size not counted" if count else ""


def _first(rows: list[tuple[Any, ...]], count: int) -> list[tuple[Any, ...]]:
    if count <= _LISTED:
        return rows
    return [*rows[:_LISTED], (f"… and {count - _LISTED:,} more", *[""] * (len(rows[0]) - 1))]


_PARTS: dict[str, Callable[[Any], list[Part]]] = {
    "engine": _engine,
    "onnx": _onnx,
    "tflite": _tflite,
    "card": _card,
    "model": _model,
    "calibration-cache": _calibration_cache,
}
