"""The shape of the code: packages in order, doors, one idea a file, and no trace of the machine it was written on."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

import caveat

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "caveat"
SOURCES = sorted(PACKAGE.rglob("*.py"))
LARGEST = 400

# Written in pieces, so that this file does not find itself.
MACHINE_TEXT = re.compile("|".join((
    r"(?<![\w.])/" + r"(?:work|root|home|Users)/\w",
    r"/opt/" + r"(?:pypi|wheels)",
    r"py" + r"pi\.org",
    r"python" + r"hosted\.org",
    r"registry\.npm" + r"js",
)))  # fmt: skip
BINARY = {".png", ".gif", ".gz", ".pt", ".npz", ".safetensors", ".ico", ".woff2"}

SPEAK_PLAINLY = ("losses", "measures")
"""The packages whose functions are verbs or noun phrases already. It grows."""
IRREGULAR = re.compile(
    "begun|bent|bound|broken|brought|built|chosen|done|drawn|forgotten|found|given|gone|grown|held|hidden|hung|kept|known"
    "|laid|led|left|lost|made|meant|met|paid|said|seen|sent|shown|sought|spent|stood|taken|thought|told|understood|written"
)
ADJECTIVES = {"attenuated", "bounded", "expected", "weighted"}
"""Participles that are the field's adjectives, where a noun follows: `expected_entropy`."""
NOT_PARTICIPLES = {"bed", "embed", "feed", "need", "seed", "shed", "speed"}


MAY_BE_INHERITED = {"FunctionMode", "DispatchMode", "_BatchNorms", "Judged"}
"""torch's modes as caveat has them, and two abstract classes; it does not grow. Else what is shared is a function."""
OF_SCIKIT_LEARN = ("_estimators", "tabular", "text", "image")


class Import(NamedTuple):
    """One name that a module of caveat imports from another, wherever in the file that stands."""

    module: str
    source: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}: from {self.source} import {self.name}"


def foreign_names(path: Path) -> set[str]:
    """The names that a file has from other libraries."""
    imports = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {a.asname or a.name for one in imports if not (one.module or "").startswith("caveat") for a in one.names}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}
PACKAGES = frozenset(name for name, path in MODULES.items() if path.name == "__init__.py")


@cache
def parse(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text())


def executed_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only a type checker reads."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            continue
        yield node
        yield from executed_nodes(node)


