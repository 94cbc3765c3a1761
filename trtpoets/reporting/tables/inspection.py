"""The result of `inspect` as tables for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trtpoets.core.formatting import first_names, many, percent, seconds, shown, targets
from trtpoets.core.types import Int8Form
from trtpoets.reporting.sections.adoption_section import adoption_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trtpoets.core.types import EngineCard, LayerReport, ModelSpec, TfliteModel

Part = tuple[str, "Sequence[str]", "Sequence[Sequence[Any]]"]
"""A table: its title, its columns, its rows."""

_LISTED = 20
"""The most operators, tensors or labels that are shown: a file may have thousands."""

_CAPTION = {
    "engine": "an engine",
    "onnx": "an ONNX file",
    "tflite": "a TFLite file",
    "card": "a card",
    "model": "a model.json",
}


def inspection_parts(inspection: Any) -> list[Part]:
    """Return the tables of an Inspection."""
    parts = _PARTS[inspection.kind](inspection.facts) if inspection.of_ours else _other(inspection.facts)
    caption = _CAPTION.get(inspection.kind, "a calibration cache") if inspection.of_ours else inspection.facts.words
    what = f"{caption}, {inspection.bytes:,} bytes"
    (_, _, rows), *further = parts
    summary = [("file", shown(inspection.path)), ("is", what), *rows, ("sha256", inspection.sha256)]
    return [("", ["", ""], summary), *further]


def _engine(facts: Any) -> list[Part]:
    header, card = facts.header, facts.card
    rows: list[tuple[Any, ...]] = [
        ("built by", f"{'TensorRT-RTX' if header.flavour.value == 'rtx' else 'TensorRT'} {header.version}"),
        ("size", "as in its header" if header.whole else "not in its header"),
        ("runs on", targets(list(header.targets)) or "not in its header"),
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
    """Return the GPU of a card, with properties that distinguish GPUs of the same name, such as Jetson modules."""
    properties = (
        f"compute capability {card.compute_capability}",
        f"{card.multiprocessors} SMs" if card.multiprocessors else "number of SMs unknown",
        f"{card.memory_gib} GiB" if card.memory_gib else "",
        card.board or "",
    )
    return f"{card.gpu} ({', '.join(filter(None, properties))})"


def _origin(foreign: str) -> str:
    """Return whether this user made a file, by the HMAC of its card; `foreign` is the reason why not, or empty."""
    return (
        f"may have been made by someone else: {foreign}"
        if foreign
        else "made by you on this machine: the HMAC is valid"
    )


def _layers(report: LayerReport) -> str:
    text = ", ".join(f"{count} {name} ({percent(report.shares[name])})" for name, count in report.counts.items())
    return text or f"unknown: {report.why_not}"


def _onnx(facts: Any) -> list[Part]:
    rows: list[tuple[Any, ...]] = [
        ("written by", f"{shown(facts.producer) or 'unknown'}, format {facts.ir_version}"),
        ("operator sets", ", ".join(f"{shown(name)} {version}" for name, version in facts.opsets.items())),
        *(("input", _tensor(tensor)) for tensor in facts.inputs),
        *(("output", _tensor(tensor)) for tensor in facts.outputs),
        ("parameters", f"{facts.parameters:,}"),
        ("multiply-adds", f"{facts.multiply_adds:,} per photo{_unknown(facts.sizes_unknown)}"),
        *([("not counted", _counted(facts.not_counted))] if facts.not_counted else []),
        *(("weights in", _external(file)) for file in facts.external),
        ("Q/DQ", f"{facts.quantizers:,} and {facts.dequantizers:,}"),
    ]
    if facts.spec:
        rows += [
            ("network", f"{shown(facts.spec.name)}: {facts.spec.backbone}, {many(len(facts.spec.labels), 'label')}"),
            ("precision", facts.precision or "unknown"),
            *_form(facts.form, facts.islands),
            ("photos", f"{_photos(facts.spec)}, rule {facts.spec.preprocess.hash[:12]}"),
            *adoption_rows(facts.spec),
        ]
    else:
        rows.append(("of trtpoets", "no; if it is a classifier: trtpoets adopt FILE --name NAME"))
    work_rows = [
        (name, work.layers, f"{work.multiply_adds:,}", _share(work.multiply_adds, facts.multiply_adds))
        for name, work in facts.work.items()
    ]
    operators = _first(list(facts.operators.items()))
    return [
        ("", [], rows),
        ("Convolutions and MatMuls", ["precision", "layers>", "multiply-adds>", "share>"], work_rows),
        ("Operators", ["operator", "nodes>"], [(shown(name), count) for name, count in operators]),
        *(
            [("Errors of ONNX's checker", [""], [(shown(complaint),) for complaint in facts.complaints])]
            if facts.complaints
            else []
        ),
    ]


_RUNTIMES = {
    Int8Form.TENSORRT: "TensorRT, which fuses its Q/DQ pairs to integer layers; ONNX Runtime on a CPU does not",
    Int8Form.CPU: "ONNX Runtime on CPUs, which fuses its layers to integer operators; TensorRT can't build it",
}
"""What each form of INT8 is for."""


def _form(form: Int8Form | None, islands: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the rows about the form of an INT8 file: its runtime, and what is computed in float between its layers."""
    if form is None:
        return []
    rows = [("for", _RUNTIMES[form])]
    if islands is not None:
        text = f"{many(len(islands), 'operator')}: {first_names(islands, _LISTED)}" if islands else "none"
        rows.append(("in float between INT8", text))
    return rows


