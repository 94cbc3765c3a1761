"""A fake device for child processes: installs the fake driver, pycuda and TensorRT in every Python that is started.

`site(folder)` creates a folder for PYTHONPATH; each Python started with it has the fake GPU (`gpu.py`) and a fake
TensorRT that builds (`tensorrt_builder.py`) and runs (`tensorrt_runtime.py`) with the scores of `FakeRunner`.
$PAPER_BOARD sets failures as JSON: {"int8": behaviour of its build, or "wrong" for other scores, "dies" for an engine
that ends its process, "unknown operator" for a parser that refuses it}. $PAPER_LACKS lists packages that can't be
imported, separated by spaces. Python 3.8 can read this file.

Stands for a Jetson. It has not been compared with one; its parts are compared as their modules say.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import marshal
import os
import sys
import time
from collections.abc import Mapping
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

VERSION = os.environ.get("PAPER_TENSORRT", "10.3.0")

ROOT = Path(__file__).parents[2]


def site(folder: Path) -> str:
    """Create the folder; returns the value for PYTHONPATH."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text("from tests.fakes.board import install\n\ninstall()\n")
    return f"{folder}:{ROOT}"


class _Patch:
    """The part of pytest's monkeypatch that `FakeGpu.install` needs, for the life of the process."""

    def setitem(self, table: Any, key: str, value: Any) -> None:
        table[key] = value

    def setattr(self, thing: Any, name: str, value: Any) -> None:
        setattr(thing, name, value)


def _compile_once(folder: Path) -> None:
    """Keep the compiled modules of bundles in `folder`, by their content.

    Programs of a bundle write no bytecode, and each copy of a bundle has other paths: without this, each program would
    compile the whole runtime, which takes longer than everything else.
    """
    compiled = SourceFileLoader.get_code
    set_file_name: Any = vars(importlib.import_module("_imp"))["_fix_co_filename"]

    def get_code(self: Any, name: str) -> Any:
        path = self.get_filename(name)
        if "/runtime/trtpoets/" not in path or not (sys.dont_write_bytecode or sys.pycache_prefix):
            return compiled(self, name)
        key = hashlib.sha256(sys.version.encode() + self.get_data(path)).hexdigest()
        try:
            code = marshal.loads((folder / key).read_bytes())
        except OSError:
            code = compiled(self, name)
            part = folder / f"{key}.{os.getpid()}"
            part.write_bytes(marshal.dumps(code))
            part.replace(folder / key)
        set_file_name(code, path)
        return code

    setattr(SourceFileLoader, "get_code", get_code)  # noqa: B010


def install() -> None:
    """Install the fakes in this process. With $PAPER_CLOCK its clock shows that number of seconds since 1970."""
    if "PAPER_CODE" in os.environ:
        _compile_once(Path(os.environ["PAPER_CODE"]))
    begun = Path(sys.argv[0]).parent
    if begun.name == "runtime":  # a bundle's program: its own runtime, for its children too
        sys.path.insert(0, str(begun))
        os.environ["PYTHONPATH"] = f"{begun}:{os.environ['PYTHONPATH']}"
    for package in os.environ.get("PAPER_LACKS", "").split():
        sys.modules[package] = None  # type: ignore[assignment]
    if "PAPER_CLOCK" in os.environ:
        time.time = lambda: float(os.environ["PAPER_CLOCK"])
    from tests.fakes import gpu, tensorrt_builder, tensorrt_runtime

    names = tensorrt_builder.namespace(VERSION.rpartition(".")[0])
    if b"build_child" in Path("/proc/self/cmdline").read_bytes():  # the child that builds
        _teach(tensorrt_builder, names, json.loads(os.environ.get("PAPER_BOARD", "{}")))
        module = ModuleType("tensorrt")
        module.__dict__.update(names)
        module.__version__ = VERSION  # type: ignore[attr-defined]
        sys.modules["tensorrt"] = module
    fake_gpu = gpu.FakeGpu(_spec(), (1, 8, 32))
    builder = sys.modules.get("tensorrt")
    fake_gpu.install(cast("Any", _Patch()))
    running: Any = sys.modules["tensorrt"]
    if builder is not None:
        sys.modules["tensorrt"] = builder
        return
    for name, value in names.items():
        if name not in ("ILogger", "Runtime", "IExecutionContext"):
            setattr(running, name, value)
    running.__version__ = VERSION
    _answer_as_the_plan_says(tensorrt_runtime, running, fake_gpu)


def _spec() -> Any:
    """The model of the program's bundle; a tiny one if there is no bundle."""
    import trtpoets
    from tests.support.tiny import tiny_spec
    from trtpoets.core.types import ModelSpec

    folder = os.environ.get("TRTPOETS_BUNDLE") or str(Path(trtpoets.__file__).parents[2])
    path = Path(folder) / "model.json"
    return ModelSpec.from_json(path.read_text(), str(path)) if path.is_file() else tiny_spec()


def _teach(builder: Any, names: Mapping[str, Any], behaviours: Mapping[str, str]) -> None:
    """Set the behaviour of the fake builder for each precision; its plans contain the precision."""
    problem, build, parse = builder._problem, builder._build, names["OnnxParser"].parse
    seen: dict[str, Any] = {}

    def look(network: Any, config: Any) -> str:
        seen["content"], seen["shapes"] = network._content, config._profiles[0]._shapes["photos"]
        return str(problem(network, config))

    def built(behaviour: str, say: Any, monitor: Any) -> Any:
        precision = next(word for word in ("int8", "fp16", "fp32") if word.encode() in seen["content"])
        behaviour = behaviours.get(precision, "ok")
        engine = build("ok" if behaviour in ("wrong", "dies") else behaviour, say, monitor)
        plan = {"batch": [shape[0] for shape in seen["shapes"]], "precision": precision, "behaviour": behaviour}
        return engine and b"plan " + json.dumps(plan).encode()

    def parsed(self: Any, content: bytes) -> Any:
        precision = next(word for word in ("int8", "fp16", "fp32") if word.encode() in content)
        if behaviours.get(precision) == "unknown operator":
            self._errors.append(names["ParserError"]("Plugin not found"))
            return False
        return parse(self, content)

    builder._problem, builder._build, names["OnnxParser"].parse = look, built, parsed


def _answer_as_the_plan_says(runtime: Any, module: Any, gpu: Any) -> None:
    values: dict[str, Any] = {}
    plain, load = runtime.FakeRunner, module.Runtime.deserialize_cuda_engine

    class Runner(plain):  # type: ignore[misc, valid-type]
        def infer(self, photos: np.ndarray) -> np.ndarray:
            if values.get("behaviour") == "dies":
                os.abort()
            scores = super().infer(photos)
            return np.roll(scores, 1, axis=1) if values.get("behaviour") == "wrong" else scores

    def deserialize(self: Any, plan: bytes) -> Any:
        values.update(json.loads(plan[5:].decode()))
        gpu.batch = tuple(values["batch"])
        return load(self, plan)

    runtime.FakeRunner, module.Runtime.deserialize_cuda_engine = Runner, deserialize
