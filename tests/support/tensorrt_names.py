"""Finds what our code uses of TensorRT's bindings by static analysis: attributes, calls, probes, subclasses.

Types flow from `library.module` through assignments, parameters and results of our functions, with the types of
results and properties from the bindings' own docstrings. So each use is attributed to a class, whatever the variable is
called: `builder.create_network` is `Builder.create_network`.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

MODULE = "module"
MEMBERS = "members of "
CLASS = "class "


class Touch(NamedTuple):
    """A member of a class (or of the module) at a line; `probed` if its absence is handled."""

    owner: str
    member: str
    probed: bool
    place: str


@dataclass
class Findings:
    """The uses in some files for one version."""

    touches: set[Touch] = field(default_factory=set)
    misfits: set[str] = field(default_factory=set)
    """Calls, assignments and overrides that the docstrings don't allow."""
    resolved: set[int] = field(default_factory=set)
    """The attribute nodes of the code whose owner is known to be TensorRT's."""


def findings_in(trees: Mapping[str, ast.Module], classes: Mapping[str, Any]) -> Findings:
    """Read parsed files, by name, against the classes of `stub_bindings.describe`."""
    reader = _Reader(trees, classes)
    for _ in range(6):  # until types have gone through every function
        before = reader.known()
        reader.findings = Findings()
        for name, tree in trees.items():
            reader.file = name
            reader.block(tree.body, {})
        if reader.known() == before:
            return reader.findings
    raise AssertionError("types still change")


def parsed(paths: Sequence[Path]) -> dict[str, ast.Module]:
    """Files by name, as trees."""
    return {path.name: ast.parse(path.read_text()) for path in paths}


