"""The structure of the package: import directions, fast imports, Python 3.8 syntax in the device runtime."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path

import pytest

from tests.support.sources import nodes_of, tree_of

PACKAGE = Path(__file__).parent.parent / "trtpoets"

MAY_IMPORT = {
    "core": set(),
    "train": {"core"},
    "convert": {"core"},
    "device": {"core"},
    "judge": {"core", "device"},
    "adoption": {"core", "convert", "device", "judge"},
    "reporting": {"core", "judge", "bundles"},
    "bundles": {"core", "judge"},
    "onboard": {"core", "device", "judge"},
    "pipeline": {"core", "train", "convert", "device", "judge", "adoption", "reporting", "bundles"},
    "cli": {"core", "device", "judge", "reporting", "pipeline"},
    "__main__": {"core", "cli"},
    "__init__": {"core", "device", "pipeline"},
}

DEVICE_RUNTIME = ("core", "device", "judge", "onboard")

HEAVY = [
    *("tensorflow", "keras", "tf2onnx", "onnx", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "cuda", "PIL"),
    *("matplotlib", "safetensors", "rich", "elpv_dataset", "sympy", "tensorboard", "mlperf_loadgen", "pynvml"),
    *("ai_edge_litert", "flatbuffers", "imagehash", "scipy", "threadpoolctl"),
]

MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "templates" not in path.parts)


def part_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_parts(path: Path) -> set[str]:
    result = set()
    for node in nodes_of(path):
        names = []
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [
                f"{node.module}.{alias.name}" if node.module == "trtpoets" else node.module or ""
                for alias in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        result |= {name.split(".")[1] for name in names if name.startswith("trtpoets.")}
    return result


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    part = part_of(path)
    beyond = imported_parts(path) - MAY_IMPORT[part] - {part, "__version__"}
    assert not beyond, f"{name_of(path)} is in {part} and imports {sorted(beyond)}"


def test_every_folder_has_its_rule() -> None:
    assert {part_of(path) for path in MODULES} == set(MAY_IMPORT)


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_modules_are_one_thing(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 500, f"{name_of(path)} may have more than one purpose"
    assert ast.get_docstring(tree_of(path)), f"{name_of(path)} does not say what it is"


def test_a_class_name_has_one_meaning() -> None:
    """In the templates of bundles too."""
    names = Counter(
        node.name for path in PACKAGE.rglob("*.py") for node in tree_of(path).body if isinstance(node, ast.ClassDef)
    )
    several = {name for name, count in names.items() if count > 1}
    assert several <= {"Layout", "Quantisation", "Source"}, "give the less public one another name"


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) in DEVICE_RUNTIME], ids=name_of)
def test_device_runtime_is_python_3_8(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 8))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            keywords = {keyword.arg for keyword in node.keywords}
            named = getattr(node.func, "id", "")
            assert not (named == "zip" and "strict" in keywords), f"{path}:{node.lineno}: zip(strict=) is Python 3.10"
            assert not (named == "dataclass" and keywords & {"slots", "kw_only"}), f"{path}:{node.lineno}"
        if isinstance(node, ast.Attribute):
            assert node.attr not in {"removeprefix", "removesuffix"}, f"{path}:{node.lineno}: Python 3.9"


ON_A_DEVICE = {"numpy", "PIL", "trtpoets", "__future__"}
"""What the device runtime imports without asking: beside Python's own, these are on every device."""


def guarded(tree: ast.AST) -> set[ast.AST]:
    """The imports inside `with needs(...)`, `if TYPE_CHECKING`, or `try` with `except ImportError`."""
    result: set[ast.AST] = set()
    for node in ast.walk(tree):
        words = ""
        if isinstance(node, (ast.With, ast.If)):
            words = " ".join(
                map(ast.unparse, [e.context_expr for e in node.items] if hasattr(node, "items") else [node.test])
            )
        elif isinstance(node, ast.Try):
            words = " ".join(ast.unparse(handler.type) for handler in node.handlers if handler.type)
        if re.search(r"needs\(|suppress\(ImportError|TYPE_CHECKING|ImportError", words):
            result |= {inner for part in node.body for inner in ast.walk(part)}  # type: ignore[attr-defined]
    return result


