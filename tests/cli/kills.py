"""Real signals at random moments of `caveat predict` and `caveat fit`: `python tests/cli/kills.py --kills 100`.

After a SIGKILL or SIGINT the output is the old one or the new one, whole; Ctrl-C gives one line and exit code 130; the
next run of the same command ends as if nothing had been, and leaves nothing else. Prints what was wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

COMMAND = (
    sys.executable,
    "-c",
    "import os, sys; os.write(1, b'.'); from caveat.cli._cli import main; sys.exit(main())",
)
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}
TRAIN = ("--target", "y", "--members", "2", "--draws", "4", "--json")
ends: Counter[str] = Counter()
"""How often a command ended in each way."""


def start(words: list[str]) -> subprocess.Popen[bytes]:
    """The command, begun: its first byte of output has been seen."""
    running = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert running.stdout is not None
    running.stdout.read(1)
    return running


def finish(words: list[str]) -> tuple[int, str, float]:
    """The exit code, the standard error and the seconds of a command that runs to its end."""
    began = time.perf_counter()
    running = start(words)
    said = running.communicate()[1].decode()
    return running.returncode, said, time.perf_counter() - began


def stop(words: list[str], number: signal.Signals, after: float) -> tuple[int, str]:
    """The exit code and the standard error of a command that gets the signal after so many seconds."""
    running = start(words)
    try:
        said = running.communicate(timeout=after)[1]
    except subprocess.TimeoutExpired:
        running.send_signal(number)
        said = running.communicate()[1]
    return running.returncode, said.decode("utf-8", "replace")


def judge_end(code: int, said: str, number: signal.Signals) -> str | None:
    """What is wrong with how a command ended that got a signal, or None."""
    ends[f"{number.name} {code}"] += 1
    if number == signal.SIGKILL:
        return None if code in (0, -signal.SIGKILL) else f"exit code {code}: {said[-400:]}"
    if code == 0:
        return None
    fine = code == 130 and re.fullmatch(r"caveat: interrupted(; the same .*)?\n", said)
    return None if fine else f"exit code {code}: {said[-600:]!r}"


class Place:
    """A folder with a table, a model, rows to predict, and what the commands make of them undisturbed."""

    def __init__(self, folder: Path, rows: int = 30_000, epochs: int = 12) -> None:
        self.folder, draw = folder, random.Random(0)
        (folder / "t.csv").write_text(
            "a,y\n" + "".join(f"{k * 0.37:.3f},{k + draw.random():.4f}\n" for k in range(200))
        )
        (folder / "n.csv").write_text("a\n" + "".join(f"{draw.random() * 90:.4f}\n" for _ in range(rows)))
        train = ["fit", str(folder / "t.csv"), *TRAIN, "--epochs"]
        self.old = [*train, "2", "--out"]
        self.new = [*train, str(epochs), "--out"]
        self.asked = ["predict", str(folder / "old"), str(folder / "n.csv"), "--draws", "2", "--json", "--out"]
        self.weights: dict[str, bytes] = {}
        self.seconds: dict[str, float] = {}
        for name, words in (("old", self.old), ("new", self.new)):
            code, said, self.seconds[name] = finish([*words, str(folder / name)])
            assert code == 0, said
            self.weights[name] = (folder / name / "model.safetensors").read_bytes()
        code, said, self.seconds["predict"] = finish([*self.asked, str(folder / "whole.csv")])
        assert code == 0, said
        self.whole = (folder / "whole.csv").read_bytes()
        self.names = {path.name for path in folder.iterdir()}

    def try_predict(self, number: signal.Signals, share: float) -> str | None:
        """What is wrong after a signal to `predict` after this share of its time, and after its next run; or None."""
        out = self.folder / "out.csv"
        code, said = stop([*self.asked, str(out)], number, share * self.seconds["predict"])
        wrong = judge_end(code, said, number)
        if wrong is None and out.exists() and out.read_bytes() != self.whole:
            wrong = "half a file of predictions"
        code, said, _ = finish([*self.asked, str(out)])
        if wrong is None and (code != 0 or out.read_bytes() != self.whole):
            wrong = f"the next run gave exit code {code}, or another file: {said[-300:]}"
        out.unlink(missing_ok=True)
        return wrong or self.left()

    def try_fit(self, number: signal.Signals, share: float, *, over: bool) -> str | None:
        """What is wrong after a signal to `fit`, into a new folder or over a model, and after its next run; or None."""
        out = self.folder / "out"
        if over:
            assert finish([*self.old, str(out)])[0] == 0
            (out / "notes.txt").unlink(missing_ok=True)
        code, said = stop([*self.new, str(out)], number, share * self.seconds["new"])
        wrong = judge_end(code, said, number)
        if wrong is None and (over or out.exists()):
            wrong = self.loads(out)
        code, said, _ = finish([*self.new, str(out)])
        if wrong is None and (code != 0 or (out / "model.safetensors").read_bytes() != self.weights["new"]):
            wrong = f"the next run gave exit code {code}, or another model: {said[-300:]}"
        names = {path.name for path in out.iterdir()} if out.is_dir() else set[str]()
        if wrong is None and names != {"caveat.json", "model.safetensors", "README.md"}:
            wrong = f"in the folder: {sorted(names)}"
        for path in out.glob("*"):
            path.unlink()
        if out.exists():
            out.rmdir()
        return wrong or self.left()

    def loads(self, out: Path) -> str | None:
        """What is wrong with a model that has to be the old one or the new one, or None."""
        from caveat._estimators import load_model
        from caveat.errors import InvalidModelError
        from caveat.tabular import Classifier

        try:
            load_model(Classifier.kind, out)
        except InvalidModelError as error:
            return f"no model: {error}"
        found = (out / "model.safetensors").read_bytes()
        return None if found in self.weights.values() else "a model that is neither the old one nor the new one"

    def left(self) -> str | None:
        """What is there that no command has said it would leave, or None."""
        strange = sorted({path.name for path in self.folder.iterdir()} - self.names)
        return f"left behind: {strange}" if strange else None


def run_all() -> int:
    """Run what the command line asks for; the number of faults."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=100)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    draw, faults = random.Random(given.seed), 0
    with tempfile.TemporaryDirectory() as name:
        place = Place(Path(name))
        for number in range(given.kills):
            sent = draw.choice([signal.SIGKILL, signal.SIGINT])
            share = draw.uniform(0, 1.1)
            kind = number % 3
            wrong = place.try_predict(sent, share) if kind == 0 else place.try_fit(sent, share, over=kind == 1)
            if wrong is not None:
                faults += 1
                sys.stdout.write(
                    f"{number}: {sent.name} at {share:.3f} of {('predict', 'fit over', 'fit')[kind]}: {wrong}\n"
                )
                sys.stdout.flush()
    sys.stdout.write(f"{given.kills} signals: {faults} faults; {json.dumps(dict(sorted(ends.items())))}\n")
    return faults


if __name__ == "__main__":
    sys.exit(min(run_all(), 1))
