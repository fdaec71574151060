"""Counts of the house, each beside its aim: `python scripts/house.py [--fit]`.

Doors, circles and names are read from the source; files and functions of a warm `predict` are counted by running one.
`--fit` also runs `caveat fit` on a small table and counts the way of its rows: a *stay* is each time that the main
thread enters another file of caveat while the command handles columns (between reading the table and saving the
model), a *return* is a stay in a file that it had left before; stays that follow each other in a loop over batches or
columns count once.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import importlib
import io
import pkgutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SOURCE = ROOT / "src" / "caveat"


def modules() -> dict[str, Path]:
    """The dotted name of every module."""
    found = dict[str, Path]()
    for path in sorted(SOURCE.rglob("*.py")):
        parts = path.relative_to(SOURCE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(module, name) of each `from caveat... import name` that runs when the module is loaded."""

    def walk(node: ast.AST) -> Iterator[tuple[str, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)):
                continue
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, ast.ImportFrom) and (child.module or "").split(".")[0] == "caveat":
                yield from ((str(child.module), alias.name) for alias in child.names)
            yield from walk(child)

    yield from walk(ast.parse(path.read_text()))


def package_of(module: str) -> str:
    """The package at the top that a module is in; the module itself where it lies at the root."""
    return ".".join(module.split(".")[:2])


def shadowed() -> list[str]:
    """Modules that a function of their own name hides in their package."""
    hidden = list[str]()
    for name in modules():
        parent, _, stem = name.rpartition(".")
        package = sys.modules.get(parent)
        if parent and package is not None and not isinstance(getattr(package, stem, package), ModuleType):
            hidden.append(name)
    return hidden


def through_the_wall() -> list[str]:
    """Imports from another package of what is not in its `__all__`."""
    taken = list[str]()
    for name, path in modules().items():
        for module, item in imports(path):
            home = package_of(module)
            if (
                module == "caveat"
                or home == package_of(name)
                or (SOURCE.parent / f"{home.replace('.', '/')}.py").exists()
            ):
                continue
            public: list[str] = getattr(importlib.import_module(home), "__all__", [])
            if module != home or item not in public:
                taken.append(f"{name}: {module}.{item}")
    return taken


def circles() -> list[set[str]]:
    """Groups of modules that load each other, by what runs when they are loaded."""
    known = modules()
    edges = {name: {target for target in _targets(name, path, known) if target != name} for name, path in known.items()}
    reach = dict[str, set[str]]()
    for name in edges:
        seen, todo = set[str](), list(edges[name])
        while todo:
            one = todo.pop()
            if one not in seen:
                seen.add(one)
                todo += edges[one]
        reach[name] = seen
    groups = {
        frozenset({name, *(other for other in reach[name] if name in reach[other])})
        for name in edges
        if name in reach[name]
    }
    return [set(group) for group in groups]


def _targets(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    for module, item in imports(path):
        within = f"{module}.{item}"
        if within in known:
            yield within
        elif module in known and not name.startswith(f"{module}."):  # a package is loaded before what is in it
            yield module


def public_names() -> set[str]:
    """The union of `__all__` of caveat and its public packages."""
    names = set[str]()
    for package in (
        "caveat",
        *(f"caveat.{one.name}" for one in pkgutil.iter_modules([str(SOURCE)]) if one.name[0] != "_"),
    ):
        names |= set(getattr(importlib.import_module(package), "__all__", []))
    return names


def crossed(call: Callable[[], Any], after: str = "", until: str = "") -> tuple[set[str], set[str], list[str]]:
    """Files, functions, and the order of files that a call enters, or a part of it.

    The part begins when the function named ``after`` returns, and ends when the one named ``until`` is called.
    """
    files, functions, order = set[str](), set[str](), list[str]()
    root, counting = str(SOURCE), not after

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal counting
        code = frame.f_code
        if not code.co_filename.startswith(root):
            return
        if (event, code.co_name) in {("return", after), ("call", until)}:
            counting = event == "return"
        if event != "call" or not counting:
            return
        name = code.co_filename[len(root) + 1 :]
        files.add(name)
        functions.add(f"{name}:{code.co_qualname}")
        if not order or order[-1] != name:
            order.append(name)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    return files, functions, order


def warm_predicts() -> dict[str, tuple[set[str], set[str]]]:
    """What a third `predict` enters: of MC dropout with 100 draws of a small network, of an ensemble of five."""
    import torch
    from torch import nn

    import caveat

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(8, 50), nn.ReLU(), nn.Dropout(0.1), nn.Linear(50, 1)).eval()

    x = torch.zeros(32, 8)
    samplers = {
        "MC dropout": caveat.mc_dropout(build(), output=caveat.Mean()),
        "ensemble": caveat.ensemble([build() for _ in range(5)], output=caveat.Mean()),
    }
    counts = dict[str, tuple[set[str], set[str]]]()
    for name, sampler in samplers.items():
        n = 100 if name == "MC dropout" else None
        for _ in range(2):
            caveat.predict(sampler, x, n)
        files, functions, _ = crossed(lambda sampler=sampler, n=n: caveat.predict(sampler, x, n))
        counts[name] = files, functions
    return counts


