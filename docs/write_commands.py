"""Writes docs/reference/commands: one page per command, from the CLI's definitions, the docstrings and the guides.

    python docs/write_commands.py

`tests/test_docs.py` fails if the pages are out of date.
"""

from __future__ import annotations

import inspect
import re
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args, get_origin

import trtpoets

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
PAGES = HERE / "reference" / "commands"
EXAMPLES = (HERE.parent / "README.md", *sorted((HERE / "guides").glob("*.md")))
"""The documents whose shell blocks are the examples of the pages."""

_KINDS = {int: "number", float: "number", Path: "path", str: "text"}


def pages() -> dict[str, str]:
    """The text of each page by file name; README.md is the index."""
    from trtpoets.cli.main import app

    callbacks = [info.callback for info in app.registered_commands if info.callback]
    written = {f"{callback.__name__}.md": _page(callback) for callback in callbacks}
    lines = [f"| [`{callback.__name__}`]({callback.__name__}.md) | {_summary(callback)} |" for callback in callbacks]
    index = (
        "# Commands\n\nLook here for the options of a command and its function in Python. The commands are in the "
        "order in which\nthey are usually needed. `trtpoets COMMAND --help` prints the same options.\n\n"
    )
    written["README.md"] = f"{index}| command | what it does |\n|---|---|\n" + "\n".join(lines) + "\n"
    return written


def _page(callback: Callable[..., Any]) -> str:
    name = callback.__name__
    rows, usage = [], [f"trtpoets {name}"]
    for parameter in inspect.signature(callback, eval_str=True).parameters.values():
        spelling, kind, text, default = _parameter(parameter)
        argument = not spelling.startswith("-")
        if argument:
            usage.append(spelling if parameter.default is parameter.empty else f"[{spelling}]")
        rows.append(f"| `{spelling}` | {kind} | {text} | {default} |")
    options = "| argument or option | takes | what it is | default |\n|---|---|---|---|\n" + "\n".join(rows)
    twin = getattr(trtpoets, name)
    parts = [
        f"# trtpoets {name}\n\n{_text(callback)}",
        f"```\n{' '.join(usage)} [OPTIONS]\n```\n\n{options}",
        f"## In Python\n\n```\ntrtpoets.{name}{_signature(twin)}\n```\n\n{_text(twin)}",
    ]
    examples = _examples(name)
    if examples:
        parts.append("## Examples\n\n" + "\n\n".join(examples))
    return "\n\n".join(parts) + "\n"


def _summary(callback: Callable[..., Any]) -> str:
    return (inspect.getdoc(callback) or "").splitlines()[0]


def _parameter(parameter: inspect.Parameter) -> tuple[str, str, str, str]:
    """The cells of a parameter's row in the table: spelling, type, description, default."""
    assert get_origin(parameter.annotation) is Annotated, f"{parameter.name} has no description"
    kind, info = get_args(parameter.annotation)
    required = parameter.default is parameter.empty
    name = parameter.name
    if type(info).__name__ == "ArgumentInfo":
        spelling = name.upper()
    else:
        # Until Typer processes the Annotated, the first argument of Option(...) is in `default`.
        declared = [text for text in (info.default, *(info.param_decls or ())) if str(text).startswith("--")]
        spelling = declared[0].replace("/", " / ") if declared else f"--{name.replace('_', '-')}"
    text, repeatable = _kind(kind)
    what = (info.help or "").replace("|", "\\|")
    default = "required" if required else _spelled(parameter.default)
    return spelling, f"{text}, repeatable" if repeatable else text, what, default


def _kind(kind: Any) -> tuple[str, bool]:
    """The name of a parameter's type, and whether the parameter is repeatable."""
    inner = [argument for argument in get_args(kind) if argument is not type(None)]
    if get_origin(kind) is list:
        return _kind(inner[0])[0], True
    if inner:
        return _kind(inner[0])
    if isinstance(kind, type) and issubclass(kind, Enum):
        return ", ".join(f"`{member.value}`" for member in kind), False
    return "" if kind is bool else _KINDS[kind], False


def _spelled(default: Any) -> str:
    if default is None or default is False or default == "":
        return ""
    return "on" if default is True else f"`{default.value if isinstance(default, Enum) else default}`"


def _text(function: Callable[..., Any]) -> str:
    """A docstring as Markdown: without escaping, <name> would be a tag."""
    return (inspect.getdoc(function) or "").replace("<", "\\<")


def _signature(function: Callable[..., Any]) -> str:
    """The parameters and their defaults, without types: the docstring describes them."""
    spelled, keywords = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not keywords:
            keywords = True
            spelled.append("*")
        if parameter.name == "progress":  # only for programs with their own progress bars
            continue
        if parameter.default is parameter.empty:
            spelled.append(parameter.name)
        else:
            spelled.append(f"{parameter.name}={_value(parameter.default)}")
    return f"({', '.join(spelled)})"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Enum):
        return repr(value.value)
    return repr(str(value) if isinstance(value, Path) else value)


def _examples(command: str) -> list[str]:
    """The lines of shell blocks that use a command, grouped by what they need."""
    lines_by_need: dict[str, list[str]] = {}
    for document in EXAMPLES:
        for mark, text in re.findall(r"(?:<!-- ([^\n]*) -->\n)?```bash\n(.*?)```", document.read_text(), re.DOTALL):
            need = mark.partition(":")[2].strip() if mark.startswith("needs") else ""
            lines = [line for line in text.splitlines() if re.match(rf"(?!docker).*\btrtpoets {command}\b", line)]
            lines_by_need.setdefault(need, []).extend(lines)
    return [
        (f"Needs {need}:\n\n" if need else "") + "```bash\n" + "\n".join(dict.fromkeys(lines)) + "\n```"
        for need, lines in lines_by_need.items()
        if lines
    ]


def main() -> None:
    """Writes the pages, and deletes those of commands that no longer exist."""
    written = pages()
    for old in PAGES.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (PAGES / name).write_text(text)


if __name__ == "__main__":
    main()
