"""The commands of a bundle: python3 -m trtpoets.onboard COMMAND.

Exit codes: 0 done, 1 something to mend, 2 wrong usage, 3 a gate that failed, 128 + the signal interrupted.
"""

from __future__ import annotations

import sys

from trtpoets.core.console import error_text
from trtpoets.core.errors import MissingDependency, TrtPoetsError
from trtpoets.core.optional import needs
from trtpoets.core.program import run_program
from trtpoets.core.streams import write_message

_PACKAGES = "sudo apt install -y python3-numpy python3-pil python3-venv"

_INSTALL = "see what this device lacks, and what brings it: ./install --dry-run"

_OPTION = ": --engines DIR"
"""Of trtpoets, where something can't be written. A bundle has no such option."""


def main() -> None:
    """Run one command and exit. What the user can mend ends in two lines; bugs keep their traceback."""
    sys.exit(run_program(_work, _tell))


def _work() -> int:
    with needs("", reason="this program", hint=_PACKAGES):
        import numpy  # noqa: F401 - everything else begins with it
    from trtpoets.onboard.commands import run

    return run(sys.argv[1:])


def _tell(error: TrtPoetsError) -> None:
    if isinstance(error, MissingDependency) and "trtpoets[" in error.hint:
        # The package's extras are for PCs: pip must not install a device's TensorRT.
        error.hint = "pip install onnxruntime" if "onnxruntime" in error.message else _INSTALL
    error.hint = error.hint.replace(_OPTION, "")
    write_message(error_text(error, colour=sys.stderr.isatty()))


if __name__ == "__main__":
    main()
