"""Refuses TensorFlow graphs whose operators reach beyond the network: files, other processes, Python, own code."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from trtpoets.adoption.foreign import AGAIN
from trtpoets.core.errors import BadArtefact

_REACHING = re.compile(
    r"File|Reader|Dataset|Iterator|PyFunc|^Save|^Restore|Checkpoint|SummaryWriter|^Write|SummaryDb|^Debug|Rpc|^Remote"
    r"|Send$|Recv$|^Import|ImmutableConst|^LoadAndRemap|GenerateVocab|^PrintV2$|Tpu|TPU|Worker|DumpIrs|TRTEngine"
    r"|^Collective|Proto(V2)?$|LMDB|^DistributedSave|TfLite|Subgraph"
)
"""Names of TensorFlow's operators that touch files, the network, other processes, Python or other runtimes."""

_SAVER = ("SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "Save", "Restore", "SaveSlices")
"""Operators of TensorFlow's own functions that write and read the variables of a SavedModel."""

_TRUSTED = f"if you trust the program that wrote it: {AGAIN} --allow-code"


def require_harmless(nodes: Iterable[Any], source: str) -> None:
    """Raise BadArtefact if a node has an operator that reaches beyond the network, or that TensorFlow does not have."""
    from tensorflow.python.framework import op_def_registry

    for node in nodes:
        if _REACHING.search(node.op):
            raise BadArtefact(
                f"{source} contains the operator {node.op} ({node.name}), which can reach files, other programs or "
                "Python; it was not run",
                hint=_TRUSTED,
                code="TP9103",
            )
        if op_def_registry.get(node.op) is None and node.op not in ("_Arg", "_Retval"):
            raise BadArtefact(
                f"{source} contains the operator {node.op} ({node.name}), which TensorFlow does not have",
                hint="export it to ONNX with the program that wrote it",
                code="TP9104",
            )


def require_harmless_graph(definition: Any, source: str) -> None:
    """Raise BadArtefact if a GraphDef, functions included, has such an operator."""
    own = {function.signature.name for function in definition.library.function}
    require_harmless((node for node in definition.node if node.op not in own), source)
    for function in definition.library.function:
        require_harmless((node for node in function.node_def if node.op not in own), source)


def require_harmless_meta_graph(meta_graph: Any, source: str) -> None:
    """Raise BadArtefact if loading a MetaGraphDef, or running one of its signatures, can reach beyond the network.

    What reads and writes the variables of the SavedModel is allowed: the functions of TensorFlow 2 for it, if no other
    function and no object refers to them, and the saver of TensorFlow 1.
    """
    definition = meta_graph.graph_def
    own = {function.signature.name for function in definition.library.function}
    called = {name for function in definition.library.function for name in _called(function.node_def)}
    called |= _published(meta_graph)
    for function in definition.library.function:
        name = function.signature.name
        nodes = [node for node in function.node_def if node.op not in own]
        if re.match(r"__inference__?traced_(save|restore)_", name) and name not in called:
            nodes = [node for node in nodes if node.op not in _SAVER]
        require_harmless(nodes, source)
    require_harmless((node for node in definition.node if node.op not in (*own, *_SAVER)), source)
    _require_plain_start(meta_graph, source)


def _called(nodes: Iterable[Any]) -> Iterable[str]:
    for node in nodes:
        yield node.op
        for value in node.attr.values():
            if value.HasField("func"):
                yield value.func.name
            for function in value.list.func:
                yield function.name


def _published(meta_graph: Any) -> set[str]:
    """Return the names of the functions that objects of a SavedModel refer to, such as signatures and initializers."""
    return {
        name
        for node in meta_graph.object_graph_def.nodes
        for name in (*node.function.concrete_functions, node.bare_concrete_function.concrete_function_name)
    }


def _require_plain_start(meta_graph: Any, source: str) -> None:
    """Raise BadArtefact if what TensorFlow runs of a TensorFlow 1 graph uses the saver's operators otherwise.

    That is the outputs of all signatures and the operation that initialises the graph.
    """
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    ends = [info.name for key in meta_graph.signature_def.values() for info in key.outputs.values() if info.name]
    for collection in ("saved_model_main_op", "legacy_init_op"):
        if collection in meta_graph.collection_def:
            ends += meta_graph.collection_def[collection].node_list.value
    pending = [name.split(":")[0] for name in ends]
    seen: set[str] = set()
    while pending:
        name = pending.pop()
        if name in seen or name not in nodes:
            continue
        seen.add(name)
        if nodes[name].op in _SAVER:
            require_harmless([nodes[name]], source)
        pending += [tensor.lstrip("^").split(":")[0] for tensor in nodes[name].input]
