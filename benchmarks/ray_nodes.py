"""Simulates bottlenecks on a Ray cluster of up to 16 nodes on this machine: is the driver fast enough for them?

The nodes are real ones of `ray.cluster_utils.Cluster`, each with a scheduler and one worker process of its own, and the
tasks are those of `--workers ray`: 16 batches of four photos, whose features come back. Instead of running the network,
a task waits for the processor seconds that the network was measured to take, so that the nodes need no cores of their
own. What is measured are the driver, the schedulers and the transport; disks, networks and other heads are not.

    python benchmarks/ray_nodes.py [--nodes 1 2 4 8 16] [--tasks 20]

Needs the extra `ray`. The rate should grow with the number of nodes: the goal is 90 % of one node's rate for each.
"""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import dataclass

import numpy as np

from trtpoets.pipeline.extractors import OnnxExtractor, extractor_from_network
from trtpoets.pipeline.ray_workers import RayWorkers
from trtpoets.train.backbones import backbone_named
from trtpoets.train.networks import network_from_backbone

_BATCH = 4
_BATCHES_OF_TASK = 16
_GOAL = 0.9


@dataclass(frozen=True)
class Waiting:
    """A function of a batch that takes `seconds` and returns features of `width` numbers for four photos."""

    seconds: float
    width: int

    def __call__(self, _: int) -> tuple[int, np.ndarray]:
        """Return the number of the process, and the features."""
        time.sleep(self.seconds)
        return os.getpid(), np.zeros((_BATCH, self.width), np.float32)


def seconds_of_batch(extractor: OnnxExtractor) -> float:
    """Return the processor seconds of the network for a batch on one core."""
    preprocess = extractor.preprocess
    photos = np.random.default_rng(0).integers(0, 256, (_BATCH, preprocess.height, preprocess.width, 3), np.uint8)
    extractor(photos)
    start = time.process_time()
    for _ in range(20):
        extractor(photos)
    return (time.process_time() - start) / 20


def main() -> None:
    """Measure the rate for each number of nodes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--tasks", type=int, default=20, help="tasks for each node")
    parser.add_argument("--backbone", default="mobilenet_v2")
    options = parser.parse_args()
    extractor = extractor_from_network(network_from_backbone(backbone_named(options.backbone)), "cpu")
    waiting = Waiting(seconds_of_batch(extractor), extractor.width)
    ideal = _BATCH / waiting.seconds
    print(
        f"{options.backbone}: {1000 * waiting.seconds:.0f} ms for a batch of {_BATCH}, {ideal:.1f} photos/s on a core"
    )

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
    try:
        present = 1
        for nodes in sorted(options.nodes):
            for _ in range(nodes - present):
                cluster.add_node(num_cpus=1)
            present = max(nodes, present)
            cluster.wait_for_nodes()
            measure(ray, nodes, options.tasks, waiting)
    finally:
        ray.shutdown()
        cluster.shutdown()


def measure(ray: object, nodes: int, tasks: int, waiting: Waiting) -> None:
    """Print the rate of a cluster."""
    workers = RayWorkers(ray)
    processes: set[int] = set()
    while len(processes) < nodes:  # each node starts its worker with its first task
        processes |= {process for process, _ in workers.map(waiting, range(2 * nodes * _BATCHES_OF_TASK))}
    batches = tasks * nodes * _BATCHES_OF_TASK
    start, processor = time.perf_counter(), time.process_time()
    for _, features in workers.map(waiting, range(batches)):
        assert features.shape == (_BATCH, waiting.width)
    seconds, used = time.perf_counter() - start, time.process_time() - processor
    share = batches * waiting.seconds / (nodes * seconds)
    print(
        f"{nodes:3} nodes: {batches * _BATCH / seconds:8.1f} photos/s, {share:.0%} of {nodes} x the rate of a core "
        f"(goal: {_GOAL:.0%}); the driver used {used / seconds:.0%} of a core",
        flush=True,
    )


if __name__ == "__main__":
    main()
