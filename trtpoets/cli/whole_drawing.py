"""A console of rich that no signal interrupts while it draws.

To draw bars again, rich moves the cursor up by as many lines as it believes to have drawn. If Ctrl-C came after it had
counted the lines and before it wrote them, it would next erase lines above the bars, which are messages.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trtpoets.core.signals import defer_interrupts, raise_deferred_interrupt

if TYPE_CHECKING:
    from types import TracebackType

    from rich.console import Console


def whole_drawing_console() -> Console:
    """Return a console for standard error that defers the KeyboardInterrupt of a signal until it has drawn."""
    from rich.console import Console

    class WholeDrawingConsole(Console):
        # rich draws within `with console`.

        def __enter__(self) -> Console:
            defer_interrupts()
            return super().__enter__()

        def __exit__(
            self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
        ) -> None:
            try:
                super().__exit__(kind, error, traceback)
            finally:
                raise_deferred_interrupt()

    return WholeDrawingConsole(stderr=True)
