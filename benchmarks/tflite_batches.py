"""Measures the effect of batching on a TFLite interpreter: CPU time per photo, relative to batch size 1.

    python benchmarks/tflite_batches.py engines/flowers/fp32.tflite engines/flowers/int8.tflite

It uses one thread and measures CPU time, so other load has little effect. Ratios above 1.00 mean that batching is
slower.
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
    """Return the CPU time per photo in ms for each batch size, the minimum over rounds."""
    from ai_edge_litert.interpreter import Interpreter

    preprocess = read_tflite(path).spec.preprocess
    photos = np.random.default_rng(0).integers(0, 256, (PHOTOS, preprocess.height, preprocess.width, 3), np.uint8)
    interpreter = Interpreter(model_content=network_in(path), num_threads=1)
    input_index = interpreter.get_input_details()[0]["index"]
    best = dict.fromkeys(BATCHES, float("inf"))
    for _ in range(ROUNDS):
        for batch in BATCHES:
            interpreter.resize_tensor_input(input_index, (batch, *photos.shape[1:]))
            interpreter.allocate_tensors()
            interpreter.invoke()
            start = time.process_time()
            for first in range(0, PHOTOS, batch):
                interpreter.set_tensor(input_index, photos[first : first + batch])
                interpreter.invoke()
            best[batch] = min(best[batch], 1000 * (time.process_time() - start) / PHOTOS)
    return best


def main() -> None:
    """Measure the files on the command line and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path, help="TFLite files written by trtpoets")
    for path in parser.parse_args().files:
        times = measure(path)
        columns = (f"batch {batch}: {ms:.2f} ms, {ms / times[1]:.2f}×" for batch, ms in times.items())
        print(f"{path}: {', '.join(columns)}")


if __name__ == "__main__":
    main()
