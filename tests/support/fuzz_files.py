"""Damages files by seed: the same seed gives the same damage.

ONNX files are damaged in their bytes or in their structure, which reaches deeper code: most readers refuse damaged
bytes early. The program `python -m tests.support.fuzz_files FOLDER FIRST LAST` builds these files with TensorRT-RTX in
one process and prints each result, so that the caller knows which file ended the process.
"""

from __future__ import annotations

import json
import random
import sys
import traceback
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.support.tiny import tiny_graph
from trtpoets.core.errors import TrtPoetsError
from trtpoets.core.types import Precision

EDGES = (-(2**63), -(2**31) - 1, -2, -1, 0, 1, 2, 7, 255, 4096, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)
OPERATORS = (
    *("Conv", "TopK", "Gemm", "MatMul", "Resize", "Loop", "If", "Scan", "NonMaxSuppression", "GlobalAveragePool"),
    *("QuantizeLinear", "DequantizeLinear", "ConstantOfShape", "Expand", "Tile", "Pad", "Reshape", "Gather", "Slice"),
    *("LSTM", "Split", "ConvTranspose", "InstanceNormalization", "ReduceMean", "Einsum", "Range", "Shape", "Identity"),
    *("Sequence", "Frobnicate", "", "Softmax", "MaxPool", "AveragePool", "BatchNormalization", "Clip", "Squeeze"),
)
WORDS = ("", "photos", "scores", "x", "c", "w", "\0", "a" * 5000, "caf\u00e9", "../../etc/passwd", "%s%n", "\U0001f338")


def damaged_bytes(rng: random.Random, content: bytes) -> bytes:
    """Flip, cut, repeat or insert a few bytes."""
    result = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        at = rng.randrange(len(result) + 1)
        length = rng.choice((1, 1, 2, 4, 8, 64))
        kind = rng.randrange(6)
        if kind == 0 and at < len(result):
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            result[at : at + length] = rng.choice((b"\xff", b"\x00", b"\x7f", b"\x80")) * length
        elif kind == 2:
            del result[at : at + length]
        elif kind == 3:
            result[at:at] = result[at : at + length]
        elif kind == 4:
            result[at:at] = rng.randbytes(length)
        elif rng.random() < 0.2:
            del result[at:]
    return bytes(result)


def damaged_json(rng: random.Random, value: Any) -> Any:
    """Replace, remove or repeat one value."""
    odd: Any = rng.choice(
        (
            None,
            True,
            -1,
            0,
            2**70,
            1.5,
            "",
            "sm86",
            "\ud800",
            [],
            {},
            [[]],
            {"a": None},
            "x" * 3000,
            ["sm86", 3],
            "../x",
        )
    )
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        changed = dict(value)
        kind = rng.randrange(8)
        if kind == 0:
            del changed[key]
        elif kind == 1:
            changed["unheard of"] = odd
        else:
            changed[key] = damaged_json(rng, value[key])
        return changed
    if isinstance(value, list) and value and rng.random() < 0.7:
        at = rng.randrange(len(value))
        return rng.choice((value[:at], value + value, [*value[:at], damaged_json(rng, value[at]), *value[at + 1 :]]))
    return odd


def damaged_onnx(seed: int) -> bytes:
    """A small network of a random precision, damaged by `seed`."""
    rng = random.Random(seed)
    model = tiny_graph(rng.choice(tuple(Precision)))
    if rng.random() < 0.25:
        return damaged_bytes(rng, model.SerializeToString())
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 6))):
        rng.choice(_STRUCTURE)(rng, model)
    content: bytes = model.SerializeToString()
    return damaged_bytes(rng, content) if rng.random() < 0.05 else content


def _node(rng: random.Random, model: Any) -> Any:
    return rng.choice(model.graph.node or [model.graph.node.add()])


def _tensor(rng: random.Random, model: Any) -> Any:
    return rng.choice(model.graph.initializer or [model.graph.initializer.add()])


def _name(rng: random.Random, model: Any) -> str:
    names = [name for node in model.graph.node for name in (*node.input, *node.output)]
    return rng.choice([*names, *WORDS])


def _drop_output(rng: random.Random, model: Any) -> None:
    del _node(rng, model).output[:]


