"""Write the tables of the UCI experiments' READMEs from their results: between the two marks in each.

Run: python experiments/uci_readme.py
"""

from __future__ import annotations

import json
import re
import statistics
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SETS = ("boston", "concrete", "energy", "yacht", "kin8nm", "naval", "protein")
SMALL = SETS[:4]
METHODS = ("mc_dropout", "ensemble_of_mc_dropout", "concrete_dropout", "mc_batch_norm", "sngp", "gaussian_process",
           "deep_ensemble")  # fmt: skip
TITLES = {"rmse": "RMSE", "log_likelihood": "Test log-likelihood, nats"}
MARKS = re.compile(r"(<!-- table -->\n).*(<!-- end of table -->)", re.DOTALL)


def cell(found: dict[str, Any] | None, name: str, key: str) -> str:
    """Mean and standard error over splits, and how many splits there are if not all."""
    if found is None:
        return "–"
    column = [split[key] for split in found["splits"].values()]
    mean, count, whole = statistics.mean(column), len(column), 5 if name == "protein" else 20
    digits = 3 if key == "log_likelihood" else 5 if mean < 0.01 else 4 if mean < 0.2 else 3 if mean < 2 else 2
    error = f" ± {statistics.stdev(column) / count**0.5:.{digits}f}" if count > 1 else ""
    return f"{mean:.{digits}f}{error}" + ("" if count == whole else f" ({count} of {whole} splits)")


def table(published: dict[str, Any], found: dict[tuple[str, str], Any], methods: list[str], key: str) -> str:
    """A row for each set, a column for each published source and for each method of ours."""
    lines = [f"{TITLES[key]}, mean and standard error over splits:", ""]
    lines.append("| set | " + " | ".join([*published, *[f"**{m.replace('_', ' ')}, ours**" for m in methods]]) + " |")
    lines.append("|" + " --- |" * (1 + len(published) + len(methods)))
    for name in SETS:
        cells = [source[name][key] for source in published.values()]
        cells += [cell(found.get((method, name)), name, key) for method in methods]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def seconds(found: dict[tuple[str, str], Any], methods: list[str]) -> str:
    """How long the small sets took, where all their splits are there."""
    cells: list[str] = []
    total, missing = 0.0, 0
    for method in methods:
        times = [found.get((method, name), {"seconds": None, "splits": {}}) for name in SMALL]
        whole = [held["seconds"] if len(held["splits"]) == 20 else None for held in times]
        missing += whole.count(None)
        total += sum(time or 0.0 for time in whole)
        cells.append(f"| {method.replace('_', ' ')} | " + " | ".join(f"{t:.0f}" if t else "–" for t in whole) + " |")
    said = f"{total / 60:.1f} minutes of one thread together" + (f"; {missing} are missing" if missing else "")
    head = "| method | " + " | ".join(SMALL) + " |\n|" + " --- |" * (1 + len(SMALL))
    title = f"Seconds that the four small sets took, as recorded with their results ({said}):"
    return "\n".join([title, "", head, *cells])


def main() -> None:
    files = sorted(HERE.glob("*_uci/results/*/*.json"))
    found = {(path.parent.name, path.stem): json.loads(path.read_text()) for path in files}
    published = json.loads((HERE / "uci_published.json").read_text())
    for readme in HERE.glob("*_uci/README.md"):
        gal = readme.parent.name.startswith("gal")  # the one table of all
        methods = [m for m in METHODS if any(key[0] == m for key in found) and (gal or m == "deep_ensemble")]
        sources = {title: values for title, values in published.items()
                   if gal or "Lakshminarayanan" in title}  # fmt: skip
        parts = [*[table(sources, found, methods, key) for key in TITLES], seconds(found, methods)]
        text = "\n\n".join(parts)
        readme.write_text(MARKS.sub(lambda match, text=text: f"{match[1]}\n{text}\n\n{match[2]}", readme.read_text()))


if __name__ == "__main__":
    main()
