"""The progress of a build, from the phases that TensorRT reports."""

from __future__ import annotations

from trtpoets.device.build.build_progress import Phases


def test_phases_add_up_and_never_fall() -> None:
    phases = Phases()
    seen = [phases.fraction]
    phases.start("build", None, 2)
    for part in ("first", "second"):
        phases.start(part, "build", 4)
        for step in range(4):
            phases.advance(part, step + 1)
            seen.append(phases.fraction)
        phases.finish(part)
        phases.advance("build", 1 if part == "first" else 2)
        seen.append(phases.fraction)
    phases.finish("build")
    seen.append(phases.fraction)
    assert seen == sorted(seen) and seen[0] == 0 and seen[-1] == 1
    assert seen[1] == 0.125 and seen[5] == 0.5
    phases.start("loop", "loop", 1)
    phases.advance("unknown", 3)
    assert phases.fraction == 1