def _drop_input(rng: random.Random, model: Any) -> None:
    node = _node(rng, model)
    del node.input[rng.randrange(len(node.input) + 1) :]


def _more_inputs(rng: random.Random, model: Any) -> None:
    _node(rng, model).input.extend(_name(rng, model) for _ in range(rng.choice((1, 2, 300))))


def _rewire(rng: random.Random, model: Any) -> None:
    node = _node(rng, model)
    ends = rng.choice((node.input, node.output))
    if ends:
        ends[rng.randrange(len(ends))] = _name(rng, model)


def _other_operator(rng: random.Random, model: Any) -> None:
    _node(rng, model).op_type = rng.choice(OPERATORS)


def _other_domain(rng: random.Random, model: Any) -> None:
    _node(rng, model).domain = rng.choice(("com.microsoft", "ai.onnx.ml", "trt.plugins", *WORDS))


def _shuffle(rng: random.Random, model: Any) -> None:
    nodes = list(model.graph.node)
    rng.shuffle(nodes)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _double(rng: random.Random, model: Any) -> None:
    model.graph.node.append(_node(rng, model))


def _remove(rng: random.Random, model: Any) -> None:
    if model.graph.node:
        del model.graph.node[rng.randrange(len(model.graph.node))]


def _attribute(rng: random.Random, model: Any) -> None:
    from onnx import helper

    values: tuple[Any, ...] = (
        *(rng.choice(EDGES), float("nan"), float("inf"), rng.choice(WORDS)),
        *([rng.choice(EDGES) for _ in range(rng.randrange(1, 9))], [0.0, float("-inf")], model.graph),
    )
    names = (
        "axis",
        "perm",
        "to",
        "kernel_shape",
        "pads",
        "strides",
        "group",
        "dilations",
        "auto_pad",
        "epsilon",
        "body",
    )
    node = _node(rng, model)
    name = rng.choice((*names, *(attribute.name for attribute in node.attribute)))
    kept = [attribute for attribute in node.attribute if attribute.name != name or rng.random() < 0.05]
    del node.attribute[:]
    node.attribute.extend([*kept, helper.make_attribute(name, rng.choice(values))])


def _tensor_shape(rng: random.Random, model: Any) -> None:
    tensor = _tensor(rng, model)
    if tensor.dims and rng.random() < 0.7:
        tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(EDGES)
    else:
        tensor.dims.append(rng.choice(EDGES))


def _tensor_type(rng: random.Random, model: Any) -> None:
    _tensor(rng, model).data_type = rng.choice((*range(24), 99, -1, 2**31 - 1))


def _tensor_data(rng: random.Random, model: Any) -> None:
    tensor = _tensor(rng, model)
    tensor.raw_data = rng.choice(
        (b"", tensor.raw_data[:3], b"\xff" * len(tensor.raw_data), b"\x00" * len(tensor.raw_data), rng.randbytes(64))
    )


def _outside_data(rng: random.Random, model: Any) -> None:
    tensor = _tensor(rng, model)
    tensor.data_location = 1
    tensor.external_data.add(key="location", value=rng.choice(("../../../etc/passwd", "/dev/zero", "gone.bin", "")))
    tensor.external_data.add(key="length", value=str(rng.choice(EDGES)))


def _drop_tensor(rng: random.Random, model: Any) -> None:
    if model.graph.initializer:
        del model.graph.initializer[rng.randrange(len(model.graph.initializer))]


def _end_shape(rng: random.Random, model: Any) -> None:
    ends = [*model.graph.input, *model.graph.output]
    if not ends:
        return
    kind = rng.choice(ends).type.tensor_type
    if rng.random() < 0.2:
        kind.elem_type = rng.choice((*range(24), 99))
    elif kind.shape.dim:
        rng.choice(kind.shape.dim).dim_value = rng.choice(EDGES)
    else:
        kind.shape.dim.add().dim_value = 3


def _end_name(rng: random.Random, model: Any) -> None:
    ends = [*model.graph.input, *model.graph.output]
    if ends:
        rng.choice(ends).name = _name(rng, model)


