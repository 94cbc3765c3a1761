"""Checks, reads and writes ONNX files, reads trtpoets' metadata in them, and opens ONNX Runtime sessions."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from trtpoets.core.errors import BadArtefact, MissingArtefact, RunFailed, TrtPoetsError, first_line
from trtpoets.core.file_kinds import require_kind
from trtpoets.core.files import atomic_file, storage_errors
from trtpoets.core.fixed_batch import FixedBatchSession, fixed_batch_of
from trtpoets.core.onnx_graph import read_graph
from trtpoets.core.onnx_load import is_self_contained, load_self_contained
from trtpoets.core.optional import needs, onnxruntime
from trtpoets.core.own_files import write_own
from trtpoets.core.reading import read_bytes
from trtpoets.core.shell_commands import command
from trtpoets.core.types import INPUT_NAME, OUTPUT_NAME, Int8Form, ModelSpec, OnnxModel, Precision
from trtpoets.core.verified_files import checked_once, once

SPEC_KEY = "trtpoets.model"
"""Metadata key of an ONNX file: the text of model.json."""

PRECISION_KEY = "trtpoets.precision"
"""Metadata key of an ONNX file: "fp32", "fp16" or "int8"."""

CALIBRATION_KEY = "trtpoets.calibration"
"""Metadata key of an INT8 ONNX file: the hash of the calibrated ranges from which its scales were computed."""

FORM_KEY = "trtpoets.form"
"""Metadata key of an INT8 ONNX file: "cpu" for the form that ONNX Runtime fuses on a CPU; absent for TensorRT's."""

LABELS_KEY = "labels"
"""Metadata key of an ONNX file, for other tools: the labels, one per line."""

_MAX_DEPTH, _MAX_NODES = 30, 1_000_000
"""Limits of a graph with functions: the depth of calls, and the number of nodes after inlining."""

_MAX_SHARED_THREADS = 8
"""Most threads of a session that is `one_of_many`: every session has its own thread pool."""


def check_onnx(path: Path) -> Any:
    """Load and fully check an ONNX file; returns the ModelProto, with external data copied into it.

    Raises MissingArtefact if the file or one of its external data files is missing, BadArtefact if it is not valid.
    Call it before TensorRT's parser, which crashes on some files that the ONNX checker refuses.
    """
    with needs("train", reason="reading ONNX files"):
        import onnx
    if not path.is_file():
        raise MissingArtefact(
            f"{path} does not exist", hint="make it: trtpoets export NAME, then trtpoets quantize NAME", code="TP1037"
        )
    require_kind(path, "onnx", expected="a valid ONNX file")
    try:
        model, external = checked_once(
            "onnx",
            path,
            lambda: _parsed(onnx, path),
            lambda parsed: None if parsed[1] else _check_fully(onnx, parsed[0]),
        )
        if external:  # the other files may have changed where this one has not
            _check_fully(onnx, model)
    except TrtPoetsError:
        raise
    except OSError:
        with storage_errors(path, "read"):
            raise
    except Exception as error:
        reason = first_line(error)
        raise BadArtefact(
            reason,
            hint="export it again: trtpoets export NAME --force",
            code="TP1038",
            subject=f"{path} is not a valid ONNX file:",
        ) from error
    inputs = [value.name for value in model.graph.input]
    if not inputs or not model.graph.output:
        raise BadArtefact(
            f"{path} is not a network: it has no input or no output", hint="export it again", code="TP1039"
        )
    return model


def _parsed(onnx: Any, path: Path) -> tuple[Any, bool]:
    """The ModelProto of a file, and whether it has data in other files."""
    loaded = load_self_contained(path)
    return onnx.load_model_from_string(loaded.content), bool(loaded.with_external)


def _check_fully(onnx: Any, model: Any) -> None:
    check_size(model)
    onnx.checker.check_model(model, full_check=True)


def check_size(model: Any) -> None:
    """Raise ValueError if the model is too large after its functions are inlined.

    The ONNX checker inlines them, and nested functions of a few kilobytes can expand to more nodes than it could ever
    process.
    """
    bodies = {(function.domain, function.name): function for function in model.functions}
    sizes: dict[tuple[str, str], int] = {}

    def size_of(nodes: Any, depth: int) -> int:
        if depth > _MAX_DEPTH:
            raise ValueError(f"calls of its functions are nested more than {_MAX_DEPTH} deep")
        total = 0
        for node in nodes:
            called = (node.domain, node.op_type)
            if called in bodies and called not in sizes:
                sizes[called] = size_of(bodies[called].node, depth + 1)
            total += sizes.get(called, 1)
            for attribute in node.attribute:
                total += sum(size_of(graph.node, depth) for graph in (attribute.g, *attribute.graphs))
        return total

    if size_of(model.graph.node, 0) > _MAX_NODES:
        raise ValueError(f"its graph has more than {_MAX_NODES:,} nodes after inlining its functions")


