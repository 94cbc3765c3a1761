"""The Typer application: its commands get expanded paths, and --help groups their options."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand

from trtpoets.core.paths import user_path

_Function = TypeVar("_Function", bound=Callable[..., Any])


class SectionedCommand(TyperCommand):
    """A command whose plain-text help groups the options by their `rich_help_panel`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, the options without a section, and then each section."""
        sections: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                general = "Arguments" if parameter.param_type_name == "argument" else "Options"
                title = getattr(parameter, "rich_help_panel", None) or general
                sections.setdefault(title, []).append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Application(typer.Typer):
    """A Typer application that expands `~` in every path, because shells leave `--engines=~/runs` unexpanded."""

    def command(self, *args: Any, **options: Any) -> Callable[[_Function], _Function]:
        """Register a command as `typer.Typer.command` does; the function receives expanded paths."""
        register = super().command(*args, cls=SectionedCommand, **options)

        def add(function: _Function) -> _Function:
            @wraps(function)
            def with_expanded_paths(**arguments: Any) -> Any:
                return function(**{name: _expanded(value) for name, value in arguments.items()})

            register(with_expanded_paths)
            return function

        return add


def _expanded(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_expanded(item) for item in value]
    return user_path(value) if isinstance(value, Path) else value
