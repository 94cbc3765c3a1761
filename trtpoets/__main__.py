"""The program `trtpoets`, also as `python -m trtpoets`."""

from __future__ import annotations

import os
import signal
from typing import Any


def main() -> None:
    """Run the program and exit. Ctrl-C ends it in one line, also while its modules are imported."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # it is ignored in background jobs
        signal.signal(signal.SIGINT, _end)
    from trtpoets.cli.main import main as run

    run()


def _end(number: int, _: Any) -> None:
    """Exit at once: an exception may be lost in an import, and there is nothing to clean up yet."""
    try:
        os.write(2, b"Error: interrupted\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    main()
