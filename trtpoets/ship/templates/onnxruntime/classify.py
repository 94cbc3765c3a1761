#!/usr/bin/env python3
"""Say what photos show, through ONNX Runtime: a line of JSON for each photo.

    python3 classify.py [--provider cpu|cuda|tensorrt] [--precision int8] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs onnxruntime (onnxruntime-gpu for cuda and tensorrt), numpy and Pillow. How a session is opened for each provider
stands in settings.json. Exit code: 0 done, 1 something can't be read or run, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # the bundle stays as its manifest says

import numpy as np
from photo_lines import HERE, answers, files_in, model_spec  # it also makes the runtime known

from trtpoets.core.errors import BadInput, MissingDependency, RunFailed, TrtPoetsError


def settings_of(provider: str) -> dict[str, Any]:
    """How to run by a provider."""
    found: dict[str, Any] = json.loads((HERE / "settings.json").read_text(encoding="utf-8"))[provider]
    return found


def open_session(settings: dict[str, Any], precision: str) -> Any:
    """An InferenceSession. Raises MissingDependency, BadInput, or RunFailed where the provider does not load here."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependency(f"onnxruntime does not import here: {error}", "pip install onnxruntime") from error
    if precision not in settings["providers"]:
        raise BadInput(f"this bundle has no {precision}", f"it has {', '.join(settings['providers'])}")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    for name, value in settings["session"].items():
        kinds = {"graph_optimization_level": "GraphOptimizationLevel", "execution_mode": "ExecutionMode"}
        setattr(options, name, getattr(getattr(onnxruntime, kinds[name]), value) if name in kinds else value)
    for key, value in settings["config"].items():
        options.add_session_config_entry(key, value)
    providers = [(name, placed(values)) for name, values in settings["providers"][precision]]
    session = onnxruntime.InferenceSession(
        str(HERE / f"{precision}.onnx"),
        options,
        providers=providers,
        disabled_optimizers=settings["disabled_optimizers"],
    )
    wanted, found = providers[0][0], session.get_providers()[0]
    if found != wanted:  # ONNX Runtime would go on without it, and without a word
        raise RunFailed(f"{wanted} does not load here, {found} would run", "pip install onnxruntime-gpu; README.md")
    return session


def placed(options: dict[str, Any]) -> dict[str, Any]:
    """The options of a provider, with paths below this folder, which are made."""
    result = {}
    for name, value in options.items():
        result[name] = str(HERE / value) if name.endswith("_path") else value
        if name.endswith("_path"):
            (HERE / value).mkdir(parents=True, exist_ok=True)
    return result


def scores_of(session: Any, photos: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
    (scores,) = session.run(["scores"], {"photos": photos})
    return np.asarray(scores)


def main() -> int:
    """Classify what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("photos", nargs="+", type=Path, help="photo files, or folders of them")
    parser.add_argument("--provider", choices=("cpu", "cuda", "tensorrt"), default="cpu", help="what runs it")
    parser.add_argument("--precision", help="fp32, fp16 or int8; settings.json says which is best for the provider")
    parser.add_argument("--top", type=int, default=5, help="how many labels a photo")
    parser.add_argument("--threshold", type=float, default=0.0, help="leave out labels with a lower score")
    given = parser.parse_args()
    try:
        settings = settings_of(given.provider)
        session = open_session(settings, given.precision or settings["precision"])
        asked = {"batch": settings["batch"], "top": given.top, "threshold": given.threshold}
        bad = 0
        for answer in answers(lambda photos: scores_of(session, photos), model_spec(), files_in(given.photos), **asked):
            print(json.dumps(answer, ensure_ascii=False), flush=True)
            bad += "error" in answer
    except TrtPoetsError as error:
        print(f"Error: {error.message}" + (f"\n  try: {error.hint}" if error.hint else ""), file=sys.stderr)
        return error.exit_code
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