def _no_ends(rng: random.Random, model: Any) -> None:
    del rng.choice((model.graph.input, model.graph.output))[:]


def _more_ends(rng: random.Random, model: Any) -> None:
    model.graph.output.add(name=_name(rng, model))


def _operator_set(rng: random.Random, model: Any) -> None:
    kind = rng.randrange(4)
    if kind == 0:
        del model.opset_import[:]
    elif kind == 1:
        model.opset_import.add(domain=rng.choice(("", *WORDS)), version=rng.choice(EDGES))
    elif model.opset_import:
        model.opset_import[0].version = rng.choice((*range(1, 30), *EDGES))


def _format(rng: random.Random, model: Any) -> None:
    model.ir_version = rng.choice((*range(20), *EDGES))


def _metadata(rng: random.Random, model: Any) -> None:
    entry = rng.choice(model.metadata_props or [model.metadata_props.add()])
    if rng.random() < 0.5:
        entry.value = rng.choice((*WORDS, "fp32", "fp16", "int8", "{}", "[" * 3000, entry.value[:-5]))
        return
    try:
        entry.value = json.dumps(damaged_json(rng, json.loads(entry.value)))
    except ValueError:
        entry.key = rng.choice(WORDS)


def _nest(rng: random.Random, model: Any) -> None:
    """Graphs nested in graphs."""
    from onnx import helper

    graph = helper.make_graph([helper.make_node("Identity", ["c"], ["deep"])], "deep", [], [])
    for depth in range(rng.choice((1, 3, 12, 24))):
        both = {"then_branch": graph, "else_branch": graph} if depth < 6 else {"then_branch": graph}
        graph = helper.make_graph([helper.make_node("If", ["c"], ["deep"], **both)], "deep", [], [])
    model.graph.node.extend(graph.node)


def _swell(rng: random.Random, model: Any) -> None:
    """A small file that declares large amounts of memory."""
    from onnx import TensorProto, helper

    size = rng.choice((10**5, 10**9, 10**12, 2**62))
    model.graph.initializer.append(helper.make_tensor("swell.shape", TensorProto.INT64, [2], [size, 1 + size % 7]))
    model.graph.node.insert(0, helper.make_node("ConstantOfShape", ["swell.shape"], ["swell"]))
    node = _node(rng, model)
    if node.input:
        node.input[-1] = "swell"


def _long(rng: random.Random, model: Any) -> None:
    from onnx import helper

    for number in range(rng.choice((50, 2000))):
        model.graph.node.append(helper.make_node("Relu", [f"long{number}" if number else "r"], [f"long{number + 1}"]))


def _functions(rng: random.Random, model: Any) -> None:
    """Functions in the file: one, a cycle, or each calling the next one twice."""
    from onnx import helper

    operators = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    count, calls, ring = rng.choice(((1, 1, False), (2, 1, True), (1, 1, True), (25, 2, False), (40, 1, False)))
    for number in range(count):
        last = number == count - 1
        callee, domain = ("F0" if ring else "Relu", "own" if ring else "") if last else (f"F{number + 1}", "own")
        ends = ["a", *(f"t{call}" for call in range(calls - 1)), "b"]
        body = [helper.make_node(callee, [a], [b], domain=domain) for a, b in pairwise(ends)]
        model.functions.append(helper.make_function("own", f"F{number}", ["a"], ["b"], body, operators))
    node = _node(rng, model)
    node.op_type, node.domain = "F0", "own"
    model.opset_import.append(helper.make_opsetid("own", 1))


def _values(rng: random.Random, model: Any) -> None:
    """Weights and scales that training does not give."""
    import numpy as np
    from onnx import numpy_helper

    tensor = _tensor(rng, model)
    try:
        value = numpy_helper.to_array(tensor).copy()
    except Exception:  # noqa: BLE001 - another damage has made it unreadable
        return
    if value.size and value.dtype.kind == "f":
        odd: Any = rng.choice((np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, 65504.0, -3.4e38, -1.0))
        with np.errstate(over="ignore"):
            value.reshape(-1)[rng.randrange(value.size) if rng.random() < 0.5 else slice(None)] = odd
    elif value.size:
        value.reshape(-1)[0] = rng.choice((1, -1, 127, -128))
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _insert(rng: random.Random, model: Any) -> None:
    """Insert an operator, which may be valid, between two valid ones."""
    from onnx import helper

    node = _node(rng, model)
    if not node.output:
        return
    name = f"{node.output[0]}.{rng.randrange(10**6)}"
    for other in model.graph.node:
        for index, source in enumerate(other.input):
            if source == node.output[0]:
                other.input[index] = name
    place = list(model.graph.node).index(node) + 1
    model.graph.node.insert(place, helper.make_node(rng.choice(_UNARY), [node.output[0]], [name]))


