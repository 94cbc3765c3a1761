#!/usr/bin/env python3
"""Say what photos show, through ONNX Runtime: a line of JSON for each photo.

    python3 classify.py [--provider cpu|cuda|tensorrt] [--precision int8] [--settings FILE] [--top 5] [--threshold 0]
                        PHOTO_OR_FOLDER...

Needs onnxruntime (onnxruntime-gpu for cuda and tensorrt), numpy and Pillow. How a session is opened for each provider
stands in settings.json. Exit code: 0 done, 1 something can't be read or run, 2 wrong usage.
"""

import os
import sys

# Python puts this folder first on its path, and has imported os already: nothing else is before all code was checked.
# (So no `from __future__`, which imports.)
_HERE = os.path.realpath(__file__).rpartition("/")[0]
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
sys.dont_write_bytecode = True  # the bundle stays as its manifest says

import runpy

runpy.run_path(f"{_HERE}/checked.py")

from typing import Any

import numpy as np
from photo_lines import HERE, arguments, model_spec, print_answers, run  # it also makes the runtime known

from trtpoets.core.errors import BadArtefact, BadInput, MissingDependency, RunFailed
from trtpoets.core.files import read_json
from trtpoets.core.optional import onnxruntime
from trtpoets.core.paths import user_path
from trtpoets.device.ort_engines import engines_below


def settings_of(provider: str, file: "str | None") -> "dict[str, Any]":
    """How to run by a provider, by settings.json or another file. Raises BadArtefact."""
    path = user_path(file) if file else HERE / "settings.json"
    settings = read_json(path)
    try:
        found: dict[str, Any] = settings[provider]
    except (KeyError, TypeError) as error:
        raise BadArtefact(f"{path} says nothing of {provider}", "copy settings.json, and change the copy") from error
    return found


def open_session(settings: "dict[str, Any]", precision: str) -> Any:
    """An InferenceSession.

    Raises MissingDependency, BadInput, BadArtefact, or RunFailed where the provider does not load here.
    """
    try:
        runtime = onnxruntime()
    except ImportError as error:
        raise MissingDependency(f"onnxruntime does not import here: {error}", "pip install onnxruntime") from error
    if precision not in settings["providers"]:
        raise BadInput(f"this bundle has no {precision}", f"it has {', '.join(settings['providers'])}")
    providers = [(name, placed(values)) for name, values in settings["providers"][precision]]
    try:
        session = runtime.InferenceSession(
            str(HERE / f"{precision}.onnx"),
            session_options(runtime, settings),
            providers=providers,
            disabled_optimizers=settings["disabled_optimizers"],
            enable_fallback=0,  # else a provider that fails, now or later, is replaced by the next after a printed line
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "python3 selftest.py names a file that was changed; or look at your settings"
        raise BadArtefact(f"ONNX Runtime can't open {precision}.onnx: {reason}", hint) from error
    wanted, found = providers[0][0], session.get_providers()[0]
    if found != wanted:  # ONNX Runtime would go on without it, and without a word
        raise RunFailed(f"{wanted} does not load here, {found} would run", "pip install onnxruntime-gpu; README.md")
    return session


def session_options(runtime: Any, settings: "dict[str, Any]") -> Any:
    """The options of a session, with names and values as settings.json has them."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    kinds = {"graph_optimization_level": "GraphOptimizationLevel", "execution_mode": "ExecutionMode"}
    for name, value in settings["session"].items():
        setattr(options, name, getattr(getattr(runtime, kinds[name]), value) if name in kinds else value)
    for key, value in settings["config"].items():
        options.add_session_config_entry(key, value)
    return options


def placed(options: "dict[str, Any]") -> "dict[str, Any]":
    """The options of a provider, with paths below this folder, which are made: one for each GPU and its libraries."""
    result = {}
    for name, value in options.items():
        result[name] = value
        if name.endswith("_path"):
            folder = engines_below(HERE / value)
            folder.mkdir(parents=True, exist_ok=True)
            result[name] = str(folder)
    return result


def scores_of(session: Any, photos: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
    (scores,) = session.run(["scores"], {"photos": photos})
    return np.asarray(scores)


def main() -> int:
    """Classify what the command line names."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu", help="what runs it")
    parser.add_argument("--precision", help="fp32, fp16 or int8; settings.json says which is best for the provider")
    parser.add_argument("--settings", help="another file than settings.json")
    given = parser.parse_args()
    settings = settings_of(given.provider, given.settings)
    session = open_session(settings, given.precision or settings["precision"])
    return print_answers(lambda photos: scores_of(session, photos), model_spec(), given, settings["batch"])


if __name__ == "__main__":
    run(main)
