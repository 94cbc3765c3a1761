"""The commands of a bundle: python3 -m trtpoets.onboard COMMAND.

Exit codes: 0 done, 1 something to mend, 2 wrong usage, 3 a gate that failed, 130 interrupted.
"""

from __future__ import annotations

import sys

from trtpoets.core.errors import MissingDependency, TrtPoetsError
from trtpoets.core.optional import needs
from trtpoets.core.plain import error_text
from trtpoets.core.streams import BROKEN_PIPE, discard_output, prepare_streams, write_message, writing_results

_PACKAGES = "sudo apt install -y python3-numpy python3-pil python3-venv"

_INSTALL = "see what this device lacks, and what brings it: ./install --dry-run"

_OPTION = ": --engines DIR"
"""Of trtpoets, where something can't be written. A bundle has no such option."""


def main() -> None:
    """Run one command and exit. What the user can mend ends in two lines; bugs keep their traceback."""
    prepare_streams()
    try:
        with needs("", reason="this program", hint=_PACKAGES):
            import numpy  # noqa: F401 - everything else begins with it
        from trtpoets.onboard.commands import run

        code = run(sys.argv[1:])
        with writing_results():
            pass  # what is still in the buffer
    except TrtPoetsError as error:
        if isinstance(error, MissingDependency) and "trtpoets[" in error.hint:
            # The package's extras are for PCs: pip must not install a device's TensorRT.
            error.hint = "pip install onnxruntime" if "onnxruntime" in error.message else _INSTALL
        error.hint = error.hint.replace(_OPTION, "")
        write_message(error_text(error, colour=sys.stderr.isatty()))
        code = error.exit_code
    except BrokenPipeError:
        discard_output()
        code = BROKEN_PIPE
    sys.exit(code)


if __name__ == "__main__":
    main()