def _nudge(rng: random.Random, model: Any) -> None:
    """Change an integer attribute by a little."""
    numbers = [
        attribute
        for node in model.graph.node
        for attribute in node.attribute
        if attribute.type in (2, 7)  # INT, INTS
    ]
    if not numbers:
        return
    attribute = rng.choice(numbers)
    if attribute.ints:
        attribute.ints[rng.randrange(len(attribute.ints))] += rng.choice((-1, 1, 2, 100))
    else:
        attribute.i += rng.choice((-2, -1, 1, 2))


_UNARY = (
    *("Relu", "Elu", "Selu", "Sin", "Erf", "HardSwish", "HardSigmoid", "Identity", "Neg", "Reciprocal", "Sqrt", "Log"),
    *("Abs", "Ceil", "Softplus", "Tanh", "Mish", "Round", "Sign", "Dropout", "LpNormalization", "Hardmax", "Acosh"),
    *("MeanVarianceNormalization", "GlobalMaxPool", "GlobalLpPool", "Flatten", "NonZero", "Det", "Shrink", "CumSum"),
)

_STRUCTURE: tuple[Callable[[random.Random, Any], None], ...] = (
    *(_drop_output, _drop_input, _more_inputs, _rewire, _rewire, _other_operator, _other_operator, _other_domain),
    *(_shuffle, _double, _remove, _attribute, _attribute, _attribute, _tensor_shape, _tensor_shape, _tensor_type),
    *(_tensor_data, _tensor_data, _outside_data, _drop_tensor, _end_shape, _end_shape, _end_name, _no_ends, _more_ends),
    *(_operator_set, _format, _metadata, _nest, _swell, _long, _functions),
    *([_values] * 10 + [_insert] * 14 + [_nudge] * 6),  # most often what the checker lets pass
)


def _outcome(path: Path) -> str:
    """The result for a file: "built", the name of a TrtPoetsError, or "BUG" with a traceback."""
    from trtpoets.core.onnx_file import read_onnx
    from trtpoets.core.types import Flavour
    from trtpoets.device.build.engine_config import EngineConfig, request_of
    from trtpoets.device.build.tensorrt_build import build_engine
    from trtpoets.device.tensorrt_api import load_tensorrt
    from trtpoets.device.tensorrt_messages import Messages
    from trtpoets.pipeline.inspect import inspect

    outcomes = []
    try:
        inspect(path)
    except TrtPoetsError:
        pass
    except Exception:  # noqa: BLE001 - reported to the parent
        return f"BUG in inspect {traceback.format_exc()}"
    try:
        model = read_onnx(path)
        outcomes.append("read")
        library = load_tensorrt(Flavour.RTX)
        request = request_of(model, EngineConfig(Flavour.RTX))
        build_engine(library, path.read_bytes(), request, lambda _: True, Messages())
    except TrtPoetsError as error:
        if not error.message or "\n" in error.message:
            return f"BUG {error.message!r} is no sentence"
        return " ".join([*outcomes, type(error).__name__])
    except Exception:  # noqa: BLE001 - reported to the parent
        return f"BUG {traceback.format_exc()}"
    return "built"


def _tell(line: list[Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


def main() -> None:
    """Print a line of JSON before each file (its seed) and one after it (seed and result)."""
    folder, first, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for seed in range(first, last):
        _tell([seed])
        path = folder / f"{seed}.onnx"
        path.write_bytes(damaged_onnx(seed))
        outcome = _outcome(path)
        if not outcome.startswith("BUG"):
            path.unlink()
        _tell([seed, outcome])


if __name__ == "__main__":
    main()