class _Reader:
    def __init__(self, trees: Mapping[str, ast.Module], classes: Mapping[str, Any]) -> None:
        self.classes = classes
        self.file = ""
        self.findings = Findings()
        self.functions = {
            node.name: node
            for tree in trees.values()
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("__")
        }
        self.parameters: dict[tuple[str, str], str] = {}
        self.returns: dict[str, str] = {}
        self.attributes: dict[str, str] = {}

    def known(self) -> tuple[Any, ...]:
        return dict(self.parameters), dict(self.returns), dict(self.attributes)

    # Statements

    def block(self, body: Sequence[ast.stmt], scope: dict[str, str]) -> None:
        for node in body:
            self.statement(node, scope)

    def statement(self, node: ast.stmt, scope: dict[str, str]) -> None:
        if isinstance(node, ast.FunctionDef):
            self.function(node, scope)
        elif isinstance(node, ast.ClassDef):
            self.klass(node, scope)
        elif isinstance(node, ast.Assign):
            self.assign(node, scope)
        elif isinstance(node, ast.AnnAssign):
            if node.value is not None:
                self.bind(node.target, self.type(node.value, scope), scope)
        elif isinstance(node, ast.Return) and node.value is not None:
            kind = self.type(node.value, scope)
            if kind and "()" in scope:
                self.returns[scope["()"]] = kind
        else:
            for child in ast.iter_child_nodes(node):
                if isinstance(child, ast.stmt):
                    self.statement(child, scope)
                elif isinstance(child, ast.expr):
                    self.type(child, scope)
                else:
                    for inner in ast.walk(child):
                        if isinstance(inner, ast.stmt):
                            self.statement(inner, scope)
                        elif isinstance(inner, ast.withitem):
                            self.type(inner.context_expr, scope)

    def function(self, node: ast.FunctionDef, scope: Mapping[str, str]) -> None:
        inner = {**scope, "()": node.name}
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            if argument.arg != "self":
                inner[argument.arg] = self.parameters.get((node.name, argument.arg), "")
        self.block(node.body, inner)

    def klass(self, node: ast.ClassDef, scope: dict[str, str]) -> None:
        bases = [self.type(base, scope) for base in node.bases]
        owner = next((base[len(CLASS) :] for base in bases if base.startswith(CLASS)), "")
        for child in node.body:
            if isinstance(child, ast.FunctionDef):
                if owner and not child.name.startswith("_"):
                    self.override(owner, child)
                self.function(child, {**scope, "self": f"{self.file} {node.name}"})
        if owner:
            scope[node.name] = CLASS + owner

    def override(self, owner: str, node: ast.FunctionDef) -> None:
        self.touch(owner, node.name, node)
        for overload in self.methods(owner, node.name)[:1]:
            if len(overload["parameters"]) != len(node.args.args) - 1:
                self.misfit(node, f"{owner}.{node.name} overridden with other parameters")

    def assign(self, node: ast.Assign, scope: dict[str, str]) -> None:
        for target in node.targets:
            if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for elt, value in zip(target.elts, node.value.elts, strict=True):
                    self.bind(elt, self.type(value, scope), scope)
            else:
                self.bind(target, self.type(node.value, scope), scope)

    def bind(self, target: ast.expr, kind: str, scope: dict[str, str]) -> None:
        if isinstance(target, ast.Name):
            scope[target.id] = kind
        elif isinstance(target, ast.Attribute):
            owner = self.type(target.value, scope)
            if owner in self.classes:
                self.findings.resolved.add(id(target))
                self.touch(owner, target.attr, target)
                self.settable(owner, target, kind)
            elif kind:
                self.attributes[self.own(target, scope)] = kind

    def settable(self, owner: str, target: ast.Attribute, kind: str) -> None:
        known = self.classes[owner]["properties"].get(target.attr)
        if known is None:
            if target.attr in self.classes[owner]["members"]:
                self.misfit(target, f"{owner}.{target.attr} is no property")
        elif not known["settable"]:
            self.misfit(target, f"{owner}.{target.attr} can't be set")
        elif kind in self.classes and known["type"] in self.classes and kind != known["type"]:
            self.misfit(target, f"{owner}.{target.attr} takes {known['type']}, not {kind}")

    # Expressions

    def type(self, node: ast.expr, scope: dict[str, str]) -> str:
        """The type of an expression, where it is TensorRT's; else empty. Everything inside is looked at."""
        if isinstance(node, ast.Name):
            return scope.get(node.id, "") if node.id != "self" else ""
        if isinstance(node, ast.Attribute):
            return self.attribute(node, scope)
        if isinstance(node, ast.Call):
            return self.call(node, scope)
        if isinstance(node, ast.Subscript):
            kind = self.type(node.value, scope)
            self.type(node.slice, scope)
            return kind[len(MEMBERS) :] if kind.startswith(MEMBERS) else ""
        if isinstance(node, ast.IfExp):
            self.type(node.test, scope)
            kinds = [self.type(node.body, scope), self.type(node.orelse, scope)]
            return next(filter(None, kinds), "")
        if isinstance(node, ast.Lambda):
            self.type(node.body, dict(scope))
            return ""
        if isinstance(node, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            inner = dict(scope)
            for generator in node.generators:
                self.type(generator.iter, inner)
                for condition in generator.ifs:
                    self.type(condition, inner)
            values = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            for value in values:
                self.type(value, inner)
            return ""
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                self.type(child, scope)
        return ""

    def attribute(self, node: ast.Attribute, scope: dict[str, str]) -> str:
        owner = self.type(node.value, scope)
        if node.attr == "module" and not owner:
            return MODULE
        if owner == MODULE:
            self.findings.resolved.add(id(node))
            if not node.attr.startswith("__"):
                self.touch(MODULE, node.attr, node)
            return CLASS + node.attr if node.attr in self.classes else ""
        plain = owner[len(CLASS) :] if owner.startswith(CLASS) else owner
        if plain in self.classes:
            self.findings.resolved.add(id(node))
            if node.attr == "__members__":
                return MEMBERS + plain
            if node.attr == "__init__":
                return ""
            self.touch(plain, node.attr, node)
            if owner.startswith(CLASS):
                return plain if node.attr in self.classes[plain].get("enum", ()) else ""
            result = self.classes[plain]["properties"].get(node.attr, {}).get("type", "")
            return result if result in self.classes else ""
        return self.attributes.get(self.own(node, scope), "") if not owner else ""

    def own(self, node: ast.Attribute, scope: Mapping[str, str]) -> str:
        """An attribute of our own: of the class around where it is self's, else of any."""
        is_self = isinstance(node.value, ast.Name) and node.value.id == "self"
        return f"{scope.get('self', '') if is_self else ''}.{node.attr}"

    def call(self, node: ast.Call, scope: dict[str, str]) -> str:
        given = [self.type(argument, scope) for argument in node.args]
        named = {keyword.arg: self.type(keyword.value, scope) for keyword in node.keywords}
        function = node.func
        if isinstance(function, ast.Name) and function.id in ("hasattr", "getattr"):
            return self.probe(node, given)
        if isinstance(function, ast.Attribute):
            owner = self.type(function.value, scope)
            if owner in self.classes or owner == MODULE:
                attribute = self.attribute(function, scope)
                if attribute.startswith(CLASS):
                    self.fits(node, attribute[len(CLASS) :], "__init__", given)
                    return attribute[len(CLASS) :]
                return self.fits(node, owner, function.attr, given)
            self.type(function, scope)
            return self.ours(function.attr, given, named, method=True)
        if isinstance(function, ast.Name):
            kind = scope.get(function.id, "")
            if kind.startswith(CLASS):
                return kind[len(CLASS) :]
            return self.ours(function.id, given, named, method=False)
        self.type(function, scope)
        return ""

    def probe(self, node: ast.Call, given: Sequence[str]) -> str:
        owner = given[0][len(CLASS) :] if given[0].startswith(CLASS) else given[0]
        if owner not in self.classes and owner != MODULE:
            return ""
        harmless = node.func.id == "hasattr" or len(node.args) == 3  # type: ignore[attr-defined]
        name = node.args[1]
        if isinstance(name, ast.Constant):
            self.touch(owner, str(name.value), node, probed=harmless)
        elif isinstance(name, ast.JoinedStr) and isinstance(name.values[0], ast.Constant):
            start = str(name.values[0].value)
            for member in filter(lambda member: member.startswith(start), self.classes[owner]["members"]):
                self.touch(owner, member, node, probed=harmless)
        return owner if given[0].startswith(CLASS) and "enum" in self.classes[owner] else ""

    def ours(self, name: str, given: Sequence[str], named: Mapping[str | None, str], *, method: bool) -> str:
        node = self.functions.get(name)
        if node is None:
            return ""
        names = [argument.arg for argument in node.args.args]
        if method and names[:1] == ["self"]:
            names = names[1:]
        for parameter, kind in [*zip(names, given, strict=False), *named.items()]:
            if kind and parameter is not None:
                self.parameters[name, parameter] = kind
        return self.returns.get(name, "")

    # What is wrong

    def touch(self, owner: str, member: str, node: ast.AST, *, probed: bool = False) -> None:
        self.findings.touches.add(Touch(owner, member, probed, f"{self.file}:{getattr(node, 'lineno', 0)}"))

    def misfit(self, node: ast.AST, text: str) -> None:
        self.findings.misfits.add(f"{self.file}:{getattr(node, 'lineno', 0)}: {text}")

    def methods(self, owner: str, name: str) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = self.classes.get(owner, {}).get("methods", {}).get(name, [])
        return calls

    def fits(self, node: ast.Call, owner: str, name: str, given: Sequence[str]) -> str:
        overloads = self.methods(owner, name)
        if not overloads:
            return ""
        for overload in overloads:
            if self.takes(node, overload["parameters"], given):
                returns: str = overload["returns"]
                return returns if returns in self.classes else self.renamed(returns)
        self.misfit(node, f"{owner}.{name} does not take these arguments: {ast.unparse(node)}")
        return ""

    def renamed(self, kind: str) -> str:
        """A class that docstrings name by its C++ name: "IParserError" for ParserError."""
        return kind[1:] if kind[:1] == "I" and kind[1:] in self.classes else ""

    def takes(self, node: ast.Call, parameters: Sequence[Sequence[Any]], given: Sequence[str]) -> bool:
        if any(isinstance(argument, ast.Starred) for argument in node.args):
            return len(node.args) <= len(parameters)
        names = [keyword.arg for keyword in node.keywords]
        if len(node.args) > len(parameters) or not set(names) <= {name for name, _, _ in parameters}:
            return False
        rest = parameters[len(node.args) :]
        if any(not has_default and name not in names for name, _, has_default in rest):
            return False
        return all(
            self.agrees(argument, kind, wanted)
            for argument, kind, (_, wanted, _) in zip(node.args, given, parameters, strict=False)
        )

    def agrees(self, argument: ast.expr, kind: str, wanted: str) -> bool:
        if kind in self.classes and wanted in self.classes:
            return kind == wanted
        if isinstance(argument, ast.Constant) and argument.value is not None:
            words = {str: ("str",), int: ("int", "SupportsInt", "SupportsIndex"), bool: ("bool",)}
            allowed = words.get(type(argument.value))
            return allowed is None or wanted in allowed
        return True
