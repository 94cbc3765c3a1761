"""Measures the stages of `trtpoets demo`, `run` and `quantize`: wall seconds and processor seconds, and the goals.

    python benchmarks/stages.py [--photos FOLDER] [--only demo run quantize]

Each command runs in its own process, in an empty folder with an empty cache, and its stages are timed in that process.
`run` trains on 180 photos of three classes of FOLDER, `quantize` calibrates with 256 photos of FOLDER; the demo uses
its own. Processor seconds are those of the process and of its finished children. They depend less on other programs
than wall seconds do, but shared caches and hyper-threads make them longer too: the load before is printed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOALS = {"demo": 110.0, "run": 45.0, "quantize": 35.0}
"""Maximum wall seconds on two otherwise idle cores."""

STAGES = ("retrain", "adopt", "export", "quantize", "build", "evaluate", "bench", "report")

FLOWERS = Path(__file__).parents[2] / "shared" / "data" / "flowers5"

_RUN_PHOTOS, _RUN_CLASSES = 60, 3


def processor_seconds() -> float:
    """Return the processor time of this process and of its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def timed_stages(work: Callable[[], Any]) -> list[tuple[str, float, float]]:
    """Call `work` and return name, wall seconds and processor seconds of each stage of the pipeline that it ran."""
    from trtpoets.pipeline import run as pipeline

    rows: list[tuple[str, float, float]] = []

    def timed(name: str, stage: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            wall, processor = time.perf_counter(), processor_seconds()
            try:
                return stage(*arguments, **options)
            finally:
                rows.append((name, time.perf_counter() - wall, processor_seconds() - processor))

        return call

    for name in STAGES:
        setattr(pipeline, name, timed(name, getattr(pipeline, name)))
    work()
    return rows


def measured(command: str, photos: Path) -> dict[str, Any]:
    """Run a command in this process, in the current folder: its stages, and the seconds of the whole command."""
    from trtpoets.pipeline import run as pipeline
    from trtpoets.pipeline.export import export
    from trtpoets.pipeline.quantize import quantize
    from trtpoets.pipeline.retrain import RetrainConfig, retrain

    engines = Path("engines")
    if command == "quantize":  # needs a classifier and its fp32.onnx, which are not timed
        retrain(photos, "stages", RetrainConfig(backbone="mobilenet_v2"), engines=engines)
        export("stages", engines=engines)
    works: dict[str, Callable[[], Any]] = {
        "demo": lambda: pipeline.demo("stages", engines=engines),
        "run": lambda: pipeline.run(photos, "stages", engines=engines),
        "quantize": lambda: quantize("stages", engines=engines),
    }
    wall, processor = time.perf_counter(), processor_seconds()
    rows = timed_stages(works[command])
    return {"stages": rows, "wall": time.perf_counter() - wall, "processor": processor_seconds() - processor}


def subset(photos: Path, out: Path) -> Path:
    """Link the first 60 photos of the first three classes of `photos` into `out`, which is returned."""
    classes = sorted(folder for folder in photos.iterdir() if folder.is_dir())[:_RUN_CLASSES]
    for folder in classes:
        (out / folder.name).mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:_RUN_PHOTOS]:
            (out / folder.name / photo.name).symlink_to(photo.resolve())
    return out


def main() -> None:
    """Run the commands and print the stages of each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--photos", type=Path, default=FLOWERS, help="a folder of photos, one folder for each label")
    parser.add_argument("--only", nargs="+", choices=list(GOALS), default=list(GOALS), help="the commands to measure")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        result = measured(options.child, options.photos)
        Path("stages.json").write_text(json.dumps(result))
        return
    if not options.photos.is_dir() and set(options.only) != {"demo"}:
        sys.exit(f"{options.photos} is not a folder: give one with --photos, or --only demo")
    for command in options.only:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            photos = subset(options.photos, folder / "photos") if command == "run" else options.photos
            load = os.getloadavg()[0]
            child = [sys.executable, str(Path(__file__).resolve()), "--child", command]
            child += ["--photos", str(photos.resolve())]
            environment = {**os.environ, "TRTPOETS_CACHE": str(folder / "cache")}
            process = subprocess.run(child, cwd=folder, env=environment, check=False, capture_output=True, text=True)
            if process.returncode:
                sys.exit(f"{command} ended with {process.returncode}:\n{process.stderr}")
            result = json.loads((folder / "stages.json").read_text())
        goal = GOALS[command]
        print(f"{command}: {result['wall']:.1f} s, {result['wall'] / goal:.2f} of the goal ({goal:g} s); ", end="")
        print(f"{result['processor']:.1f} processor seconds; load {load:.1f} before")
        for stage, wall, processor in result["stages"]:
            print(f"  {stage:<10}{wall:8.1f} s {wall / goal:6.2f} of the goal{processor:8.1f} processor seconds")
        between = result["wall"] - sum(wall for _, wall, _ in result["stages"])
        print(f"  {'between':<10}{between:8.1f} s {between / goal:6.2f} of the goal")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
