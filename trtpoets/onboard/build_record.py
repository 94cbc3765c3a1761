"""built/build.json: which engine of a bundle is the one to run, and how it was built."""

from __future__ import annotations

from dataclasses import dataclass

from trtpoets.core.types import Precision
from trtpoets.device.build.engine_config import EngineConfig
from trtpoets.judge.golden import Verdict


@dataclass(frozen=True)
class Attempt:
    """One precision: `problem` says why its engine is not the one to run, and is empty where it is.

    `verdict` is of its golden scores, None where it did not come to that.
    """

    precision: Precision
    problem: str = ""
    hint: str = ""
    verdict: Verdict | None = None


@dataclass(frozen=True)
class BuildOptions(EngineConfig):
    """The options of a build, and the `precisions` in the order in which they were to be tried."""

    precisions: tuple[Precision, ...] = ()


@dataclass(frozen=True)
class BuildRecord:
    """The content of build.json. `bundle` is the identity of the bundle, `engine` the name of the file in built/."""

    bundle: str
    engine: str
    asked: BuildOptions | None
    attempts: tuple[Attempt, ...]
