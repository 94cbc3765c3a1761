"""The same engine file measured by trtexec and by us: they are to agree."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from contact.asked import Given, NotAnswered
from contact.engines import latencies
from contact.networks import built, config_of, need_library, networks
from trtpoets.core.types import INPUT_NAME, Flavour, Precision

PLACES = ("/usr/src/tensorrt/bin/trtexec", "/opt/tensorrt/bin/trtexec")
"""Where JetPack and NVIDIA's containers put it."""

WITHIN = 0.05

_TIME = re.compile(r"GPU Compute Time: min = \S+ ms, max = \S+ ms, mean = \S+ ms, median = (\S+) ms")


def beside_trtexec(given: Given) -> dict[str, Any]:
    """The median of the GPU's compute time at batch 1, by trtexec and by `infer_timed`, both with a CUDA graph."""
    need_library(Flavour.TENSORRT)
    program = shutil.which("trtexec") or next((each for each in PLACES if Path(each).is_file()), None)
    if program is None:
        raise NotAnswered(f"trtexec is neither on the PATH nor at {' or '.join(PLACES)}")
    network = networks(given)[0]
    precision = Precision.FP16 if Precision.FP16 in network.models else next(iter(network.models))
    engine = built(given, network, precision, config_of(Flavour.TENSORRT))
    preprocess = engine.card.spec.preprocess
    command = [
        program,
        f"--loadEngine={engine.path}",
        f"--shapes={INPUT_NAME}:1x{preprocess.height}x{preprocess.width}x3",
        "--warmUp=500",
        "--duration=3",
        *_graph_option(program),
    ]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=300, check=False)
    said = done.stdout.decode("utf-8", "replace")
    found = _TIME.search(said)
    if done.returncode or found is None:
        last = next((line.strip() for line in reversed(said.splitlines()) if line.strip()), "")
        raise NotAnswered(f"trtexec ended with code {done.returncode} and gave no GPU compute time: {last[:200]}")
    theirs, ours = float(found.group(1)), latencies(given, engine, graphs=True)
    ratio = ours["compute_p50"] / theirs
    return {
        "network": network.name,
        "precision": precision.value,
        "command": " ".join(command[2:]),
        "trtexec_compute_ms": theirs,
        "our_compute_ms": ours["compute_p50"],
        "ratio": ratio,
        "graph": ours["graph"],
        "goal_met": abs(ratio - 1) <= WITHIN,
    }


def _graph_option(program: str) -> Any:
    """--useCudaGraph where there is one: TensorRT 11 captures unless it is told not to."""
    told = subprocess.run([program, "--help"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    return ["--useCudaGraph"] if b"--useCudaGraph" in told.stdout else []
