#!/usr/bin/env python3
"""Classify photos with a Triton server and print a line of JSON for each.

    python3 client.py --model NAME [--url localhost:8000] [--batch 8] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs tritonclient[http], numpy and Pillow. Photos are decoded and resized here and sent to the server as raw bytes.
Exit code: 0 on success, 1 if a file cannot be read or the server does not answer, 2 for wrong usage.
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
from photo_lines import arguments, model_spec, print_answers, run  # adds the runtime to sys.path

from trtpoets.core.errors import MissingDependency, RunFailed


def scores_of(client: Any, model: str, photos: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
    from tritonclient.http import InferInput, InferRequestedOutput

    request_input = InferInput("photos", list(photos.shape), "UINT8")
    request_input.set_data_from_numpy(photos, binary_data=True)
    response = client.infer(model, [request_input], outputs=[InferRequestedOutput("scores", binary_data=True)])
    return np.asarray(response.as_numpy("scores"))


def main() -> int:
    """Classify the photos on the command line."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", required=True, help="name of the model in Triton")
    parser.add_argument("--url", default="localhost:8000", help="host and port of Triton's HTTP endpoint")
    parser.add_argument("--batch", type=int, default=8, help="photos per request; the server also batches requests")
    options = parser.parse_args()
    return _classify(options)


def _classify(options: Any) -> int:
    """Classify the photos and return the exit code. Raises MissingDependency, and RunFailed without an answer."""
    try:
        from tritonclient.http import InferenceServerClient
        from tritonclient.utils import InferenceServerException
    except ImportError as error:
        hint = "pip install 'tritonclient[http]'"
        raise MissingDependency(f"tritonclient can't be imported: {error}", hint) from error
    try:
        with InferenceServerClient(options.url) as client:
            return print_answers(
                lambda photos: scores_of(client, options.model, photos), model_spec(), options, options.batch
            )
    except (InferenceServerException, OSError) as error:
        message = f"{options.url} does not answer for {options.model}: {error}"
        raise RunFailed(message, "python3 selftest.py lists the models that are served") from error


if __name__ == "__main__":
    run(main)
