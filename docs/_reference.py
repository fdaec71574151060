"""mkdocs hook: a reference page for every room of the package, and the index of the public face.

A room appears here by existing. Its page shows the names in its ``__all__`` (or, for a single file without
one, what it defines); the index lists the names of ``caveat.__all__`` and links each to its room.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import caveat

UNSEEN = {"app"}  # a command line is documented by its --help


def public(module: ModuleType) -> list[str]:
    """The public names of a module: its ``__all__``, or what it defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == module.__name__]


def rooms() -> dict[str, ModuleType]:
    """Every room of the package by its name, in the alphabet's order."""
    names = [found.name for found in pkgutil.iter_modules(caveat.__path__) if not found.name.startswith("_")]
    return {name: importlib.import_module(f"caveat.{name}") for name in names if name not in UNSEEN}


def first_line(thing: Any) -> str:
    """The first line of a docstring, for a table cell."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("|", "\\|").replace("``", "`")


def path(name: str, label: str) -> str:
    """Where a room's name is found: many stand in a file of the same name, which is not what is meant."""
    room = f"caveat.{name}"
    if inspect.ismodule(sys.modules.get(f"{room}.{label}")):
        return f"{room}.{label}.{label}"
    return f"{room}.{label}"


def page(name: str, module: ModuleType) -> str:
    """A room's page: its docstring, then each public name."""
    parts = [f"# {name}", inspect.getdoc(module) or ""]
    return "\n\n".join(parts + [f"::: {path(name, label)}" for label in public(module)]) + "\n"


def home(thing: Any, label: str) -> str | None:
    """The room whose page documents a name of the public face."""
    for name, module in rooms().items():
        if label in public(module) and getattr(module, label) is thing:
            return path(name, label)
    return None


def index() -> str:
    """The table of the public face, in the order of ``caveat.__all__``."""
    rows = ["# Reference", "", "What `import caveat` gives, each name with a link to its room.", ""]
    rows += ["| name | |", "| --- | --- |"]
    for label in caveat.__all__:
        where = home(getattr(caveat, label), label)
        link = f"[`caveat.{label}`][{where}]" if where else f"`caveat.{label}`"
        rows.append(f"| {link} | {first_line(getattr(caveat, label))} |")
    return "\n".join(rows) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    entry = next(item for item in config.nav or [] if "Reference" in item)
    entry["Reference"] = ["reference/index.md", *(f"reference/{name}.md" for name in rooms())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Generate the pages."""
    files.append(File.generated(config, "reference/index.md", content=index()))
    for name, module in rooms().items():
        files.append(File.generated(config, f"reference/{name}.md", content=page(name, module)))
    return files
