"""Write docs/commands: a page per command, from the program's own definitions, the package's docstrings and the README.

    python docs/write_commands.py

`tests/test_docs.py` fails where the pages are not what this would write.
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
PAGES = HERE / "commands"
README = HERE.parent / "README.md"

_KINDS = {int: "number", float: "number", Path: "path", str: "text"}


def pages() -> dict[str, str]:
    """The text of every page, by file name; README.md is their index."""
    from trtpoets.cli.main import app

    callbacks = [info.callback for info in app.registered_commands if info.callback]
    found = {f"{callback.__name__}.md": _page(callback) for callback in callbacks}
    lines = [f"| [`{each.__name__}`]({each.__name__}.md) | {_summary(each)} |" for each in callbacks]
    index = "# Commands\n\nIn the order in which they are needed; `trtpoets COMMAND --help` says the same.\n\n"
    found["README.md"] = f"{index}| command | what it does |\n|---|---|\n" + "\n".join(lines) + "\n"
    return found


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
        parts.append("## In the README\n\n" + "\n\n".join(examples))
    return "\n\n".join(parts) + "\n"


def _summary(callback: Callable[..., Any]) -> str:
    return (inspect.getdoc(callback) or "").splitlines()[0]


def _parameter(parameter: inspect.Parameter) -> tuple[str, str, str, str]:
    """How it is spelled, what it takes, what it is, and its default, for a row of the table."""
    assert get_origin(parameter.annotation) is Annotated, f"{parameter.name} does not say what it is"
    kind, info = get_args(parameter.annotation)
    required = parameter.default is parameter.empty
    name = parameter.name
    if type(info).__name__ == "ArgumentInfo":
        spelling = name.upper()
    else:
        # Typer takes the first word of Option(...) for a default until it meets the Annotated around it.
        declared = [each for each in (info.default, *(info.param_decls or ())) if str(each).startswith("--")]
        spelling = declared[0].replace("/", " / ") if declared else f"--{name.replace('_', '-')}"
    text, repeatable = _kind(kind)
    what = (info.help or "").replace("|", "\\|")
    default = "required" if required else _spelled(parameter.default)
    return spelling, f"{text}, repeatable" if repeatable else text, what, default


def _kind(kind: Any) -> tuple[str, bool]:
    """What a value of this type is called, and whether there may be several."""
    inner = [each for each in get_args(kind) if each is not type(None)]
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
    """A docstring as Markdown, in which <name> would be a tag."""
    return (inspect.getdoc(function) or "").replace("<", "\\<")


def _signature(function: Callable[..., Any]) -> str:
    """The parameters and their defaults, without types: the docstring says what they are."""
    spelled, keywords = [], False
    for each in inspect.signature(function).parameters.values():
        if each.kind is each.KEYWORD_ONLY and not keywords:
            keywords = True
            spelled.append("*")
        if each.name == "progress":  # for programs with bars of their own; says nothing about the work
            continue
        if each.default is each.empty:
            spelled.append(each.name)
        else:
            spelled.append(f"{each.name}={_value(each.default)}")
    return f"({', '.join(spelled)})"


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_value, value))}{',' if len(value) == 1 else ''})"
    if isinstance(value, Enum):
        return repr(value.value)
    return repr(str(value) if isinstance(value, Path) else value)


def _examples(command: str) -> list[str]:
    """The README's shell blocks that use a command, with the mark that says what they need."""
    blocks = re.findall(r"(?:<!-- ([^\n]*) -->\n)?```bash\n(.*?)```", README.read_text(), re.DOTALL)
    found: dict[str, list[str]] = {}
    for mark, text in blocks:
        need = mark.partition(":")[2].strip() if mark.startswith("needs") else ""
        lines = [line for line in text.splitlines() if re.search(rf"\btrtpoets {command}\b", line)]
        found.setdefault(need, []).extend(lines)
    return [
        (f"Needs {need}:\n\n" if need else "") + "```bash\n" + "\n".join(dict.fromkeys(lines)) + "\n```"
        for need, lines in found.items()
        if lines
    ]


def main() -> None:
    """Write the pages, and delete those of commands that are gone."""
    found = pages()
    for old in PAGES.glob("*.md"):
        if old.name not in found:
            old.unlink()
    for name, text in found.items():
        (PAGES / name).write_text(text)


if __name__ == "__main__":
    main()