def way_of_a_row() -> tuple[int, int]:
    """Stays and returns of the rows of a table on their way through `caveat fit`."""
    from caveat.cli._cli import main

    rows = "\n".join(f"{i % 7},{'red' if i % 3 else 'blue'},{(i * 37) % 11}" for i in range(200))
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        table = Path(folder) / "rows.csv"
        table.write_text(f"size,color,price\n{rows}\n")
        command = ["caveat", "fit", str(table), "--target", "price", "--out", str(Path(folder) / "model")]
        argv, sys.argv = sys.argv, command
        try:
            *_, order = crossed(lambda: _quietly(main), after="read_sample", until="save_model")
        finally:
            sys.argv = argv
    way = [name for name in order if name.startswith(("tabular/", "_tables/", "_estimators/", "cli/"))]
    stays = _without_loops(way)
    return len(stays), len(stays) - len(set(stays))


def _quietly(command: Callable[[], Any]) -> None:
    with contextlib.suppress(SystemExit):
        command()


def _without_loops(order: list[str]) -> list[str]:
    """The order with each immediate repetition of a pattern of up to eight files taken once."""
    kept = list[str]()
    for name in order:
        kept.append(name)
        for length in range(1, 9):
            if len(kept) >= 2 * length and kept[-length:] == kept[-2 * length : -length]:
                del kept[-length:]
                break
    return kept


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description="Counts of the house, each beside its aim.")
    parser.add_argument("--fit", action="store_true", help="run `caveat fit` on a small table and count its rows' way")
    parser.add_argument("--list", action="store_true", help="name what is counted")
    asked = parser.parse_args()
    for package in ("caveat", *(f"caveat.{one.name}" for one in pkgutil.iter_modules([str(SOURCE)]))):
        importlib.import_module(package)
    lines = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    of_images = sum(count for name, count in lines.items() if name.startswith("caveat.image"))

    def tell(what: str, things: Any, aim: str) -> None:
        count = things if isinstance(things, int) else len(things)
        print(f"{what:58} {count:7,}   aim: {aim}")
        if asked.list and not isinstance(things, int):
            print("".join(f"    {thing}\n" for thing in sorted(map(str, things))), end="")

    tell("modules hidden by a function of their name", shadowed(), "0")
    tell("imports between packages outside __all__", through_the_wall(), "0")
    tell("circles of imports", circles(), "0")
    for name, (files, functions) in warm_predicts().items():
        tell(
            f"files that a warm predict of {name} enters", files, "at most 14" if name == "MC dropout" else "at most 6"
        )
        tell(f"functions that a warm predict of {name} enters", functions, "fewer")
    tell("public names", public_names(), "about 220")
    tell("lines of src without caveat.image", sum(lines.values()) - of_images, "at most 38,800")
    tell("lines of caveat.image", of_images, "about 600")
    if asked.fit:
        stays, returns = way_of_a_row()  # 82 and 58, counted so, in the last tree before the rebuilding: 4eaae14
        tell("stays of a row on its way through `caveat fit`", stays, "at most 41")
        tell("returns of a row on its way through `caveat fit`", returns, "at most 29")


if __name__ == "__main__":
    main()
