"""The child process in which an ONNX file is checked, parsed and built, so that a native crash stays in there.

The parent (`build_process.py`) writes one line of JSON, the order, to stdin and keeps it open: when it closes, the
parent is gone and so is this process. Answers go as lines of JSON to the file descriptor named in the order; whatever
native libraries print goes to stdout and stderr, which the parent keeps for the day something crashes.
SIGINT cancels at the builder's next step.
"""

from __future__ import annotations

import faulthandler
import hashlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any, Mapping

from trtpoets.core.errors import BadArtefact, BuildFailed, TrtPoetsError
from trtpoets.core.files import storage_errors
from trtpoets.core.onnx_file import CALIBRATION_KEY, metadata_of, read_onnx
from trtpoets.core.spec import BatchRange, Flavour, ModelSpec, Precision
from trtpoets.device.tensorrt_api import load_tensorrt
from trtpoets.device.tensorrt_build import BuildRequest, build_engine, failure
from trtpoets.device.tensorrt_messages import Messages

_TICK_SECONDS = 0.05
"""Progress is told at most this often: a builder may take thousands of steps a second."""


class Answers:
    """Lines of JSON to the parent."""

    def __init__(self, descriptor: int) -> None:
        self._stream = os.fdopen(descriptor, "w", encoding="utf-8")
        self._last = 0.0

    def send(self, **answer: Any) -> None:
        """Send one answer."""
        self._stream.write(json.dumps(answer) + "\n")
        self._stream.flush()

    def progress(self, fraction: float) -> None:
        """Tell how much is done, 0 to 1, now and then."""
        now = time.monotonic()
        if now - self._last >= _TICK_SECONDS:
            self._last = now
            self.send(progress=fraction)


def main() -> None:
    """Carry out the one order on stdin."""
    faulthandler.enable()
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, name="parent-watch", daemon=True).start()
    answers = Answers(order["answers"])
    cancelled = threading.Event()
    signal.signal(signal.SIGINT, lambda *_: cancelled.set())
    try:
        answers.send(done=_carry_out(order, answers, cancelled))
    except TrtPoetsError as error:
        answers.send(error={"kind": type(error).__name__, "message": error.message, "hint": error.hint})
    except MemoryError:
        answers.send(
            error={
                "kind": "BuildFailed",
                "message": f"the memory ran out while {order['onnx']} was built",
                "hint": "free some memory, or build with a smaller --batch",
            }
        )
    except Exception:  # noqa: BLE001 - the parent raises it again, with this traceback
        answers.send(bug=traceback.format_exc())


def _end_with_parent() -> None:
    # Read past Python's buffer: a lock that this thread held at shutdown would abort the process.
    while os.read(0, 4096):
        pass
    os._exit(1)


def _carry_out(order: Mapping[str, Any], answers: Answers, cancelled: threading.Event) -> dict[str, Any]:
    path = Path(os.fsdecode(bytes.fromhex(order["onnx_path"])))
    request = _request_of(order["request"])
    calibration = _check(path, order)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != order["onnx_sha256"]:
        raise BadArtefact(f"{path} changed while it was about to be built", hint="build again")
    library = load_tensorrt(Flavour(order["flavour"]))
    messages = Messages()

    def step(fraction: float) -> bool:
        answers.progress(fraction)
        return not cancelled.is_set()

    begun = time.perf_counter()
    try:
        engine = build_engine(library, content, request, step, messages)
    except MemoryError as error:
        raise failure(library, request, "out of memory") from error
    if cancelled.is_set():
        raise BuildFailed("the build was cancelled")
    seconds = time.perf_counter() - begun
    out = Path(os.fsdecode(bytes.fromhex(order["out_path"])))
    with storage_errors(out):
        out.write_bytes(engine)
    return {"seconds": seconds, "calibration": calibration, "warnings": messages.warnings[:50]}


def _check(path: Path, order: Mapping[str, Any]) -> str | None:
    """Check the ONNX file before TensorRT's parser sees it; returns its calibration hash."""
    found = read_onnx(path)
    expected = ModelSpec.from_json(order["spec"], "the order")
    if found.precision.value != order["request"]["precision"] or found.spec != expected:
        raise BadArtefact(
            f"{path} holds {found.spec.name} in {found.precision.value}, not {expected.name} in "
            f"{order['request']['precision']}, or describes its photos differently",
            hint="export it again: trtpoets export NAME --force",
        )
    import onnx  # read_onnx has made sure of it

    return metadata_of(onnx.load(str(path), load_external_data=False)).get(CALIBRATION_KEY)


def _request_of(value: Mapping[str, Any]) -> BuildRequest:
    return BuildRequest(
        **{
            **value,
            "precision": Precision(value["precision"]),
            "batch": BatchRange(**value["batch"]),
            "targets": tuple(value["targets"]),
        }
    )


def order_for(
    *,
    onnx: Path,
    onnx_sha256: str,
    spec: ModelSpec,
    flavour: Flavour,
    request: BuildRequest,
    out: Path,
    answers: int,
) -> str:
    """The order that `main` carries out, as its line of JSON. Paths travel as hex: they need not be text."""
    order = {
        "onnx": str(onnx).encode("utf-8", "replace").decode(),
        "onnx_path": os.fsencode(onnx).hex(),
        "onnx_sha256": onnx_sha256,
        "spec": spec.to_json(),
        "flavour": flavour.value,
        "request": asdict(request),
        "out_path": os.fsencode(out).hex(),
        "answers": answers,
    }
    return json.dumps(order) + "\n"
