"""The program `trtpoets`, also as `python -m trtpoets`."""

from __future__ import annotations

from trtpoets.core.signals import exit_on_ctrl_c


def main() -> None:
    """Run the program and exit. Ctrl-C ends it in one line, also while its modules are imported."""
    exit_on_ctrl_c()
    from trtpoets.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