def write_onnx(model: Any, out: Path) -> None:
    """Write a ModelProto atomically, after checking it. Raises StorageFailed, BadArtefact, also above 2 GiB."""
    with needs("train", reason="writing ONNX files"):
        from google.protobuf.message import EncodeError
    try:
        content = model.SerializeToString(deterministic=True)
    except (ValueError, EncodeError) as error:
        raise BadArtefact(
            f"an ONNX file holds at most 2 GiB: {first_line(error)}",
            hint="use a smaller network",
            code="TP1959",
            subject=f"{out} can't be written, because",
        ) from error
    with atomic_file(out) as part:
        write_own(part, content)
        check_onnx(part)


def metadata_of(model: Any) -> dict[str, str]:
    """The metadata of a ModelProto."""
    return {entry.key: entry.value for entry in model.metadata_props}


def opset_of(model: Any) -> int:
    """The opset version of the standard operators in a ModelProto."""
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)


def read_onnx(path: Path) -> OnnxModel:
    """Check an ONNX file that trtpoets wrote, and read its metadata.

    Raises MissingArtefact, or BadArtefact if it is damaged or was not written by trtpoets.
    """
    model = check_onnx(path)
    onnx_model = model_from_metadata(path, metadata_of(model))
    inputs = [value.name for value in model.graph.input]
    outputs = [value.name for value in model.graph.output]
    if inputs != [INPUT_NAME] or outputs != [OUTPUT_NAME]:
        raise BadArtefact(
            f"{path} must have the input {INPUT_NAME} and the output {OUTPUT_NAME}, not {inputs} and {outputs}",
            code="TP1040",
        )
    return onnx_model


def model_from_metadata(path: Path, metadata: Mapping[str, str]) -> OnnxModel:
    """The OnnxModel of a file with this metadata. Raises BadArtefact if trtpoets did not write the file."""
    try:
        text, precision = metadata[SPEC_KEY], Precision(metadata[PRECISION_KEY])
        form = Int8Form(metadata.get(FORM_KEY, Int8Form.TENSORRT.value))
    except (KeyError, ValueError) as error:
        raise BadArtefact(
            f"{path} was not written by trtpoets: its metadata does not contain the preprocessing and the precision",
            hint=f"if another program wrote it: {command('adopt', path, '--name', 'NAME')}; if it belongs to a run: "
            "trtpoets export NAME",
            code="TP1041",
        ) from error
    return OnnxModel(path, precision, ModelSpec.from_json(text, str(path)), form)


def _source_of(model: Path | bytes, disabled: Iterable[str] | None) -> tuple[str | bytes, Sequence[str]]:
    """Return what ONNX Runtime opens, with external data embedded, and the optimizers that it must not apply.

    It would search external data in the current directory. `disabled` are the optimizers if they are known.
    """
    if isinstance(model, bytes):
        if not is_self_contained(model):
            raise BadArtefact(
                "a model in memory can't have external data", hint="pass the path of its ONNX file", code="TP1042"
            )
        return model, unwanted_optimizers(model) if disabled is None else list(disabled)
    if not model.exists() or model.is_dir():
        return str(model), UNWANTED_OPTIMIZERS  # ONNX Runtime reports what is wrong
    require_kind(model, "onnx", "ort", expected="an ONNX file")
    # A large file is read for this once, not for each session of a command.
    unwanted = once("optimizers of a self-contained ONNX file", model, lambda: _unwanted_of_file(model))
    if unwanted is not None:
        return str(model), unwanted if disabled is None else list(disabled)
    content = load_self_contained(model).content
    return content, unwanted_optimizers(content) if disabled is None else list(disabled)


def _unwanted_of_file(path: Path) -> tuple[str, ...] | None:
    """Return the unwanted optimizers of a file, None if it has external data."""
    content = read_bytes(path)
    return tuple(unwanted_optimizers(content)) if is_self_contained(content) else None


UNWANTED_OPTIMIZERS = ["WeightBiasQuantization"]
"""Optimizers that ONNX Runtime must not apply: it quantises weights and biases that were kept in float on purpose,
which TensorRT does not do."""

_FUSED_INT8 = "QDQSelectorActionTransformer"
"""The optimizer that replaces Q/DQ pairs and the node between them by one INT8 operator."""


def unwanted_optimizers(content: bytes) -> list[str]:
    """Return the optimizers that ONNX Runtime must not apply to a serialised model.

    Where a MatMul or Gemm is INT8, or a convolution without bias, Q/DQ pairs are not fused: on processors without VNNI,
    ONNX Runtime's INT8 products are added in pairs in 16 bits, which saturate (measured: 28 dB instead of 44 dB for one
    layer). TensorRT adds in 32 bits, as the unfused nodes do in float. Convolutions with a bias are never fused.
    The CPU form is fused everywhere: its weights are chosen so that no sum saturates.
    """
    if b"DequantizeLinear" not in content:
        return UNWANTED_OPTIMIZERS
    try:
        graph = read_graph(content)
    except ValueError:
        return UNWANTED_OPTIMIZERS
    if graph.metadata.get(FORM_KEY) == Int8Form.CPU.value:
        return UNWANTED_OPTIMIZERS
    return unwanted_optimizers_of((node.operator, node.inputs, node.outputs) for node in graph.nodes)


