"""ONNX files: written whole, checked before anything native sees them, with what they say about themselves."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed, TrtPoetsError
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import atomic_file, storage_errors
from trtpoets.core.onnx_load import read_whole, without_external
from trtpoets.core.optional import needs, onnxruntime
from trtpoets.core.own_files import write_own
from trtpoets.core.reading import read_bytes
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, ModelSpec, OnnxModel, Precision
from trtpoets.core.verified_files import checked_once

if TYPE_CHECKING:
    from pathlib import Path

SPEC_KEY = "trtpoets.model"
"""Metadata of an ONNX file: the text of model.json."""

PRECISION_KEY = "trtpoets.precision"
"""Metadata of an ONNX file: "fp32", "fp16" or "int8"."""

CALIBRATION_KEY = "trtpoets.calibration"
"""Metadata of an INT8 ONNX file: the hash of the ranges that its scales come from."""

LABELS_KEY = "labels"
"""Metadata of an ONNX file for other tools: the labels, one a line."""

_DEEPEST, _LARGEST = 30, 1_000_000
"""How deep functions may call each other, and how many nodes a graph may have when they are written out."""

_MOST_THREADS_OF_MANY = 8
"""Each session has threads of its own: a hundred of them on a machine of 64 cores would be 6,400."""


def check_onnx(path: Path) -> Any:
    """Load and fully check an ONNX file; returns the ModelProto, with external data copied into it.

    Raises MissingArtefact for a file, or a file of weights, that is not there, and BadArtefact.
    TensorRT's parser ends the process on some files that the checker refuses, so every parse begins here.
    """
    with needs("train", reason="reading ONNX files"):
        import onnx
    if not path.is_file():
        raise MissingArtefact(
            f"{path} is not there", hint="make it: trtpoets export NAME, then trtpoets quantize NAME", code="TP1037"
        )
    require_kind(path, "onnx", expected="a valid ONNX file")
    try:
        model, external = checked_once(
            "onnx", path, lambda: _parsed(onnx, path), lambda found: None if found[1] else _check_fully(onnx, found[0])
        )
        if external:  # the other files may have changed where this one has not
            _check_fully(onnx, model)
    except TrtPoetsError:
        raise
    except OSError:
        with storage_errors(path, "read"):
            raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise BadArtefact(
            f"{path} is not a valid ONNX file: {reason}",
            hint="export it again: trtpoets export NAME --force",
            code="TP1038",
        ) from error
    inputs = [value.name for value in model.graph.input]
    if not inputs or not model.graph.output:
        raise BadArtefact(f"{path} has no input or no output: it is no network", hint="export it again", code="TP1039")
    return model


def _parsed(onnx: Any, path: Path) -> tuple[Any, bool]:
    """The ModelProto of a file, and whether it has data in other files."""
    loaded = read_whole(path)
    return onnx.load_model_from_string(loaded.content), bool(loaded.with_external)


def _check_fully(onnx: Any, model: Any) -> None:
    check_size(model)
    onnx.checker.check_model(model, full_check=True)


def check_size(model: Any) -> None:
    """Raise ValueError for functions that call functions until the graph, written out, would never end.

    The checker writes them out, so a file of a few kilobytes could keep it busy for years.
    """
    bodies = {(each.domain, each.name): each for each in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size_of(nodes: Any, depth: int) -> int:
        if depth > _DEEPEST:
            raise ValueError(f"its functions call each other more than {_DEEPEST} deep")
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type)
            if called in bodies and called not in sizes:
                sizes[called] = size_of(bodies[called].node, depth + 1)
            total += sizes.get(called, 1)
            for attribute in node.attribute:
                total += sum(size_of(graph.node, depth) for graph in (attribute.g, *attribute.graphs))
        return total

    if size_of(model.graph.node, 0) > _LARGEST:
        raise ValueError(f"its functions, written out, have more than {_LARGEST:,} nodes")


def write_onnx(model: Any, out: Path) -> None:
    """Write a ModelProto, whole or not at all, and check it. Raises StorageFailed, BadArtefact."""
    with atomic_file(out) as part:
        write_own(part, model.SerializeToString(deterministic=True))
        check_onnx(part)


def metadata_of(model: Any) -> dict[str, str]:
    """The metadata of a ModelProto."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset_of(model: Any) -> int:
    """The version of the standard operators that a ModelProto is written in."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def read_onnx(path: Path) -> OnnxModel:
    """Check an ONNX file that trtpoets wrote, and read what it says about itself.

    Raises MissingArtefact, or BadArtefact when it is damaged or comes from elsewhere.
    """
    model = check_onnx(path)
    found = described(path, metadata_of(model))
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    if inputs != [INPUT_NAME] or outputs != [OUTPUT_NAME]:
        raise BadArtefact(
            f"{path} takes {inputs} and gives {outputs}, not {INPUT_NAME} and {OUTPUT_NAME}", code="TP1040"
        )
    return found


def described(path: Path, metadata: Mapping[str, str]) -> OnnxModel:
    """The ONNX file at `path` as its metadata tells. Raises BadArtefact for a file that trtpoets did not write."""
    try:
        text, precision = metadata[SPEC_KEY], Precision(metadata[PRECISION_KEY])
    except (KeyError, ValueError) as error:
        raise BadArtefact(
            f"{path} was not written by trtpoets: it does not say how its photos are prepared, nor in which precision",
            hint="export it with: trtpoets export NAME",
            code="TP1041",
        ) from error
    return OnnxModel(path, precision, ModelSpec.from_json(text, str(path)))


def _self_contained(model: Path | bytes) -> str | bytes:
    """What ONNX Runtime shall open: it would look for weights of a graph in memory in the current directory."""
    content = model if isinstance(model, bytes) else b""
    if not isinstance(model, bytes):
        if not model.exists() or model.is_dir():
            return str(model)
        require_kind(model, "onnx", "ort", expected="an ONNX file")
        content = read_bytes(model)
    if without_external(content):
        return model if isinstance(model, bytes) else str(model)
    if isinstance(model, bytes):
        raise BadArtefact(
            "a graph in memory has weights in other files", hint="give the path of its ONNX file", code="TP1042"
        )
    return read_whole(model).content


UNWANTED_OPTIMIZERS = ["WeightBiasQuantization"]
"""What ONNX Runtime shall leave out: it rounds weights and biases that were left in float on purpose, as TensorRT does
not."""


@lru_cache(maxsize=None)
def _share_memory() -> None:
    """Let ONNX Runtime keep one memory for all sessions of this process that want it."""
    runtime = onnxruntime()
    kind = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = runtime.OrtMemoryInfo("Cpu", kind, 0, runtime.OrtMemType.DEFAULT)
    runtime.create_and_register_allocator(memory, None)


def open_session(
    model: Path | bytes,
    threads: int = 0,
    *,
    one_of_many: bool = False,
    providers: Sequence[tuple[str, Mapping[str, object]]] = (),
    as_written: bool = False,
) -> Any:
    """An onnxruntime.InferenceSession. `threads` is for one operator on the CPU; 0 leaves it to ONNX Runtime.

    Sessions that are `one_of_many` share one memory, have few threads, and give cores back between runs. `providers`
    are names and options of ONNX Runtime's providers, the first one preferred; without any, the CPU alone. `as_written`
    computes node by node, Q/DQ pairs in float, and fuses nothing.

    Raises MissingDependency, BadArtefact when ONNX Runtime refuses the model, or RunFailed when it does so for a GPU's
    provider, named first. Where a provider fails, when the session is opened or in any of its runs,
    ONNX Runtime's Python package would print a line and go on with the next (onnxruntime_inference_collection.py,
    "Falling back to"): that is switched off.
    """
    with needs("train", reason="running ONNX files"):
        runtime = onnxruntime()
    options = runtime.SessionOptions()
    most = min(os.cpu_count() or 1, _MOST_THREADS_OF_MANY) if one_of_many else 0
    options.intra_op_num_threads = threads or most
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if one_of_many:
        # A memory for each would be hundreds; none, and each large array costs more to ask the system for than to fill.
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source = _self_contained(model)
    chosen = [(name, dict(values)) for name, values in providers] or [("CPUExecutionProvider", {})]
    try:
        return runtime.InferenceSession(
            source, options, providers=chosen, disabled_optimizers=UNWANTED_OPTIMIZERS, enable_fallback=0
        )
    except Exception as error:
        what = "the graph" if isinstance(model, bytes) else model
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if chosen[0][0] != "CPUExecutionProvider":
            raise RunFailed(
                f"{chosen[0][0]} can't open {what}: {reason}",
                hint="run it on the CPU, or see: trtpoets doctor",
                code="TP1043",
            ) from error
        raise BadArtefact(f"ONNX Runtime can't open {what}: {reason}", hint="export it again", code="TP1044") from error
