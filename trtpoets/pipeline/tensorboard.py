"""TensorBoard over the event files that training left: curves, graph and histograms, runs beside each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trtpoets.core.errors import BadInput, Busy, MissingArtefact, RunFailed
from trtpoets.core.optional import needs, tensorflow
from trtpoets.core.paths import user_path
from trtpoets.core.shell_commands import command
from trtpoets.core.workspace import Workspace
from trtpoets.pipeline.artefacts import ENGINES

_EVENTS = "events.out.tfevents.*"


@dataclass(frozen=True)
class Board:
    """A TensorBoard that runs until this process ends: where it answers, what it shows."""

    url: str
    folder: Path
    runs: tuple[str, ...]


def tensorboard(name: str | None = None, *, port: int | None = None, engines: Path | str = ENGINES) -> Board:
    """Start TensorBoard on the trainings of a run, or of all runs under `engines`, in the background.

    Every `retrain` has left a folder of its own there, so learning rates and optimizers show side by side. Without a
    `port` it is 6006 or the next that is free; 0 stands for any.

    Raises MissingArtefact where nothing was trained, MissingDependency without the extra `train`, Busy when the port is
    taken.
    """
    if port is not None and not 0 <= port <= 65535:
        raise BadInput(f"--port {port} is no port", hint="--port 6006, or none for one that is free", code="TP8038")
    folder = user_path(engines) if name is None else Workspace(Path(engines), name).logs
    runs = tuple(sorted({str(file.parent.relative_to(folder)) for file in folder.rglob(_EVENTS)}))
    if not runs:
        what = f"{name} was" if name else f"nothing under {folder} was"
        hint = command("retrain", "PHOTOS", "--name", name or "NAME", "--force", engines=Path(engines))
        raise MissingArtefact(f"{what} not trained here: there are no event files", hint=hint, code="TP8039")
    return Board(_started(folder, port), folder, runs)


def _started(folder: Path, port: int | None) -> str:
    tensorflow()  # which TensorBoard will import: quiet, and without taking all of a GPU's memory
    with needs("train", reason="showing the trainings"):
        from tensorboard import program
    board: Any = program.TensorBoard()
    # The fast loader is a program of its own that tells its news on stderr.
    board.configure(logdir=str(folder), port=port, load_fast="false")
    try:
        return str(board.launch())
    except program.TensorBoardPortInUseError as error:
        raise Busy(
            f"port {port} is taken: {error}", hint="trtpoets tensorboard --port 0, for any that is free", code="TP8040"
        ) from error
    except program.TensorBoardServerException as error:
        raise RunFailed(f"TensorBoard did not start: {error}", hint="leave --port out", code="TP8041") from error
