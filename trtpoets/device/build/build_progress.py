"""Computes the progress of a build from the nested phases that TensorRT's progress monitor reports."""

from __future__ import annotations

import threading


class Phases:
    """Combines nested phases into one fraction that never decreases. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._open: dict[str, tuple[str | None, int, int]] = {}
        """Parent, number of steps and number of finished steps of each phase that has not ended."""
        self._best = 0.0
        """The largest fraction so far."""

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """Start a phase of `steps` steps; `parent` is the phase that contains it, None for the outermost."""
        with self._lock:
            self._open[name] = (parent if parent != name else None, max(steps, 1), 0)

    def advance(self, name: str, done: int) -> None:
        """Set the number of finished steps of a phase."""
        with self._lock:
            if name in self._open:
                parent, steps, _ = self._open[name]
                self._open[name] = (parent, steps, min(done, steps))

    def finish(self, name: str) -> None:
        """End a phase. When no phase is left, the build is complete."""
        with self._lock:
            self._open.pop(name, None)
            if not self._open:
                self._best = 1.0

    @property
    def fraction(self) -> float:
        """The finished fraction of the build, 0 to 1. A phase inside another one counts as one step of it."""
        with self._lock:
            roots = [name for name, (parent, _, _) in self._open.items() if parent not in self._open]
            if roots:
                self._best = max(self._best, self._fraction_of(roots[0]))
            return self._best

    def _fraction_of(self, name: str) -> float:
        """The finished fraction of an open phase, with that of its most advanced child."""
        _, steps, done = self._open[name]
        children = [child for child, (parent, _, _) in self._open.items() if parent == name]
        current_step = max(map(self._fraction_of, children), default=0.0)
        return min((done + current_step) / steps, 1.0)
