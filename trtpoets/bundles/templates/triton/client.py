#!/usr/bin/env python3
"""Say what photos show, through Triton: a line of JSON for each photo.

    python3 client.py --model NAME [--url localhost:8000] [--batch 8] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs tritonclient[http], numpy and Pillow. Photos are prepared here, and go to the server as raw bytes.
Exit code: 0 done, 1 something can't be read or asked, 2 wrong usage.
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
from photo_lines import arguments, model_spec, print_answers, run  # it also makes the runtime known

from trtpoets.core.errors import MissingDependency, RunFailed


def scores_of(client: Any, model: str, photos: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
    from tritonclient.http import InferInput, InferRequestedOutput

    sent = InferInput("photos", list(photos.shape), "UINT8")
    sent.set_data_from_numpy(photos, binary_data=True)
    answer = client.infer(model, [sent], outputs=[InferRequestedOutput("scores", binary_data=True)])
    return np.asarray(answer.as_numpy("scores"))


def main() -> int:
    """Classify what the command line names."""
    parser = arguments(__doc__ or "")
    parser.add_argument("--model", required=True, help="which of the models that Triton serves")
    parser.add_argument("--url", default="localhost:8000", help="host and port of Triton's HTTP")
    parser.add_argument("--batch", type=int, default=8, help="photos a request; the server joins requests by itself")
    given = parser.parse_args()
    return _main(given)


def _main(given: Any) -> int:
    """Raises MissingDependency, RunFailed where the server does not answer."""
    try:
        from tritonclient.http import InferenceServerClient
        from tritonclient.utils import InferenceServerException
    except ImportError as error:
        hint = "pip install 'tritonclient[http]'"
        raise MissingDependency(f"tritonclient does not import here: {error}", hint) from error
    try:
        with InferenceServerClient(given.url) as client:
            return print_answers(
                lambda photos: scores_of(client, given.model, photos), model_spec(), given, given.batch
            )
    except (InferenceServerException, OSError) as error:
        message = f"{given.url} does not answer for {given.model}: {error}"
        raise RunFailed(message, "python3 selftest.py says what is served") from error


if __name__ == "__main__":
    run(main)
