"""The trial of a TFLite network in a child process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support.errors import raises
from tests.support.tiny import tiny_spec
from trtpoets.core.errors import BadArtefact
from trtpoets.core.tflite_file import network_in, write_tflite
from trtpoets.core.types import Precision, TfliteModel
from trtpoets.device import tflite_check
from trtpoets.device.runners import open_runner
from trtpoets.device.runners.tflite import TfliteRunner


def test_a_network_that_tflite_refuses(int8: TfliteModel, tmp_path: Path) -> None:
    network = network_in(int8.path)
    cut = write_tflite(network[: len(network) // 2], int8.spec, Precision.INT8, tmp_path / "cut.tflite")
    with raises(BadArtefact, "TP4109") as caught, open_runner(cut):
        pass
    assert caught.value.hint == "make it again: trtpoets bundle NAME --for tflite --force"


STUB = """
import os, sys
from enum import Enum
class OpResolverType(Enum):
    AUTO = 0
    BUILTIN_WITHOUT_DEFAULT_DELEGATES = 2
class Interpreter:
    def __init__(self, **options):
        assert "trtpoets.device.tflite_child" in sys.modules, "it is loaded in the process that asks"
        {what}
"""


@pytest.mark.parametrize(
    ("what", "values"),
    [
        ("os.write(2, b'last words\\n'); os.abort()", ("SIGABRT", "last words")),
        ("os.kill(os.getpid(), 11)", ("SIGSEGV",)),
        ("os.kill(os.getpid(), 9)", ("SIGKILL", "memory")),
        ("os._exit(0)", ("code 0",)),
        ("raise MemoryError", ("MemoryError",)),
        ("pass", ("0.001 seconds",)),
    ],
)
def test_a_network_that_ends_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str, values: tuple[str, ...]
) -> None:
    """It ends the child process of the trial, and is never loaded in this process."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(STUB.format(what=what))
    for name in ("ai_edge_litert", "ai_edge_litert.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)  # so that what was there, or nothing, is there again afterwards
        del sys.modules[name]
    monkeypatch.syspath_prepend(tmp_path)
    if what == "pass":
        monkeypatch.setattr(tflite_check, "_SECONDS", 0.001)
    model = write_tflite(b"1234TFL3 damaged", tiny_spec(), Precision.FP32, tmp_path / "fp32.tflite")
    with raises(BadArtefact, "TP4109", model.path, *values) as caught, open_runner(model):
        pass
    assert caught.value.hint == "make it again: trtpoets bundle NAME --for tflite --force"


def test_the_trial_is_made_once_and_not_by_who_may_be_ended(int8: TfliteModel, monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []
    monkeypatch.setattr(tflite_check, "_sound", set())
    monkeypatch.setattr(tflite_check, "_failure", lambda network, threads, own_kernels: tried.append(own_kernels) or "")
    for own_kernels in (False, True, False):
        with TfliteRunner(int8, own_kernels=own_kernels):
            pass
    with open_runner(int8, contained=True):
        pass
    assert tried == [False, True]
