#!/usr/bin/env python3
"""Classify photos with ONNX Runtime and print a line of JSON for each.

    python3 classify.py [--provider cpu|cuda|tensorrt] [--precision int8] [--settings FILE] [--top 5] [--threshold 0]
                        PHOTO_OR_FOLDER...

Needs onnxruntime (onnxruntime-gpu for cuda and tensorrt), numpy and Pillow. settings.json contains the session options
for each provider. Exit code: 0 on success, 1 if a file cannot be read or the network cannot run, 2 for wrong usage.
"""

import os
import sys

# Python adds this folder to sys.path. Remove it, so that no file here is imported before checked.py has checked it.
# (`from __future__` would be such an import; `os` was imported before.)
_HERE = os.path.realpath(__file__).rpartition("/")[0]
sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry) != _HERE]
sys.dont_write_bytecode = True  # compiled files would not be in the manifest

import runpy

runpy.run_path(f"{_HERE}/checked.py")

from typing import Any

import numpy as np
from photo_lines import HERE, arguments, model_spec, print_answers, run  # adds the runtime to sys.path

from trtpoets.core.errors import BadArtefact, BadInput, MissingDependency, RunFailed
from trtpoets.core.files import read_json
from trtpoets.core.optional import onnxruntime
from trtpoets.core.paths import user_path
from trtpoets.device.ort_engines import engines_below


def settings_of(provider: str, file: "str | None") -> "dict[str, Any]":
    """Return the settings of a provider from settings.json or another file. Raises BadArtefact."""
    path = user_path(file) if file else HERE / "settings.json"
    settings = read_json(path)
    try:
        provider_settings: dict[str, Any] = settings[provider]
    except (KeyError, TypeError) as error:
        raise BadArtefact(f"{path} has no settings for {provider}", "copy settings.json and edit the copy") from error
    return provider_settings


def open_session(settings: "dict[str, Any]", precision: str) -> Any:
    """Return an InferenceSession.

    Raises MissingDependency, BadInput, BadArtefact, or RunFailed if the provider cannot be loaded here.
    """
    try:
        runtime = onnxruntime()
    except ImportError as error:
        raise MissingDependency(f"onnxruntime can't be imported: {error}", "pip install onnxruntime") from error
    if precision not in settings["providers"]:
        raise BadInput(f"this bundle has no {precision}", f"it has {', '.join(settings['providers'])}")
    providers = [(name, placed(values)) for name, values in settings["providers"][precision]]
    file = file_of(settings, precision)
    try:
        session = runtime.InferenceSession(
            str(HERE / file),
            session_options(runtime, settings),
            providers=providers,
            disabled_optimizers=settings["disabled_optimizers"],
            enable_fallback=0,  # otherwise a provider that fails is replaced by the next one with only a printed line
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        hint = "run python3 selftest.py, which lists changed files, or check your settings"
        raise BadArtefact(f"ONNX Runtime can't open {file}: {reason}", hint) from error
    requested, active = providers[0][0], session.get_providers()[0]
    if active != requested:  # ONNX Runtime continues silently with the next provider
        raise RunFailed(f"{requested} can't be loaded here; {active} would run instead", "pip install onnxruntime-gpu")
    return session


def file_of(settings: "dict[str, Any]", precision: str) -> str:
    """Return the name of the file with this precision for a provider; settings of an earlier version have none."""
    return str(settings.get("files", {}).get(precision, f"{precision}.onnx"))


def session_options(runtime: Any, settings: "dict[str, Any]") -> Any:
    """Return SessionOptions with the names and values in settings.json."""
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    kinds = {"graph_optimization_level": "GraphOptimizationLevel", "execution_mode": "ExecutionMode"}
    for name, value in settings["session"].items():
        setattr(options, name, getattr(getattr(runtime, kinds[name]), value) if name in kinds else value)
    for key, value in settings["config"].items():
        options.add_session_config_entry(key, value)
    return options


def placed(options: "dict[str, Any]") -> "dict[str, Any]":
    """Return the options of a provider with cache paths below this folder, one per GPU and library version."""
    result = {}
    for name, value in options.items():
        result[name] = value
        if name.endswith("_path"):
            folder = engines_below(HERE / value)
            folder.mkdir(parents=True, exist_ok=True)
            result[name] = str(folder)
    return result


def scores_of(session: Any, photos: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1.

    A network with a fixed batch runs on groups of that size; the last one is filled with copies of its last photo.
    """
    size, count = session.get_inputs()[0].shape[0], len(photos)
    if not isinstance(size, int):
        (scores,) = session.run(["scores"], {"photos": photos})
        return np.asarray(scores)
    filled = photos[np.minimum(np.arange(-(-count // size) * size), count - 1)]
    groups = [session.run(["scores"], {"photos": group})[0] for group in np.split(filled, len(filled) // size)]
    return np.concatenate(groups)[:count]


def main() -> int:
    """Classify the photos on the command line."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu", help="execution provider")
    parser.add_argument("--precision", help="fp32, fp16 or int8; default: from settings.json")
    parser.add_argument("--settings", help="settings file to use instead of settings.json")
    options = parser.parse_args()
    settings = settings_of(options.provider, options.settings)
    session = open_session(settings, options.precision or settings["precision"])
    return print_answers(lambda photos: scores_of(session, photos), model_spec(), options, settings["batch"])


if __name__ == "__main__":
    run(main)