def _tflite(facts: TfliteModel) -> list[Part]:
    ((_, _, rows),) = _model(facts.spec)
    network, *others = rows
    return [("", [], [network, ("precision", facts.precision.value), *others])]


def _card(facts: Any) -> list[Part]:
    described = [("describes", f"{shown(name)}: {state}") for name, state in facts.files.items()]
    details = [
        (shown(name), shown(value)) for name, value in facts.details.items() if isinstance(value, str | int | float)
    ]
    parts: list[Part] = [("", [], [*described, ("authenticity", _origin(facts.foreign)), ("key", facts.key)])]
    return [*parts, ("Details", ["", ""], _first(details))] if details else parts


def _model(facts: ModelSpec) -> list[Part]:
    rows: list[tuple[Any, ...]] = [
        ("network", f"{shown(facts.name)}: {facts.backbone}"),
        ("labels", first_names(facts.labels, _LISTED)),
        ("photos", f"{_photos(facts)}, rule {facts.preprocess.hash[:12]}"),
        ("weights", facts.weights_id),
        *adoption_rows(facts),
    ]
    return [("", [], rows)]


def _calibration_cache(facts: Any) -> list[Part]:
    scales = [(shown(name), f"{scale:.6g}", f"{127 * scale:.6g}") for name, scale in facts.scales.items()]
    rows: list[tuple[Any, ...]] = [
        ("for", f"TensorRT {facts.tensorrt}"),
        ("algorithm", facts.algorithm),
        ("tensors", f"{len(scales):,}"),
    ]
    return [("", [], rows), ("Tensors", ["tensor", "scale>", "saturates at>"], _first(scales))]


def _photos(spec: ModelSpec) -> str:
    rule = spec.preprocess
    return f"{rule.height}×{rule.width}, {rule.resize.value}"


def _tensor(tensor: Any) -> str:
    if tensor.shape is None:
        return f"{shown(tensor.name)}: {tensor.dtype}, of unknown shape"
    return f"{shown(tensor.name)}: {tensor.dtype} ({', '.join('?' if n is None else shown(n) for n in tensor.shape)})"


def _counted(counts: Any) -> str:
    return ", ".join(f"{count:,} {shown(name)}" for name, count in counts.items())


def _external(file: Any) -> str:
    size = "" if file.bytes is None else f", {file.bytes:,} bytes"
    text = f"{shown(file.location)}{size}: {many(file.tensors, 'tensor')}"
    return f"{text}; can't be used: {shown(file.problem)}" if file.problem else text


def _other(facts: Any) -> list[Part]:
    network = facts.network
    details = [(shown(name), shown(value)) for name, value in facts.details.items()]
    if network is None:
        return [("", [], [*details, ("next", facts.remedy)])]
    weights = ", ".join(f"{count:,} {shown(name)}" for name, count in network.weights.items())
    labels = first_names(network.labels, _LISTED)
    rows: list[tuple[Any, ...]] = [
        ("written by", shown(network.producer) or "unknown"),
        *details,
        *(("input", _tensor(tensor)) for tensor in network.inputs),
        *(("output", _tensor(tensor)) for tensor in network.outputs[:_LISTED]),
        ("parameters", weights or "unknown"),
        ("labels", labels or shown(network.labels_from) or "none found"),
        *([("labels from", shown(network.labels_from))] if labels else []),
        *(("preprocessing", shown(sentence)) for sentence in network.preprocessing),
        *([] if network.preprocessing else [("preprocessing", "nothing states it")]),
        ("adoption", f"refused: {shown(network.refused)}" if network.refused else "nothing in the file forbids it"),
        ("next", facts.remedy),
    ]
    operators = _first([(shown(name), count) for name, count in network.operators.items()])
    return [("", [], rows), ("Layers", ["type", "number>"], operators)]


def _share(part: int, whole: int) -> str:
    return percent(part / whole if whole else None)


def _unknown(count: int) -> str:
    return f"; {many(count, 'layer')} of unknown size not counted" if count else ""


def _first(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return the first rows, and one with the number of the others."""
    if len(rows) <= _LISTED:
        return rows
    return [*rows[:_LISTED], (f"… and {len(rows) - _LISTED:,} more", *[""] * (len(rows[0]) - 1))]


_PARTS: dict[str, Callable[[Any], list[Part]]] = {
    "engine": _engine,
    "onnx": _onnx,
    "tflite": _tflite,
    "card": _card,
    "model": _model,
    "calibration-cache": _calibration_cache,
}
