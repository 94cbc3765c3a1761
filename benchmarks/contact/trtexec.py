"""Compares the speed of an engine file measured by trtexec and by trtpoets."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from contact.engines import latencies
from contact.networks import built, config_of, need_library, networks
from contact.question_inputs import NotAnswered, QuestionInputs
from trtpoets.core.types import INPUT_NAME, Flavour, Precision

PLACES = ("/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")
"""Paths of trtexec in JetPack and in NVIDIA's containers."""

WITHIN = 0.05

_TIME = re.compile(r"GPU Compute Time: min = \S+ ms, max = \S+ ms, mean = \S+ ms, median = (\S+) ms")


def beside_trtexec(inputs: QuestionInputs) -> dict[str, Any]:
    """Compare the median GPU compute time at batch 1 of trtexec and `infer_timed`, both with a CUDA graph."""
    need_library(Flavour.TENSORRT)
    program = shutil.which("trtexec") or next((path for path in PLACES if Path(path).is_file()), None)
    if program is None:
        raise NotAnswered(f"trtexec is neither on the PATH nor at {' or '.join(PLACES)}")
    network = networks(inputs)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    engine = built(inputs, network, precision, config_of(Flavour.TENSORRT))
    preprocess = engine.card.spec.preprocess
    command = [
        program,
        f"--loadEngine={engine.path}",
        f"--shapes={INPUT_NAME}:1x{preprocess.height}x{preprocess.width}x3",
        "--warmUp=500",
        "--duration=3",
        *_graph_option(program),
    ]
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    output = process.stdout.decode("utf-8", "replace")
    match = _TIME.search(output)
    if process.returncode or match is None:
        last = next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
        raise NotAnswered(
            f"trtexec exited with code {process.returncode} and printed no GPU compute time: {last[:200]}"
        )
    trtexec_ms, ours = float(match.group(1)), latencies(inputs, engine, graphs=True)
    ratio = ours["compute_p50"] / trtexec_ms
    return {
        "network": network.name,
        "precision": precision.value,
        "command": " ".join(command[2:]),
        "trtexec_compute_ms": trtexec_ms,
        "our_compute_ms": ours["compute_p50"],
        "ratio": ratio,
        "graph": ours["graph"],
        "goal_met": abs(ratio - 1) <= WITHIN,
    }


def _graph_option(program: str) -> Any:
    """Return --useCudaGraph if trtexec has the option; trtexec of TensorRT 11 uses graphs by default."""
    help_text = subprocess.run([program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return ["--useCudaGraph"] if b"--useCudaGraph" in help_text.stdout else []
