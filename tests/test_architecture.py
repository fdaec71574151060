"""The shape of the code: the room order, one idea a file, and no trace of the machine it was written on."""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "src" / "caveat").rglob("*.py"))
LARGEST, MEDIAN = 400, 200

# Written in pieces, so that this file does not find itself.
MACHINE_TEXT = re.compile("|".join((
    r"(?<![\w.])/" + r"(?:work|root|home|Users)/\w",
    r"/opt/" + r"(?:pypi|wheels)",
    r"py" + r"pi\.org",
    r"python" + r"hosted\.org",
    r"registry\.npm" + r"js",
)))  # fmt: skip
BINARY = {".png", ".gif", ".gz", ".pt", ".npz", ".safetensors", ".ico", ".woff2"}


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def made(path: Path) -> bool:
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
        paths = [path for path in ROOT.rglob("*") if not made(path.relative_to(ROOT))]
    return sorted(path for path in paths if path.is_file() and path.suffix not in BINARY)


def test_rooms_stand_in_order() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src" / "caveat")))
def test_no_module_is_too_long(path: Path) -> None:
    assert lines_of(path) <= LARGEST


def test_the_median_module_is_short() -> None:
    assert statistics.median(lines_of(path) for path in SOURCES) <= MEDIAN


def test_a_file_is_named_after_its_idea() -> None:
    assert not [path for path in SOURCES if path.stem in {"utils", "util", "helpers", "common", "misc"}]


def test_every_module_says_its_idea_first() -> None:
    bare = [path for path in SOURCES if not path.read_text().lstrip().startswith(('"""', 'r"""'))]
    assert not bare


def test_the_repository_names_no_machine() -> None:
    found = [
        f"{path.relative_to(ROOT)}: {match.group()}"
        for path in files_of_the_repository()
        if (match := MACHINE_TEXT.search(path.read_text(errors="replace")))
    ]
    assert not found
