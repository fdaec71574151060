"""mkdocs hook: a reference page for every public package, and the index of the public face.

A package appears here by existing. Its page shows the names in its ``__all__`` (or, for a single file without
one, what it defines); the index lists the names of ``caveat.__all__`` and links each to its package.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from torch import nn

import caveat
from caveat import metrics

UNDOCUMENTED = {"cli"}  # a command line is documented by its --help


def public(module: ModuleType) -> list[str]:
    """The public names of a module: its ``__all__``, or what it defines."""
    listed = getattr(module, "__all__", None)
    if listed is not None:
        return list(listed)
    own = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    return [name for name, value in own.items() if getattr(value, "__module__", None) == module.__name__]


def packages() -> dict[str, ModuleType]:
    """Every public package by its name, in the alphabet's order."""
    names = [found.name for found in pkgutil.iter_modules(caveat.__path__) if not found.name.startswith("_")]
    return {name: importlib.import_module(f"caveat.{name}") for name in names if name not in UNDOCUMENTED}


def first_line(thing: Any) -> str:
    """The first line of a docstring, for a table cell."""
    return (inspect.getdoc(thing) or "").partition("\n")[0].replace("|", "\\|").replace("``", "`")


def page(name: str, module: ModuleType) -> str:
    """A package's page: its docstring, then each public name; the metrics' begins with a table by task."""
    parts, labels = [f"# {name}", inspect.getdoc(module) or ""], public(module)
    if name == "metrics":
        parts.append(metrics_by_task())
        labels = sorted(labels, key=lambda label: (label not in metrics.METRICS, label[0].isupper()))
    parts += [f"::: caveat.{name}.{label}" for label in labels]
    if classes := returned(module):
        parts.append("## Returned by these\n\nYou need not create these: the names above return or hold them.")
        parts += [f"::: {one.__module__}.{one.__qualname__}" for one in classes]
    return "\n\n".join(parts) + "\n"


def returned(module: ModuleType) -> list[type]:
    """The classes of what a package's functions return and its dicts hold that are not public, with their fields'."""
    found, waiting = dict[str, type](), [getattr(module, label) for label in public(module)]
    shown = {id(thing) for thing in waiting}
    held = {type(value) for thing in waiting if isinstance(thing, dict) for value in thing.values()}
    while waiting:
        for one in _classes_in(_hints(waiting.pop())):
            plain = not one.__name__.startswith("_") and not issubclass(one, nn.Module | BaseException)
            own = one.__module__.startswith(f"{module.__name__}._") or one in held
            if plain and own and id(one) not in shown:
                shown.add(id(one))
                found[one.__name__] = one
                waiting.append(one)
    return [found[name] for name in sorted(found)]


def _hints(thing: Any) -> list[Any]:
    """The types that a function returns; of a class those of its fields and methods; of a dict those of its values."""
    if isinstance(thing, dict):
        return [type(value) for value in typing.cast("dict[str, Any]", thing).values()]
    if not isinstance(thing, type):
        return [_types_of(thing).get("return")] if inspect.isfunction(thing) else []
    members = [value for name, value in vars(thing).items() if not name.startswith("_") and name != "bind"]
    functions = [getattr(member, "fget", None) or getattr(member, "__func__", member) for member in members]
    kept = [_types_of(one).get("return") for one in functions if inspect.isfunction(one)]
    return [*kept, *(hint for name, hint in _types_of(thing).items() if not name.startswith("_"))]


def _types_of(thing: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(thing)
    except NameError:  # what is loaded for type checkers alone, as matplotlib's axes are
        return {}


def _classes_in(hints: Iterable[Any]) -> Iterator[type]:
    for hint in hints:
        if isinstance(hint, type) and not typing.get_args(hint):
            yield hint
        yield from _classes_in([part for part in (typing.get_origin(hint), *typing.get_args(hint)) if part is not None])


TASKS = {
    ("probabilities", "labels"): "classes: how good are probabilities?",
    ("probabilities",): "classes: how good are probabilities?",
    ("mean", "target"): "numbers: how good is the mean?",
    ("mean", "variance", "target"): "numbers: how good is a mean with its variance, or draws?",
    ("low", "high", "target"): "numbers: do intervals hold?",
    ("low", "high"): "numbers: do intervals hold?",
    ("levels",): "numbers: are levels calibrated?",
    ("uncertainty", "losses"): "any: are the errors among the most uncertain rows?",
    ("uncertainty", "errors"): "any: are the errors among the most uncertain rows?",
    ("scores", "positive"): "any: does a score tell two kinds of rows apart (right and wrong, known and unknown)?",
}
"""What a metric is for, by the tensors that it takes; a metric that takes others is to be given its task here."""


def metrics_by_task() -> str:
    """A table of every metric that is one number, grouped by what it is for, and one of the curves and tools."""
    groups: dict[str, list[str]] = {task: [] for task in TASKS.values()}
    for name, metric in metrics.METRICS.items():
        better = {True: "higher", False: "lower", None: "close to the level"}[metric.higher_is_better]
        takes = ", ".join(f"`{one}`" for one in metric.takes)
        cells = [f"[`{name}`][caveat.metrics.{name}]", takes, metric.unit.replace("^2", "²"), better]
        groups[TASKS[metric.takes]].append(" | ".join(cells))
    rows = ["| task | metric | takes | unit | better |", "| --- | --- | --- | --- | --- |"]
    rows += [f"| {task if k == 0 else ''} | {row} |" for task, each in groups.items() for k, row in enumerate(each)]
    rows += ["", "Results that are more than one number:", "", "| curve, table or tool | |", "| --- | --- |"]
    for name in public(metrics):
        if name not in metrics.METRICS and name[0].islower():
            rows.append(f"| [`{name}`][caveat.metrics.{name}] | {first_line(getattr(metrics, name))} |")
    return "\n".join(rows)


def home(thing: Any, label: str) -> str | None:
    """The address, in a package's page, of a name of the public face."""
    for name, module in packages().items():
        if label in public(module) and getattr(module, label) is thing:
            return f"caveat.{name}.{label}"
    return None


def index() -> str:
    """The public face in the order of ``caveat.__all__``, the packages, then what no package documents."""
    rows = ["# Reference", "", "The names that `import caveat` brings, each with a link to its documentation.", ""]
    rows += ["| name | |", "| --- | --- |"]
    homes = {label: home(getattr(caveat, label), label) for label in caveat.__all__}
    for label, where in homes.items():
        link = f"[`caveat.{label}`][{where or f'caveat.{label}'}]"
        rows.append(f"| {link} | {first_line(getattr(caveat, label))} |")
    rows += ["", "The packages, each with a page of its own:", "", "| package | |", "| --- | --- |"]
    rows += [f"| [`caveat.{name}`]({name}.md) | {first_line(module)} |" for name, module in packages().items()]
    rows += [f"\n::: caveat.{label}" for label, where in homes.items() if where is None]
    return "\n".join(rows) + "\n"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the generated pages into the navigation."""
    entry = next(item for item in config.nav or [] if "Reference" in item)
    entry["Reference"] = ["reference/index.md", *(f"reference/{name}.md" for name in packages())]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Generate the pages."""
    files.append(File.generated(config, "reference/index.md", content=index()))
    for name, module in packages().items():
        files.append(File.generated(config, f"reference/{name}.md", content=page(name, module)))
    return files
