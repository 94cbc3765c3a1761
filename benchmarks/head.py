"""Measures the training of a head (4,000 steps, batch size 100, bottlenecks of 2,000 photos) and of 32 heads.

The time is that of head_from_bottlenecks, including standardisation, validation and event files. It is compared with
the same steps in one compiled TensorFlow function, which trained heads before and is timed here without validation and
event files, and with Keras fit, which trains the same layer with the same optimizer. The times of these two are
extrapolated from fewer steps. The heads of `trtpoets sweep` are compared with one head, both without event files.
Processor seconds are less disturbed by other programs than seconds.

    python benchmarks/head.py [--width 1280] [--classes 5] [--rounds 3]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from trtpoets.core.images import usable_cores
from trtpoets.core.optional import tensorflow
from trtpoets.core.training import HeadConfig, Optimizer
from trtpoets.train.head import head_from_bottlenecks, heads_from_bottlenecks
from trtpoets.train.head_graph import loss_function
from trtpoets.train.head_loop import standardisation


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
    arrays = features[train], labels[train], features[validation], labels[validation], options.classes
    grid = settings(config)

    def ours() -> None:
        with tempfile.TemporaryDirectory() as logs:
            head_from_bottlenecks(*arrays, config, logs=Path(logs))

    def compiled() -> Callable[[], object]:
        return compiled_steps(arrays[0], arrays[1], options.classes, replace(config, steps=400))

    def keras() -> Callable[[], object]:
        model = tf.keras.Sequential([tf.keras.layers.Dense(options.classes)])
        model.compile(
            tf.keras.optimizers.Adam(config.learning_rate),
            tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        )
        epochs = max(1, round(400 * config.batch_size / options.photos))
        return lambda: model.fit(*arrays[:2], batch_size=config.batch_size, epochs=epochs, verbose=0)

    of_keras, of_compiled = keras(), compiled()
    tasks: dict[str, Callable[[], object]] = {
        "one head": ours,
        "one head, without event files": lambda: head_from_bottlenecks(*arrays, config),
        f"{len(grid)} heads, without event files": lambda: heads_from_bottlenecks(*arrays, grid),
        "compiled TensorFlow steps": of_compiled,
        "Keras fit": of_keras,
    }
    factors = dict.fromkeys(tasks, 1.0) | {"compiled TensorFlow steps": 10.0, "Keras fit": 10.0}
    of_keras()  # traces
    of_compiled()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in tasks}
    for _ in range(options.rounds):
        for name, task in tasks.items():
            times[name].append(timed(task, factors[name]))
    wall, processor = (
        {name: statistics.median(row[n] for row in rows) for name, rows in times.items()} for n in (0, 1)
    )
    print(f"{options.photos} photos, {options.width} features, {options.classes} classes, {usable_cores()} cores")
    for name in tasks:
        print(f"  {name:32} {wall[name]:6.2f} s, {processor[name]:6.2f} processor seconds for 4,000 steps")
    one, alone, many, before, fit = tasks
    print(
        f"share of 1.2 s: {wall[one] / 1.2:.2f}; of 1.2 processor seconds: {processor[one] / 1.2:.2f} (goal: at most 1)"
    )
    print(f"processor seconds relative to compiled TensorFlow steps: {processor[one] / processor[before]:.2f}")
    print(f"times faster than Keras fit: {wall[fit] / wall[one]:.1f}")
    print(f"{len(grid)} heads relative to one: {wall[many] / wall[alone]:.1f} (goal: at most 8)")
    print(f"{len(grid)} heads relative to one, processor seconds: {processor[many] / processor[alone]:.1f}")


def settings(config: HeadConfig) -> list[HeadConfig]:
    """Return 32 settings: four learning rates, two optimizers, two penalties, two label smoothings."""
    return [
        replace(config, learning_rate=rate, optimizer=optimizer, l2=l2, label_smoothing=smoothing)
        for rate in (0.0003, 0.005, 0.01, 1.0)
        for optimizer in Optimizer
        for l2 in (0.01, 0.0)
        for smoothing in (0.0, 0.1)
    ]


def compiled_steps(features: np.ndarray, labels: np.ndarray, classes: int, config: HeadConfig) -> Callable[[], object]:
    """Return a function that takes `config.steps` steps in one compiled TensorFlow function."""
    tf = tensorflow()
    loss = loss_function(config, np.ones(classes), *standardisation(features))
    variables = [tf.keras.Variable(np.zeros(shape, np.float32)) for shape in ((features.shape[1], classes), (classes,))]
    rule = tf.keras.optimizers.Adam(config.learning_rate)
    rule.build(variables)

    def steps(order: Any, x: Any, y: Any) -> None:
        for number in tf.range(tf.shape(order)[0]):
            rows = order[number]
            with tf.GradientTape() as tape:
                value = loss(tf.gather(x, rows), tf.gather(y, rows), *(variable.value for variable in variables))
            rule.apply(tape.gradient(value, [variable.value for variable in variables]), variables)

    order = np.random.default_rng(0).integers(0, len(features), (config.steps, config.batch_size))
    given = [tf.convert_to_tensor(array) for array in (order, features, labels.astype(np.int32))]
    function = tf.function(steps)
    return lambda: function(*given)


def timed(task: Callable[[], object], factor: float) -> tuple[float, float]:
    """Return the seconds and the processor seconds that a task takes, times `factor`."""
    start, processor = time.perf_counter(), time.process_time()
    task()
    return factor * (time.perf_counter() - start), factor * (time.process_time() - processor)


if __name__ == "__main__":
    main()