def imports_of(module: str, nodes: Iterator[ast.AST]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "caveat":
            yield from (Import(module, node.module or "", alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (Import(module, a.name, "") for a in node.names if a.name.split(".")[0] == "caveat")


@cache
def names_offered(module: str) -> frozenset[str]:
    """The names that other packages may import: `__all__`, or what a module at the root defines and does not hide."""
    if module in PACKAGES:
        return frozenset(import_module(module).__all__)
    defined = [getattr(node, "name", "") for node in parse(module).body]
    targets = [ast.walk(node) for node in parse(module).body if isinstance(node, ast.Assign | ast.AnnAssign)]
    defined += [name.id for nodes in targets for name in nodes if isinstance(name, ast.Name)]
    return frozenset(name for name in defined if not name.startswith("_"))


def home_of(module: str) -> str:
    """The package, or the module beside the packages, that stands at the root: `caveat.metrics`."""
    return ".".join(module.split(".")[:2])


def imported_module(found: Import) -> str:
    inner = f"{found.source}.{found.name}"
    return inner if inner in MODULES else found.source


def circle(edges: Iterator[tuple[str, str]]) -> list[str]:
    """Returns the nodes of one circle, or none."""
    below: dict[str, set[str]] = {}
    for above, target in edges:
        below.setdefault(above, set()).add(target)
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def first_word_is_a_participle(function: str) -> bool:
    first, _, rest = function.strip("_").partition("_")
    participle = IRREGULAR.fullmatch(first) is not None or (first.endswith("ed") and first not in NOT_PARTICIPLES)
    return participle and not (first in ADJECTIVES and rest)


def functions_of(module: str) -> Iterator[str]:
    """The names of functions and methods, but not of properties, which are nouns or adjectives."""
    for node in ast.walk(parse(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(decorator).split(".")[-1] for decorator in node.decorator_list}
            if decorators.isdisjoint({"property", "cached_property"}):
                yield node.name


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def written_by_tools(path: Path) -> bool:
    """Whether a path lies in a folder that tools write, as .gitignore lists them."""
    hidden = path.parts[0].startswith(".") and path.parts[0] not in {".ci", ".gitignore"}
    return hidden or not {"build", "dist", "site", "__pycache__"}.isdisjoint(path.parts)


def files_of_the_repository() -> list[Path]:
    """What git tracks or would track; all files when this is not a clone (an unpacked sdist)."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        run = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True)
        paths = [ROOT / name for name in run.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        paths = [path for path in ROOT.rglob("*") if not written_by_tools(path.relative_to(ROOT))]
    return sorted(path for path in paths if path.is_file() and path.suffix not in BINARY)


def test_packages_import_only_downwards() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_every_module_is_private() -> None:
    inside = [path for path in SOURCES if path.name != "__init__.py" and path != PACKAGE / "errors.py"]
    assert not [str(path.relative_to(PACKAGE)) for path in inside if not path.name.startswith("_")]


def test_what_stands_at_the_root_and_is_public_is_known_to_editors() -> None:
    public = {path.stem for path in PACKAGE.iterdir() if path.name[0] not in "_." and path.name != "py.typed"}
    assert public == {name for name in dir(caveat) if not name.startswith("_")} - set(caveat.__all__)


def test_packages_import_only_public_names_of_each_other() -> None:
    """From a package what is in its `__all__`; from a module at the root, what does not begin with `_`."""
    found = [edge for module in MODULES for edge in imports_of(module, ast.walk(parse(module)))]
    between = [edge for edge in found if "caveat" not in {home_of(edge.module), edge.source}]
    between = [edge for edge in between if home_of(edge.module) != home_of(edge.source)]
    assert not [edge for edge in between if edge.source != home_of(edge.source)]
    assert not [edge for edge in between if edge.name not in names_offered(edge.source)]


def test_the_tree_of_the_architecture_names_all_that_stands_at_the_root() -> None:
    tree = (ROOT / "ARCHITECTURE.md").read_text().partition("src/caveat/\n")[2].partition("```")[0]
    names = [name for line in tree.splitlines() for name in re.split(" {3,}", line.strip())[0].split()]
    named = {name.removesuffix("/").removesuffix(".py") for name in names}
    homes = {home_of(module).removeprefix("caveat.") for module in MODULES if module != "caveat"}
    assert named == homes


def test_no_function_hides_a_module() -> None:
    hidden = [
        found
        for package in PACKAGES
        for found in imports_of(package, ast.walk(parse(package)))
        if f"{package}.{found.name}" in MODULES and found.source != package
    ]
    assert not hidden


def test_no_modules_import_each_other_in_a_circle() -> None:
    found = [edge for module in MODULES for edge in imports_of(module, executed_nodes(parse(module)))]
    assert not circle((edge.module, imported_module(edge)) for edge in found if edge.module != "caveat")


def test_no_packages_import_each_other_in_a_circle() -> None:
    """Here a type checker's imports count too."""
    found = [edge for module in MODULES for edge in imports_of(module, ast.walk(parse(module)))]
    edges = [(home_of(edge.module), home_of(imported_module(edge))) for edge in found]
    assert not circle((above, below) for above, below in edges if above != below and "caveat" not in {above, below})


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_is_too_long(path: Path) -> None:
    assert lines_of(path) <= LARGEST


def test_a_file_is_named_after_its_idea() -> None:
    vague = {"utils", "util", "helpers", "common", "misc"}
    assert not [path for path in SOURCES if path.stem.strip("_") in vague]


def test_every_module_says_its_idea_first() -> None:
    bare = [module for module in MODULES if not ast.get_docstring(parse(module))]
    assert not bare


def test_no_class_inherits_the_behavior_of_another() -> None:
    trees = [(path, ast.parse(path.read_text())) for path in SOURCES]
    classes = [(path, node) for path, tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    own = {node.name for _, node in classes if not node.name.endswith(("Error", "Warning"))} - MAY_BE_INHERITED
    heirs = [
        f"{path.relative_to(PACKAGE)}: {node.name}({base.id})"
        for path, node in classes
        for base in node.bases
        if isinstance(base, ast.Name) and base.id in own and base.id not in foreign_names(path)
        and path.relative_to(PACKAGE).parts[0] not in OF_SCIKIT_LEARN
    ]
    assert not heirs


@pytest.mark.parametrize("package", SPEAK_PLAINLY)
def test_no_function_is_named_by_a_participle(package: str) -> None:
    modules = [module for module in MODULES if home_of(module) == f"caveat.{package}"]
    assert modules
    named = [f"{module}.{name}" for module in modules for name in functions_of(module)]
    assert not [name for name in named if first_word_is_a_participle(name.rpartition(".")[2])]


def test_the_repository_names_no_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files_of_the_repository()
        if (match := MACHINE_TEXT.search(path.read_text(errors="replace")))
    ]
    assert not found
