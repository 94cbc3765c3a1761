#!/usr/bin/env python3
"""Send the golden photos to every model that Triton serves, and compare the scores with those expected.

The test also checks that the server refuses requests with which a client could change it: loading and unloading models,
shared memory, trace and log settings.

    python3 selftest.py [--url localhost:8000] [--grpc localhost:8001] [--model NAME]

Needs only Python, so that it can be the health check of Triton's container. Exit code: 0 if the scores are as expected
and all such requests are refused, 3 if not, 1 if the test cannot run.
"""

import os
import sys

# Python adds this folder to sys.path. Remove it, so that no file here is imported; refusals.py is run after it was
# checked. (`from __future__` would be such an import; `os` was imported before.)
_HERE = os.path.realpath(__file__).rpartition("/")[0]
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
sys.dont_write_bytecode = True  # compiled files would not be in the manifest

import argparse
import hashlib
import http.client
import json
import math
import re
import signal
import struct
import time
import types
from pathlib import Path
from typing import Any

HERE = Path(_HERE)


CHANGEABLE = (".pbtxt", ".yaml")
"""Suffixes of files that may be changed on the server: the configurations of Triton and Kubernetes."""

VERSION = re.compile(r"(?:model_repository|built)/([^/]+)/\1/[1-9][0-9]*/model\.(?:onnx|plan)")
"""The network of a version of a model. Another version may be added beside the one of the bundle."""

NAMED = 5
"""The number of files that a message names."""


class SelftestError(Exception):
    """The test cannot run."""


def check_files() -> None:
    """Check every file against the manifest. Raises SelftestError for a changed file that may not be changed.

    Raises SelftestError for files that are not in the manifest too, except for those that `build-plans` makes in
    built/, and for added versions of a model. Triton runs the file model.py of a model whose configuration asks for it.
    """
    files = json.loads((HERE / "manifest.json").read_text(encoding="utf-8"))["files"]
    present = files_here()
    plans = {built_name(name): sha256 for name, sha256 in files.items() if name.startswith("to_build/")}
    for name, sha256 in {**files, **{name: plans[name] for name in present if name in plans}}.items():
        path = HERE / name
        if not path.is_file():
            raise SelftestError(f"{path} is missing")
        if hashlib.sha256(path.read_bytes()).hexdigest() == sha256:
            continue
        if not name.endswith(CHANGEABLE):
            raise SelftestError(f"{path} was changed or damaged; copy the bundle here again")
        print(f"note: {path} was changed since the bundle was created", file=sys.stderr)

    versions = [name for name in present if name not in files and VERSION.fullmatch(name)]
    for name in versions:
        if not name.startswith("built/"):
            print(f"note: {HERE / name} is a version that was added to the bundle", file=sys.stderr)
    extra = [name for name in present if name not in files and name not in plans and name not in versions]
    if extra:
        shown = ", ".join("".join(letter if letter.isprintable() else "?" for letter in name) for name in extra[:NAMED])
        more = f" (and {len(extra) - NAMED} more)" if len(extra) > NAMED else ""
        raise SelftestError(f"{HERE} contains files that its manifest does not list: {shown}{more}; delete them")


def files_here() -> "list[str]":
    """Return the paths of the files and links of the bundle, sorted, without the manifest.

    Of built/ only the models are listed: Triton sees nothing else in it, such as logs and unfinished plans.
    """
    found = []
    for folder, folders, names in os.walk(HERE, onerror=_raise):
        at = Path(folder)
        in_built = at == HERE / "built"
        if in_built:
            folders[:] = [name for name in folders if not name.startswith(".part-")]
        links = [name for name in (*folders, *names) if (at / name).is_symlink()]
        found += [(at / name).relative_to(HERE).as_posix() for name in ([] if in_built else names) + links]
    return sorted(set(found) - {"manifest.json", "manifest.json.sig"})


def _raise(error: OSError) -> None:
    raise error


def built_name(name: str) -> str:
    """Return where `build-plans` copies a file of to_build/ to."""
    model, _, rest = name.partition("/")[2].partition("/")
    return f"built/{model}/{model}/{rest}"


def response_of(url: str, method: str, path: str, body: bytes, headers: "dict[str, str]") -> "tuple[int, bytes]":
    """Return the status and the body of the server's response. Raises SelftestError."""
    connection = http.client.HTTPConnection(url, timeout=20)
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.read()
    except (OSError, http.client.HTTPException) as error:
        raise SelftestError(f"no Triton server answers at {url}: {error}") from error
    finally:
        connection.close()


def ready_models(url: str, names: "list[str]") -> "list[str]":
    """Return the models in `names` that are ready."""
    return [name for name in names if response_of(url, "GET", f"/v2/models/{name}/ready", b"", {})[0] == http.client.OK]


def refusals() -> Any:
    """Return the module refusals.py, which probes the server.

    It is compiled here, because an import could use an unchecked compiled file in __pycache__.
    """
    path = HERE / "refusals.py"
    module = types.ModuleType("refusals")
    sys.modules["refusals"] = module  # needed by its dataclass
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)  # noqa: S102 - checked by check_files
    return module