def unwanted_optimizers_of(nodes: Iterable[tuple[str, Sequence[str], Sequence[str]]]) -> list[str]:
    """`unwanted_optimizers` for nodes in memory: the operator, inputs and outputs of each."""
    nodes = list(nodes)
    dequantized = {name for operator, _, outputs in nodes if operator == "DequantizeLinear" for name in outputs}
    products = (
        inputs
        for operator, inputs, _ in nodes
        if operator in ("MatMul", "Gemm") or (operator == "Conv" and len(inputs) < 3)
    )
    fused = any(not dequantized.isdisjoint(inputs[:1]) for inputs in products)
    return [*UNWANTED_OPTIMIZERS, _FUSED_INT8] if fused else UNWANTED_OPTIMIZERS


def open_model(model: Any, *, one_of_many: bool = False) -> Any:
    """An onnxruntime.InferenceSession for a ModelProto: `open_session` without parsing the serialised graph again.

    Its threads do not spin: such a session is for large batches, and the processors have other work between them.
    """
    nodes = ((node.op_type, tuple(node.input), tuple(node.output)) for node in model.graph.node)
    is_cpu_form = metadata_of(model).get(FORM_KEY) == Int8Form.CPU.value
    disabled = UNWANTED_OPTIMIZERS if is_cpu_form else unwanted_optimizers_of(nodes)
    return open_session(model.SerializeToString(), one_of_many=one_of_many, spins=False, disabled=disabled)


@lru_cache(maxsize=None)
def _share_memory() -> None:
    """Create one memory arena for all sessions of this process that use the environment's allocators."""
    runtime = onnxruntime()
    kind = runtime.OrtAllocatorType.ORT_ARENA_ALLOCATOR
    memory = runtime.OrtMemoryInfo("Cpu", kind, 0, runtime.OrtMemType.DEFAULT)
    runtime.create_and_register_allocator(memory, None)


def open_session(
    model: Path | bytes,
    threads: int = 0,
    *,
    one_of_many: bool = False,
    spins: bool = True,
    providers: Sequence[tuple[str, Mapping[str, object]]] = (),
    as_written: bool = False,
    disabled: Sequence[str] | None = None,
) -> Any:
    """An onnxruntime.InferenceSession for a file or a serialised model.

    For a network of trtpoets with a fixed number of photos it is a FixedBatchSession, which takes any number.

    `threads` is the number of threads of one operator on the CPU; 0 is ONNX Runtime's default. Unless `spins` is false,
    threads without work wait actively for the next operator, which takes up to half of all processor time. Sessions
    that are `one_of_many` share one memory arena, have few threads and do not spin. `providers` are names and
    options of execution providers in the order of preference; default: the CPU provider. `as_written` disables graph
    optimizations, so that each node is computed by itself and Q/DQ pairs in float. `disabled` are the optimizers that
    must not be applied, where the caller knows them; by default the graph is read to find them.

    Raises MissingDependency, BadArtefact if ONNX Runtime rejects the model, RunFailed if the first provider is not the
    CPU provider. If a provider fails, onnxruntime_inference_collection.py would print "Falling back to" and continue
    with the next provider; that fallback is disabled.
    """
    with needs("train", reason="running ONNX files"):
        runtime = onnxruntime()
    options = runtime.SessionOptions()
    most = min(os.cpu_count() or 1, _MAX_SHARED_THREADS) if one_of_many else 0
    options.intra_op_num_threads = threads or most
    options.log_severity_level = 3
    if as_written:
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if one_of_many:
        # One arena per session would take too much memory; without an arena, allocating large arrays is slow.
        _share_memory()
        options.add_session_config_entry("session.use_env_allocators", "1")
    if one_of_many or not spins:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    source, unwanted = _source_of(model, disabled)
    chosen = [(name, dict(values)) for name, values in providers] or [("CPUExecutionProvider", {})]
    try:
        session = runtime.InferenceSession(
            source, options, providers=chosen, disabled_optimizers=list(unwanted), enable_fallback=0
        )
    except Exception as error:
        what = "the graph" if isinstance(model, bytes) else model
        reason = first_line(error)
        if chosen[0][0] != "CPUExecutionProvider":
            raise RunFailed(
                f"{chosen[0][0]} can't open {what}: {reason}",
                hint="run it on the CPU, or see: trtpoets doctor",
                code="TP1043",
            ) from error
        raise BadArtefact(
            reason, hint="export it again", code="TP1044", subject=f"ONNX Runtime can't open {what}:"
        ) from error
    batch = fixed_batch_of(session)
    return FixedBatchSession(session, batch) if batch else session