@pytest.mark.parametrize("path", [p for p in MODULES if part_of(p) in DEVICE_RUNTIME], ids=name_of)
def test_what_a_device_may_lack_is_imported_with_an_error_that_says_so(path: Path) -> None:
    """A bare import inside a function would end in a traceback, on a path that no test runs on a device."""
    tree = tree_of(path)
    safe = guarded(tree)
    for node in ast.walk(tree):
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        beyond = {name.split(".")[0] for name in names} - ON_A_DEVICE - sys.stdlib_module_names
        line = getattr(node, "lineno", 0)
        assert node in safe or not beyond or ALLOWED.get(name_of(path)) == beyond, f"{path}:{line}: {beyond}"


ALLOWED = {"trtpoets.core.optional": {"onnxruntime"}}
"""Its callers answer for it: `needs` is around each call."""


def without_heavy(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` in a Python where heavy packages can't be imported."""
    hook = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {HEAVY!r}:
            raise ImportError(f"{{name}} is refused here", name=name)
sys.meta_path.insert(0, Refuse())
"""
    return subprocess.run([sys.executable, "-c", hook + code], capture_output=True, text=True, check=False)


def test_importing_anything_imports_nothing_heavy() -> None:
    names = [name_of(path) for path in MODULES if path.name != "__main__.py"]
    result = without_heavy(f"import importlib\nfor name in {names!r}: importlib.import_module(name)")
    assert result.returncode == 0, result.stderr


COMMANDS = [
    *("demo", "run", "adopt", "retrain", "pretrained", "export", "quantize", "build", "evaluate", "bench", "report"),
    *("label", "models", "cache", "inspect", "trust", "doctor", "recommend", "tensorboard", "bundle", "sweep"),
    "bottlenecks",
    "race",
]


def test_help_of_every_command_without_the_extras() -> None:
    result = without_heavy(
        f"""
from typer.testing import CliRunner
from trtpoets.cli.main import app
for command in {COMMANDS!r}:
    result = CliRunner().invoke(app, [command, "--help"], env={{"COLUMNS": "80"}})
    assert result.exit_code == 0, (command, result.output)
    assert max(map(len, result.output.splitlines())) <= 80, command
"""
    )
    assert result.returncode == 0, result.stderr


def test_no_package_hides_a_public_function() -> None:
    """An import of `trtpoets.report.html` would replace the function `trtpoets.report` by the package of that name."""
    import trtpoets

    assert not {part_of(path) for path in MODULES} & set(trtpoets.__all__)


def test_commands_and_public_functions_are_twins() -> None:
    import trtpoets
    from trtpoets.cli.main import app

    commands = {info.callback.__name__ for info in app.registered_commands if info.callback}
    assert commands == set(COMMANDS)
    assert set(trtpoets.__all__) == commands | {"TrtPoetsError", "label_stream", "plan_build", "prune_cache"}
    for name in trtpoets.__all__:
        assert callable(getattr(trtpoets, name)), name
        assert getattr(trtpoets, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'sing'"):
        trtpoets.sing  # noqa: B018


def test_no_folder_of_tests_is_skipped(request: pytest.FixtureRequest) -> None:
    """By default pytest does not look into folders with the name build."""
    patterns = request.config.getini("norecursedirs")
    folders = {path.parent for path in Path(__file__).parent.rglob("test_*.py")}
    assert not [folder for folder in folders if any(fnmatch(folder.name, pattern) for pattern in patterns)]


def mirrored_test(path: Path) -> Path:
    """The test file of a module, relative to the repository: trtpoets/core/files.py has tests/core/test_files.py."""
    inside = path.relative_to(PACKAGE)
    return Path("tests") / inside.with_name(f"test_{inside.name}")


def test_every_module_has_its_test_at_the_mirrored_path() -> None:
    root = PACKAGE.parent
    lacking = {
        path.relative_to(PACKAGE).as_posix()
        for path in MODULES
        if path.name != "__init__.py" and not (root / mirrored_test(path)).is_file()
    }
    assert not lacking, f"add {mirrored_test(PACKAGE / min(lacking))}"
