"""The commands of a bundle: python3 -m trtpoets.onboard COMMAND.

Exit codes: 0 done, 1 something to mend, 2 wrong usage, 3 a gate that failed, 130 interrupted.
"""

from __future__ import annotations

import os
import sys

from trtpoets.core.errors import MissingDependency, TrtPoetsError
from trtpoets.core.optional import needs
from trtpoets.core.plain import error_text

_PACKAGES = "sudo apt install -y python3-numpy python3-pil python3-venv"

_INSTALL = "see what this device lacks, and what brings it: ./install --dry-run"

_OPTION = ": --engines DIR"
"""Of trtpoets, where something can't be written. A bundle has no such option."""

_BROKEN_PIPE = 141
"""What shells say of a program whose reader has gone."""


def main() -> None:
    """Run one command and exit. What the user can mend ends in two lines; bugs keep their traceback."""
    try:
        with needs("", reason="this program", hint=_PACKAGES):
            import numpy  # noqa: F401 - everything else begins with it
        from trtpoets.onboard.commands import run

        code = run(sys.argv[1:])
        sys.stdout.flush()
    except TrtPoetsError as error:
        if isinstance(error, MissingDependency) and "trtpoets[" in error.hint:
            # The package's extras are for PCs: pip must not install a device's TensorRT.
            error.hint = "pip install onnxruntime" if "onnxruntime" in error.message else _INSTALL
        error.hint = error.hint.replace(_OPTION, "")
        sys.stderr.write(error_text(error, colour=sys.stderr.isatty()))
        code = error.exit_code
    except BrokenPipeError:
        # Python flushes stdout once more at its end, and would complain there.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _BROKEN_PIPE
    sys.exit(code)


if __name__ == "__main__":
    main()
