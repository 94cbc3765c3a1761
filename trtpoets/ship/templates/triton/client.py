#!/usr/bin/env python3
"""Say what photos show, through Triton: a line of JSON for each photo.

    python3 client.py --model NAME [--url localhost:8000] [--batch 8] [--top 5] [--threshold 0] PHOTO_OR_FOLDER...

Needs tritonclient[http], numpy and Pillow. Photos are prepared here, and go to the server as raw bytes.
Exit code: 0 done, 1 something can't be read or asked, 2 wrong usage.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

sys.dont_write_bytecode = True  # the bundle stays as its manifest says

import numpy as np
from photo_lines import answers, files_in, model_spec  # it also makes the runtime known


def scores_of(client: Any, model: str, photos: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, 3) -> float32 (N, C), rows summing to 1."""
    from tritonclient.http import InferInput, InferRequestedOutput

    sent = InferInput("photos", list(photos.shape), "UINT8")
    sent.set_data_from_numpy(photos, binary_data=True)
    answer = client.infer(model, [sent], outputs=[InferRequestedOutput("scores", binary_data=True)])
    return np.asarray(answer.as_numpy("scores"))


def main() -> int:
    """Classify what the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("photos", nargs="+", type=Path, help="photo files, or folders of them")
    parser.add_argument("--model", required=True, help="which of the models that Triton serves")
    parser.add_argument("--url", default="localhost:8000", help="host and port of Triton's HTTP")
    parser.add_argument("--batch", type=int, default=8, help="photos a request; the server joins requests by itself")
    parser.add_argument("--top", type=int, default=5, help="how many labels a photo")
    parser.add_argument("--threshold", type=float, default=0.0, help="leave out labels with a lower score")
    given = parser.parse_args()
    try:
        from tritonclient.http import InferenceServerClient
        from tritonclient.utils import InferenceServerException
    except ImportError as error:
        print(
            f"Error: tritonclient does not import here: {error}\n  try: pip install 'tritonclient[http]'",
            file=sys.stderr,
        )
        return 1
    asked = {"batch": given.batch, "top": given.top, "threshold": given.threshold}
    bad = 0
    try:
        with InferenceServerClient(given.url) as client:
            files = files_in(given.photos)
            for answer in answers(lambda photos: scores_of(client, given.model, photos), model_spec(), files, **asked):
                print(json.dumps(answer, ensure_ascii=False), flush=True)
                bad += "error" in answer
    except (InferenceServerException, OSError) as error:
        print(
            f"Error: {given.url} does not answer for {given.model}: {error}\n  try: python3 selftest.py",
            file=sys.stderr,
        )
        return 1
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
