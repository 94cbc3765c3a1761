"""Measures the training of a head (4,000 steps, batch size 100, bottlenecks of 2,000 photos) against Keras fit.

The time is that of head_from_bottlenecks, including tracing, standardisation, validation and event files. Keras trains
the same layer with the same optimizer; its time is extrapolated from fewer steps.

    python benchmarks/head.py [--width 1280] [--classes 5] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from trtpoets.core.images import usable_cores
from trtpoets.core.optional import tensorflow
from trtpoets.core.training import HeadConfig
from trtpoets.train.head import head_from_bottlenecks


def main() -> None:
    """Run the measurement and print the times."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--classes", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    tf = tensorflow()
    random = np.random.default_rng(0)
    labels = np.arange(options.photos * 5 // 4) % options.classes
    middles = random.normal(0, 0.1, (options.classes, options.width))
    features = (middles[labels] + random.normal(0, 1, (len(labels), options.width))).astype(np.float32)
    train, validation = slice(options.photos), slice(options.photos, None)
    config = HeadConfig(steps=4000, batch_size=100)

    def ours() -> float:
        with tempfile.TemporaryDirectory() as logs:
            start = time.perf_counter()
            head_from_bottlenecks(
                *(features[train], labels[train], features[validation], labels[validation], options.classes, config),
                logs=Path(logs),
            )
            return time.perf_counter() - start

    def keras() -> float:
        steps = options.photos // config.batch_size
        model = tf.keras.Sequential([tf.keras.layers.Dense(options.classes)])
        model.compile(
            tf.keras.optimizers.Adam(config.learning_rate),
            tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        model.fit(features[train], labels[train], batch_size=config.batch_size, verbose=0)
        epochs = max(1, 400 // steps)
        start = time.perf_counter()
        model.fit(features[train], labels[train], batch_size=config.batch_size, epochs=epochs, verbose=0)
        return (time.perf_counter() - start) / (epochs * steps) * config.steps

    times = [(ours(), keras()) for _ in range(options.rounds)]
    seconds, keras_seconds = (statistics.median(column) for column in zip(*times, strict=True))
    print(f"{options.photos} photos, {options.width} features, {options.classes} classes, {usable_cores()} cores")
    print(f"  4,000 steps at batch 100: {seconds:.2f} s (goal: at most 3 s); Keras fit: {keras_seconds:.1f} s")
    print(f"share of the 3 s: {seconds / 3:.2f} (goal: at most 1)")
    print(f"times faster than Keras fit: {keras_seconds / seconds:.1f}")


if __name__ == "__main__":
    main()