def refuses_changes(url: str, grpc: str) -> bool:
    """Print and return whether the server refuses, by HTTP and gRPC, requests with which a client could change it."""
    probes = refusals()
    try:
        accepted = probes.accepted_requests(url, grpc)
    except probes.Unclear as error:
        raise SelftestError(str(error)) from error
    for line in accepted:
        print(f"FAILED: not refused: {line}")
    if accepted:
        print(
            "start it with ./serve, or with the options in kserve.yaml: now every client can change it", file=sys.stderr
        )
    else:
        print("passed: loading models, shared memory, trace and log settings are refused by HTTP")
        if probes.listens(grpc):
            print("passed: loading models, shared memory, trace and log settings are refused by gRPC")
        else:
            print(f"note: nothing listens at {grpc}; if gRPC is elsewhere, use --grpc HOST:PORT", file=sys.stderr)
    return not accepted


def bundled_models() -> "list[str]":
    """Return the models of this bundle, including those that `build-plans` creates."""
    return sorted({path.name for kind in ("model_repository", "to_build") for path in HERE.glob(f"{kind}/*")})


def pixels(path: Path) -> "tuple[bytes, int, int]":
    """Read a BMP with 24 bits per pixel: RGB rows from top to bottom, height, width."""
    content = path.read_bytes()
    start, width, height, bits = struct.unpack_from("<I4xii2xH", content, 10)
    if content[:2] != b"BM" or bits != 24:
        raise SelftestError(f"{path} is not a golden photo")
    stride = (3 * width + 3) // 4 * 4
    rows = []
    for row in range(abs(height)):
        offset = start + stride * (abs(height) - 1 - row if height > 0 else row)
        line = content[offset : offset + 3 * width]
        rgb = bytearray(len(line))
        rgb[0::3], rgb[1::3], rgb[2::3] = line[2::3], line[1::3], line[0::3]
        rows.append(bytes(rgb))
    return b"".join(rows), abs(height), width


def scores_of(url: str, model: str, path: Path) -> "tuple[list[float], float]":
    """Return the scores of one photo and the latency in ms."""
    raw, height, width = pixels(path)
    photo = {"name": "photos", "shape": [1, height, width, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**photo, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    begin = time.perf_counter()
    status, content = response_of(url, "POST", f"/v2/models/{model}/infer", head + raw, headers)
    latency_ms = 1000 * (time.perf_counter() - begin)
    if status != http.client.OK:
        text = "".join(letter if letter.isprintable() else "?" for letter in content[:300].decode("utf-8", "replace"))
        raise SelftestError(f"{url}/v2/models/{model}/infer: {status} {text}")
    response = json.loads(content)
    (scores,) = (output["data"] for output in response["outputs"] if output["name"] == "scores")
    return [float(score) for score in scores], latency_ms


def passes_golden_test(url: str, model: str, golden: "dict[str, Any]") -> bool:
    """Print and return whether the scores of a model are within the tolerance of the expected ones."""
    expected = golden["expected"][model.rpartition("_")[2]]
    differences, times, agreeing = [], [], 0
    for photo, reference in zip(golden["photos"], expected["scores"]):
        scores, latency_ms = scores_of(url, model, HERE / "golden" / photo["file"])
        if len(scores) != len(reference):
            raise SelftestError(f"{model} gives {len(scores)} scores, not {len(reference)}")
        # NaN counts as an infinite difference.
        differences.append(max(math.inf if math.isnan(a) else abs(a - b) for a, b in zip(scores, reference)))
        times.append(latency_ms)
        agreeing += scores.index(max(scores)) == reference.index(max(reference))
    passed = max(differences) <= expected["tolerance"]
    print(
        f"{'passed' if passed else 'FAILED'}: {model}: scores differ by at most {max(differences):.2g} "
        f"(tolerance {expected['tolerance']:g}); {agreeing} of {len(differences)} predictions agree; "
        f"{sorted(times)[len(times) // 2]:.1f} ms per request (median)"
    )
    return passed


def main() -> int:
    """Test the served models, or one of them, and whether the server refuses changes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default="localhost:8000", help="host and port of Triton's HTTP endpoint")
    parser.add_argument("--grpc", help="host and port of Triton's gRPC endpoint; default: port 8001 of the same host")
    parser.add_argument("--model", help="model to test; default: all models of this bundle that are ready")
    options = parser.parse_args()
    try:
        check_files()
        golden = json.loads((HERE / "golden" / "golden.json").read_text(encoding="utf-8"))
        models = [options.model] if options.model else ready_models(options.url, bundled_models())
        if not models:
            raise SelftestError(f"{options.url} serves no model of this bundle; start it with ./serve")
        results = [passes_golden_test(options.url, model, golden) for model in models]
        results.append(
            refuses_changes(options.url, options.grpc or f"{options.url.rpartition(':')[0] or options.url}:8001")
        )
    except (SelftestError, OSError, KeyError, ValueError) as error:
        kind = "" if isinstance(error, SelftestError) else f"{type(error).__name__}: "
        print(f"Error: {kind}{error}", file=sys.stderr)
        return 1
    return 0 if all(results) else 3


def _end(number: int, _: object) -> None:
    """End at once, in one line: there is nothing to clean up."""
    try:
        os.write(2, b"Error: interrupted\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored in background jobs
        signal.signal(signal.SIGINT, _end)
    sys.exit(main())
