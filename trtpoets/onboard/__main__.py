"""The program of a bundle: python3 -m trtpoets.onboard COMMAND.

Exit codes: 0 success, 1 error, 2 usage error, 3 failed gate, 128 + signal number if interrupted.
"""

from __future__ import annotations

import sys

from trtpoets.core.console import error_text
from trtpoets.core.errors import MissingDependency, TrtPoetsError
from trtpoets.core.optional import needs
from trtpoets.core.program import run_program
from trtpoets.core.signals import exit_on_ctrl_c
from trtpoets.core.streams import write_message

_PACKAGES = "sudo apt install -y python3-numpy python3-pil python3-venv"

_INSTALL = "show what is missing and how to install it: ./install --dry-run"

_OPTION = " with --engines DIR"
"""Part of trtpoets' hints for write errors, which is removed: a bundle has no such option."""


def main() -> None:
    """Run one command and exit. Errors that the user can fix are shown in two lines; bugs keep their traceback."""
    exit_on_ctrl_c()
    sys.exit(run_program(_work, _report))


def _work() -> int:
    with needs("", reason="this program", hint=_PACKAGES):
        import numpy  # noqa: F401 - all other modules import it
    from trtpoets.onboard.commands import run

    return run(sys.argv[1:])


def _report(error: TrtPoetsError) -> None:
    if isinstance(error, MissingDependency) and "trtpoets[" in error.hint:
        # trtpoets' extras are for PCs: on a device, TensorRT must not be installed by pip.
        error.hint = "pip install onnxruntime" if error.subject.split(".")[0] == "onnxruntime" else _INSTALL
    error.hint = error.hint.replace(_OPTION, "")
    write_message(error_text(error, colour=sys.stderr.isatty()))


if __name__ == "__main__":
    main()
