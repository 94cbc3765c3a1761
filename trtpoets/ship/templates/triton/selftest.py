#!/usr/bin/env python3
"""Whether a Triton answers as the machine where the bundle was made: the golden photos, through every model it serves.

    python3 selftest.py [--url localhost:8000] [--model NAME]

Needs nothing but Python, as it is the check of health in Triton's container. Exit code: 0 the scores are those
expected, 3 they are not, 1 it can't be told.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import math
import struct
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent


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


def asked(url: str, path: str, body: bytes, headers: dict[str, str]) -> Any:
    """The JSON that the server answers to a POST."""
    connection = http.client.HTTPConnection(url, timeout=20)
    try:
        connection.request("POST", path, body, headers)
        response = connection.getresponse()
        text = response.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise NotTold(f"no Triton answers at {url}: {error}") from error
    finally:
        connection.close()
    if response.status != http.client.OK:
        raise NotTold(f"{url}{path}: {response.status} {text[:300]}")
    return json.loads(text)


def ready_models(url: str, names: list[str]) -> list[str]:
    """The models of this bundle that are ready."""
    index = asked(url, "/v2/repository/index", b'{"ready": true}', {"Content-Type": "application/json"})
    return sorted(each["name"] for each in index if each["name"] in names)


def bundled_models() -> list[str]:
    """The models that this bundle has, or may have after `build-plans`."""
    return sorted(path.name for kind in ("model_repository", "to_build") for path in HERE.glob(f"{kind}/*"))


def pixels(path: Path) -> tuple[bytes, int, int]:
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


def scores_of(url: str, model: str, path: Path) -> tuple[list[float], float]:
    """The scores of one photo, and how long they took, in ms."""
    raw, height, width = pixels(path)
    photo = {"name": "photos", "shape": [1, height, width, 3], "datatype": "UINT8"}
    head = json.dumps({"inputs": [{**photo, "parameters": {"binary_data_size": len(raw)}}]}).encode()
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
    begun = time.perf_counter()
    answer = asked(url, f"/v2/models/{model}/infer", head + raw, headers)
    took = 1000 * (time.perf_counter() - begun)
    (scores,) = (each["data"] for each in answer["outputs"] if each["name"] == "scores")
    return [float(score) for score in scores], took


def tested(url: str, model: str, golden: dict[str, Any]) -> bool:
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
    """Test every model that is served, or the one that is named."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--url", default="localhost:8000", help="host and port of Triton's HTTP")
    parser.add_argument("--model", help="one model; default: all of this bundle that are ready")
    given = parser.parse_args()
    try:
        check_files()
        golden = json.loads((HERE / "golden" / "golden.json").read_text(encoding="utf-8"))
        models = [given.model] if given.model else ready_models(given.url, bundled_models())
        if not models:
            raise NotTold(f"{given.url} serves no model of this bundle: ./serve")
        results = [tested(given.url, model, golden) for model in models]
    except (NotTold, OSError, KeyError, ValueError) as error:
        print(f"Error: {type(error).__name__ + ': ' if not isinstance(error, NotTold) else ''}{error}", file=sys.stderr)
        return 1
    return 0 if all(results) else 3


if __name__ == "__main__":
    sys.exit(main())
