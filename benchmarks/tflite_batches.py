"""What a TFLite interpreter gains by batches: processor time a photo, beside one photo at a time.

    python benchmarks/tflite_batches.py engines/flowers/fp32.tflite engines/flowers/int8.tflite

On one thread, by the processor's clock, so that neighbours count for little. Above 1.00 the batch loses.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from trtpoets.core.tflite_file import network_in, read_tflite

BATCHES = (1, 8, 32)
ROUNDS = 5
PHOTOS = 32


def measure(path: Path) -> dict[int, float]:
    """Processor time a photo, in ms, for each batch size: the least of a few rounds, taken in turn."""
    from ai_edge_litert.interpreter import Interpreter

    preprocess = read_tflite(path).spec.preprocess
    photos = np.random.default_rng(0).integers(0, 256, (PHOTOS, preprocess.height, preprocess.width, 3), np.uint8)
    interpreter = Interpreter(model_content=network_in(path), num_threads=1)
    place = interpreter.get_input_details()[0]["index"]
    best = dict.fromkeys(BATCHES, float("inf"))
    for _ in range(ROUNDS):
        for batch in BATCHES:
            interpreter.resize_tensor_input(place, (batch, *photos.shape[1:]))
            interpreter.allocate_tensors()
            interpreter.invoke()
            begun = time.process_time()
            for first in range(0, PHOTOS, batch):
                interpreter.set_tensor(place, photos[first : first + batch])
                interpreter.invoke()
            best[batch] = min(best[batch], 1000 * (time.process_time() - begun) / PHOTOS)
    return best


def main() -> None:
    """Measure the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="TFLite files that trtpoets wrote")
    for path in parser.parse_args().files:
        found = measure(path)
        told = ", ".join(f"batch {batch}: {ms:.2f} ms, {ms / found[1]:.2f}×" for batch, ms in found.items())
        print(f"{path}: {told}")


if __name__ == "__main__":
    main()
