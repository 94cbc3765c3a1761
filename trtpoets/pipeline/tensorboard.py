"""Starts TensorBoard on the event files of trainings."""

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
class TensorBoardServer:
    """A TensorBoard server that runs until this process ends: its URL, its log folder and the trainings in it."""

    url: str
    folder: Path
    runs: tuple[str, ...]


def tensorboard(
    name: str | None = None, *, port: int | None = None, engines: Path | str = ENGINES
) -> TensorBoardServer:
    """Start TensorBoard in the background on the trainings of a run, or of all runs in `engines`.

    Every `retrain` writes its own log folder, so TensorBoard shows different learning rates and optimizers next to each
    other. `port` None means 6006 or the next free port, 0 any free port.

    Raises MissingArtefact if nothing was trained, MissingDependency without the extra `train`, Busy if the port is in
    use.
    """
    if port is not None and not 0 <= port <= 65535:
        raise BadInput(
            f"--port {port} is not in 0 to 65535", hint="use --port 6006, or leave --port out", code="TP8038"
        )
    folder = user_path(engines) if name is None else Workspace(Path(engines), name).logs
    runs = tuple(sorted({str(file.parent.relative_to(folder)) for file in folder.rglob(_EVENTS)}))
    if not runs:
        subject = f"{name} was not trained here" if name else f"no run in {folder} was trained here"
        hint = command("retrain", "PHOTOS", "--name", name or "NAME", "--force", engines=Path(engines))
        raise MissingArtefact(f"{subject}: there are no event files", hint=hint, code="TP8039")
    return TensorBoardServer(_start(folder, port), folder, runs)


def _start(folder: Path, port: int | None) -> str:
    """Start TensorBoard and return its URL. Raises Busy, RunFailed."""
    tensorflow()  # TensorBoard imports it; configure it first: quiet, and without reserving all GPU memory
    with needs("train", reason="TensorBoard"):
        from tensorboard import program
    board: Any = program.TensorBoard()
    # The fast loader is a separate program that writes to stderr.
    board.configure(logdir=str(folder), port=port, load_fast="false")
    try:
        return str(board.launch())
    except program.TensorBoardPortInUseError as error:
        raise Busy(
            f"port {port} is in use: {error}", hint="use any free port: trtpoets tensorboard --port 0", code="TP8040"
        ) from error
    except program.TensorBoardServerException as error:
        raise RunFailed(f"TensorBoard did not start: {error}", hint="leave --port out", code="TP8041") from error
