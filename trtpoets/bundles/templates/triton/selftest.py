#!/usr/bin/env python3
"""Whether a Triton answers as the machine where the bundle was made: the golden photos, through every model it serves.
And whether it refuses what would let a client change it: to load and unload models, shared memory, trace, log settings.

    python3 selftest.py [--url localhost:8000] [--grpc localhost:8001] [--model NAME]

Needs nothing but Python, as it is the check of health in Triton's container. Exit code: 0 the scores are those
expected and nothing is open, 3 they are not or something is, 1 it can't be told.
"""

import os
import sys

# Python puts this folder first on its path, and has imported os already: nothing of it is imported, and refusals.py is
# run once it was checked. (So no `from __future__`, which imports.)
_HERE = os.path.realpath(__file__).rpartition("/")[0]
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
sys.dont_write_bytecode = True  # the bundle stays as its manifest says

import argparse
import hashlib
import http.client
import json
import math
import struct
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(_HERE)


CHANGEABLE = (".pbtxt", ".yaml")
"""What may be changed on the server: how Triton batches, how Kubernetes scales."""


class NotTold(Exception):
    """Why nothing can be said."""


def check_files() -> None:
    """Hold every file against the manifest; say what was changed."""
    for name, sha256 in json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))["files"].items():
        path = HERE / name
        if not path.is_file():
            raise NotTold(f"{path} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            continue
        if not name.endswith(CHANGEABLE):
            raise NotTold(f"{path} was changed or damaged: copy the bundle here again")
        print(f"note: {path} was changed since the bundle was made", file=sys.stderr)


def asked(url: str, method: str, path: str, body: bytes, headers: "dict[str, str]") -> "tuple[int, bytes]":
    """The status and the body that the server answers."""
    connection = http.client.HTTPConnection(url, timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise NotTold(f"no Triton answers at {url}: {error}") from error
    finally:
        connection.close()


def ready_models(url: str, names: "list[str]") -> "list[str]":
    """The models of this bundle that are ready."""
    return [name for name in names if asked(url, "GET", f"/v2/models/{name}/ready", b"", {})[0] == http.client.OK]


def refusals() -> Any:
    """The module beside this file that probes the server. It is compiled here, because an import would prefer a
    compiled copy in __pycache__, which no manifest knows.
    """
    path = HERE / "refusals.py"
    module = types.ModuleType("refusals")
    sys.modules["refusals"] = module  # its dataclass looks itself up there
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - checked by check_files
    return module


def closed(url: str, grpc: str) -> bool:
    """Say whether the server refuses, by HTTP and by gRPC, what would let a client change it."""
    probes = refusals()
    try:
        found = probes.openings(url, grpc)
    except probes.Unclear as error:
        raise NotTold(str(error)) from error
    for line in found:
        print(f"FAILED: not refused by {line}")
    if found:
        print(
            "serve it by ./serve, or with the options in kserve.yaml: whoever reaches it can change it", file=sys.stderr
        )
    else:
        print("passed: loading models, shared memory, trace and log settings are refused by HTTP")
        if probes.listens(grpc):
            print("passed: loading models, shared memory, trace and log settings are refused by gRPC")
        else:
            print(f"note: nothing listens at {grpc}: if there is gRPC elsewhere, --grpc HOST:PORT", file=sys.stderr)
    return not found


def bundled_models() -> "list[str]":
    """The models that this bundle has, or may have after `build-plans`."""
    return sorted({path.name for kind in ("model_repository", "to_build") for path in HERE.glob(f"{kind}/*")})


def pixels(path: Path) -> "tuple[bytes, int, int]":
    """RGB rows from the top, of a BMP with 24 bits a pixel; and its height and width."""
    content = path.read_bytes()
    start, width, height, bits = struct.unpack_from("<I4xii2xH", content, 10)
    if content[:2] != b"BM" or bits != 24:
        raise NotTold(f"{path} is no golden photo")
    stride = (3 * width + 3) // 4 * 4
    rows = []
    for row in range(abs(height)):
        place = start + stride * (abs(height) - 1 - row if height > 0 else row)
        line = content[place : place + 3 * width]
        rgb = bytearray(len(line))
        rgb[0::3], rgb[1::3], rgb[2::3] = line[2::3], line[1::3], line[0::3]
        rows.append(bytes(rgb))
    return b"".join(rows), abs(height), width


def scores_of(url: str, model: str, path: Path) -> "tuple[list[float], float]":
    """The scores of one photo, and how long they took, in ms."""
    raw, height, width = pixels(path)
    photo = {"name": "photos", "shape": [1, height, width, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**photo, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    begun = time.perf_counter()
    status, content = asked(url, "POST", f"/v2/models/{model}/infer", head + raw, headers)
    took = 1000 * (time.perf_counter() - begun)
    if status != http.client.OK:
        text = "".join(each if each.isprintable() else "?" for each in content[:300].decode("utf-8", "replace"))
        raise NotTold(f"{url}/v2/models/{model}/infer: {status} {text}")
    answer = json.loads(content)
    (scores,) = (each["data"] for each in answer["outputs"] if each["name"] == "scores")
    return [float(score) for score in scores], took


def tested(url: str, model: str, golden: "dict[str, Any]") -> bool:
    """Say how near a model's scores are to those expected."""
    expected = golden["expected"][model.rpartition("_")[2]]
    gaps, times, alike = [], [], 0
    for photo, wanted in zip(golden["photos"], expected["scores"]):
        scores, took = scores_of(url, model, HERE / "golden" / photo["file"])
        if len(scores) != len(wanted):
            raise NotTold(f"{model} gives {len(scores)} scores, not {len(wanted)}")
        # A score that is no number is as far away as can be.
        gaps.append(max(math.inf if math.isnan(a) else abs(a - b) for a, b in zip(scores, wanted)))
        times.append(took)
        alike += scores.index(max(scores)) == wanted.index(max(wanted))
    passed = max(gaps) <= expected["tolerance"]
    print(
        f"{'passed' if passed else 'FAILED'}: {model}: scores differ by {max(gaps):.2g} at most, "
        f"{expected['tolerance']:g} is allowed; {alike} of {len(gaps)} answers alike; "
        f"{sorted(times)[len(times) // 2]:.1f} ms a request (median)"
    )
    return passed


def main() -> int:
    """Test every model that is served, or the one that is named; and what the server refuses."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default="localhost:8000", help="host and port of Triton's HTTP")
    parser.add_argument("--grpc", help="host and port of Triton's gRPC; default: port 8001 of the same host")
    parser.add_argument("--model", help="one model; default: all of this bundle that are ready")
    given = parser.parse_args()
    try:
        check_files()
        golden = json.loads((HERE / "golden" / "golden.json").read_text(encoding="utf-8"))
        models = [given.model] if given.model else ready_models(given.url, bundled_models())
        if not models:
            raise NotTold(f"{given.url} serves no model of this bundle: ./serve")
        results = [tested(given.url, model, golden) for model in models]
        results.append(closed(given.url, given.grpc or f"{given.url.rpartition(':')[0] or given.url}:8001"))
    except (NotTold, OSError, KeyError, ValueError) as error:
        print(f"Error: {type(error).__name__ + ': ' if not isinstance(error, NotTold) else ''}{error}", file=sys.stderr)
        return 1
    return 0 if all(results) else 3


if __name__ == "__main__":
    sys.exit(main())
