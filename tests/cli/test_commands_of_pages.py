"""The commands that pages show run as pasted, on the files that the code before them writes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from caveat.cli._cli import main

DOCS = Path(__file__).parents[2] / "docs"
BLOCK = re.compile(r"^```(python|console)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.slow
@pytest.mark.parametrize("page", ["tutorials/csv-to-decisions.md", "how-to/command-line.md", "how-to/serve.md"])
def test_commands_run_as_pasted(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    for kind, text in BLOCK.findall((DOCS / page).read_text()):
        if kind == "python":
            exec(text, {})
            continue
        for line in text.splitlines():
            command, *arguments = shlex.split(line, comments=True)
            if command == "caveat" and arguments[0] != "serve":
                assert main(arguments) == 0, line
                ran.append(arguments[0])
        if ran:
            break
    assert ran[:1] == ["fit"]
