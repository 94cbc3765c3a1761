"""The syntax trees of source files, which several tests examine."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


@functools.cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a Python file, parsed once. Tests must not change it."""
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree, in the order of `ast.walk`."""
    return tuple(ast.walk(tree_of(path)))
