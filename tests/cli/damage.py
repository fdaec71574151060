"""Damaged input files and model folders for the commands: `python tests/cli/damage.py --files 500 --folders 500`.

Each case is made from a seed, run through the command, and judged: exit code 0 or 2, one line on the standard error
where it is 2, no traceback, an end within the limit of time, and nothing half-written left. Prints what was wrong.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

from caveat.cli._cli import main

LIMIT = 300  # seconds, after which a command is taken to hang; none needs a tenth of it
QUICK = ("--members", "1", "--epochs", "1", "--draws", "4", "--json")
COMMAND = (sys.executable, "-c", "import sys; from caveat.cli._cli import main; sys.exit(main())")


codes: Counter[int] = Counter()
"""How often commands ended with each exit code."""


class Hang(BaseException):
    """A command that ran past the limit."""


def make_base(folder: Path) -> None:
    """A table, and a model of it."""
    draw = random.Random(0)
    rows = [
        (f"{k * 0.37:.3f}", "rgb"[k % 3], f"2021-03-{k % 28 + 1:02d}", f"{k * 0.9 + draw.random():.4f}")
        for k in range(120)
    ]
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("a", "c", "d", "y"), *rows])
    assert run(["fit", str(folder / "t.csv"), "--target", "y", "--out", str(folder / "m"), *QUICK])[0] == 0


def run(words: list[str], *, process: bool = False) -> tuple[int, str]:
    """The exit code of the command and what it says on the standard error; 1 and a traceback for what it raises."""
    if process:
        line = [*COMMAND, *words]
        try:
            done = subprocess.run(line, capture_output=True, timeout=LIMIT, env={**os.environ, "OMP_NUM_THREADS": "1"})
        except subprocess.TimeoutExpired:
            return 1, "hang"
        return done.returncode, done.stderr.decode("utf-8", "replace")
    said = io.StringIO()

    def late(*_: object) -> None:
        raise Hang

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LIMIT)
    try:
        with redirect_stderr(said), redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the command's own process prints them; they are no faults
            code = main(words)
    except Hang:
        return 1, "hang"
    except BaseException:
        return 1, traceback.format_exc()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return code, said.getvalue()


def judge(code: int, said: str, folder: Path, expected: set[str]) -> str | None:
    """What is wrong with how a command ended, or None."""
    codes[code] += 1
    lines = [line for line in said.splitlines() if line.strip()]
    if code not in (0, 2) or "Traceback" in said:
        return f"exit code {code}: {' / '.join(lines[-4:])[:600]}"
    if code == 2 and (len(lines) != 1 or not lines[0].startswith("caveat: ")):
        return f"{len(lines)} lines: {said[:300]!r}"
    strange = sorted({path.name for path in folder.iterdir()} - expected)
    return f"left behind: {strange}" if strange else None


# ------------------------------------------------------------------------------------------ input files


def flip(content: bytes, draw: random.Random) -> bytes:
    """Some bits changed."""
    found = bytearray(content)
    for _ in range(draw.randint(1, 8)):
        found[draw.randrange(len(found))] ^= 1 << draw.randrange(8)
    return bytes(found)


def cut(content: bytes, draw: random.Random) -> bytes:
    """Threshold short, or a part of it missing or doubled."""
    start, end = sorted(draw.randrange(len(content)) for _ in range(2))
    return draw.choice([content[:start], content[:start] + content[end:], content[:end] + content[start:]])


def sprinkle(content: bytes, draw: random.Random) -> bytes:
    """Something odd put in somewhere."""
    odd = [b'"', b"\x00", b"\xff", b"\r", b"\n\n", b",", b"\xed\xa0\x80", b"1e999", b"-", b"\xef\xbb\xbf", b"'", b"nan"]
    odd += [
        b"9" * 400,
        b"9" * 5000,
        b"[" * 3000,
        b'"\\ud800"',
        b"{}",
        b"null",
        b"true",
        "\u202e\u0000é".encode(),
        b"\x1b[2J",
    ]
    for _ in range(draw.randint(1, 5)):
        at = draw.randrange(len(content) + 1)
        content = content[:at] + draw.choice(odd) + content[at:]
    return content


def swap_cells(content: bytes, draw: random.Random) -> bytes:
    """A cell of a table of text replaced by another value."""
    rows = [line.split(b",") for line in content.splitlines()]
    odd = [
        b"1e308",
        b"-1e308",
        b"1e-320",
        b"inf",
        b"",
        b"NA",
        b"x" * 70_000,
        b"0x10",
        b"1_000",
        b"9" * 5000,
        b"99999-01-01",
    ]
    odd += [b"0000-00-00", b"2021-02-30", b"a", b"y", b"row", b"1e400", b'"a\nb"', b"true"]
    for _ in range(draw.choice([1, 3, 200])):
        row = draw.choice(rows)
        row[draw.randrange(len(row))] = draw.choice(odd)
    return b"\n".join(b",".join(row) for row in rows) + b"\n"


def as_json_lines(content: bytes) -> bytes:
    """The same table as JSON lines."""
    rows = csv.DictReader(io.StringIO(content.decode()))
    numbers = ("a", "y")
    typed = [{name: float(value) if name in numbers else value for name, value in row.items()} for row in rows]
    return "".join(json.dumps(row) + "\n" for row in typed).encode()


def odd_json(content: bytes, draw: random.Random) -> bytes:
    """A value of a line of JSON replaced by another."""
    lines = content.splitlines()
    odd = [
        "[" * 3000 + "]" * 3000,
        "9" * 5000,
        "9" * 400,
        '"\\ud800"',
        "[1, 2]",
        '{"b": 1}',
        "1e999",
        "NaN",
        "null",
        "true",
        '"x"',
    ]
    for _ in range(draw.choice([1, 3, 100])):
        at = draw.randrange(len(lines))
        entry = json.loads(lines[at]) if b"[[" not in lines[at] and b"99999" not in lines[at] else {"a": 1}
        if not isinstance(entry, dict):
            continue
        name = draw.choice([*entry, "", "a"])
        parts = [f"{json.dumps(key)}: {json.dumps(value)}" for key, value in entry.items()]
        lines[at] = ("{" + ", ".join([*parts, f"{json.dumps(name)}: {draw.choice(odd)}"]) + "}").encode()
    return b"\n".join(lines) + b"\n"


def odd_parquet(content: bytes, draw: random.Random) -> bytes:
    """The table as Parquet, damaged or of odd columns; CSV where pyarrow is not installed."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        return flip(content, draw)
    n = 60
    columns: list[tuple[str, Any]] = [("a", pa.array([k / 3 for k in range(n)])), ("c", pa.array(list("rgb") * 20))]
    columns += [("d", pa.array(["2021-01-01"] * n)), ("y", pa.array([k * 1.5 + k % 7 for k in range(n)]))]
    odd: list[tuple[str, Any]] = [
        ("a", pa.array(range(n))),
        ("l", pa.array([[1, 2]] * n)),
        ("s", pa.array([{"p": 1}] * n)),
        ("b", pa.array([b"\xff"] * n)),
        ("t", pa.array([2**62] * n, pa.timestamp("us"))),
        ("z", pa.nulls(n)),
        ("e", pa.array([10**37] * n, pa.decimal128(38))),
        ("k", pa.array(["u"] * n).dictionary_encode()),
        ("o", pa.array([10**6] * n, pa.duration("s"))),
        ("", pa.array(range(n))),
    ]
    for one in draw.sample(odd, draw.randint(0, 2)):
        columns.insert(draw.randint(0, len(columns)), one)
    buffer = io.BytesIO()
    pq.write_table(pa.table([array for _, array in columns], names=[name for name, _ in columns]), buffer)
    return draw.choice([bytes, lambda b: flip(b, draw), lambda b: cut(b, draw)])(buffer.getvalue())


Mutation = Callable[[bytes, random.Random], bytes]
MUTATIONS: tuple[tuple[str, Mutation], ...] = (
    ("csv", flip),
    ("csv", cut),
    ("csv", sprinkle),
    ("csv", swap_cells),
    ("csv", swap_cells),
    ("csv.gz", lambda b, r: flip(gzip.compress(b, mtime=0), r)),
    ("csv.gz", lambda b, r: cut(gzip.compress(b, mtime=0), r)),
    ("csv.gz", lambda b, r: gzip.compress(sprinkle(b, r), mtime=0)),
    ("csv.gz", lambda b, r: b),
    ("jsonl", lambda b, r: flip(as_json_lines(b), r)),
    ("jsonl", lambda b, r: sprinkle(as_json_lines(b), r)),
    ("jsonl", lambda b, r: odd_json(as_json_lines(b), r)),
    ("jsonl", lambda b, r: odd_json(as_json_lines(b), r)),
    ("jsonl.gz", lambda b, r: cut(gzip.compress(as_json_lines(b), mtime=0), r)),
    ("jsonl.gz", lambda b, r: flip(gzip.compress(as_json_lines(b), mtime=0), r)),
    ("parquet", odd_parquet),
    ("parquet", odd_parquet),
    ("csv", lambda b, r: b'"' + b),
    ("csv", lambda b, r: gzip.compress(b)),
    ("parquet", flip),
    ("json", lambda b, r: as_json_lines(b)[:-5]),
)


def try_file(base: Path, seed: int, *, process: bool = False) -> str | None:
    """What is wrong with how a command takes the input file of this seed, or None."""
    draw = random.Random(seed)
    ending, mutate = MUTATIONS[seed % len(MUTATIONS)]
    content = mutate((base / "t.csv").read_bytes(), draw)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / f"data.{ending}"
        data.write_bytes(content)
        model = str(base / "m")
        changing = str(shutil.copytree(base / "m", folder / "own")) if draw.random() < 0.2 else ""
        words = draw.choice([
            ["predict", model, str(data), "--out", str(folder / "out.csv"), "--draws", "2", "--json"],
            ["predict", model, str(data), "--out", str(folder / "out.jsonl"), "--keep", "c", "--draws", "2"],
            ["evaluate", model, str(data), "--draws", "2", "--json"],
            ["fit", str(data), "--target", "y", "--out", str(folder / "out"), *QUICK],
            ["fit", str(data), "--target", draw.choice("acd"), "--out", str(folder / "out"), *QUICK],
            ["decide", changing or model, str(data), "--budget", "0.2", "--json"] if changing else
            ["predict", model, str(data), "--out", str(folder / "out.tsv"), "--level", "0.5"],
        ])  # fmt: skip
        code, said = run(words, process=process)
        made = {"out", "out.csv", "out.tsv", "out.jsonl"} if code == 0 else set[str]()
        wrong = judge(code, said, folder, {data.name, "own", *made})
        return None if wrong is None else f"file {seed} ({ending}), {words[0]}: {wrong}"


# ---------------------------------------------------------------------------------------- model folders


def signed(folder: Path, about: Any) -> None:
    """Write a manifest with its own checksum, as a forger would."""
    if isinstance(about, dict) and isinstance(about.get("checksums"), dict):
        others = {name: value for name, value in about["checksums"].items() if name != "caveat.json"}
        text = json.dumps({**about, "checksums": others}, sort_keys=True, ensure_ascii=False)
        about["checksums"]["caveat.json"] = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    (folder / "caveat.json").write_text(json.dumps(about, ensure_ascii=True))


def forge(folder: Path, draw: random.Random) -> None:
    """A value, somewhere in the manifest, replaced by another."""
    about = json.loads((folder / "caveat.json").read_text())
    odd = [
        None,
        True,
        -1,
        0,
        2**62,
        10**30,
        1e308,
        -1e308,
        1e-320,
        float("nan"),
        float("inf"),
        "",
        "x",
        "../t.csv",
        "\ud800",
        [],
        {},
        [[[[]]]],
        [0],
        ["x"],
        "/etc/passwd",
        "README.md",
    ]
    at: Any = about
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if not keys:
            return signed(folder, about)
        key = draw.choice(keys)
        if isinstance(at[key], (dict, list)) and at[key] and draw.random() < 0.85:
            at = at[key]
            continue
        change = draw.random()
        if change < 0.75:
            at[key] = draw.choice(odd)
        elif isinstance(at, dict) and change < 0.85:
            at[draw.choice(["more", "..", "a/b", ""])] = at.pop(key)
        else:
            del at[key]
        return signed(folder, about)


def damage_content(folder: Path, draw: random.Random) -> None:
    """A file cut, flipped, emptied, or with text put in."""
    path = folder / draw.choice(["caveat.json", "model.safetensors", "README.md"])
    content = path.read_bytes()
    path.write_bytes(draw.choice([flip, cut, sprinkle, lambda b, r: b""])(content, draw))


def replace_file(folder: Path, draw: random.Random) -> None:
    """A pipe, a link, a folder, a sparse giant or nothing in place of a file."""
    path = folder / draw.choice(["caveat.json", "model.safetensors", "README.md"])
    path.unlink()
    how = draw.randrange(7)
    if how == 0:
        os.mkfifo(path)
    elif how == 1:
        path.symlink_to("/dev/zero")
    elif how == 2:
        path.symlink_to(path.name)
    elif how == 3:
        path.mkdir()
    elif how == 4:
        with path.open("wb") as file:
            file.truncate(1 << 40)
    elif how == 5:
        path.symlink_to("/etc/hostname")


def resign_weights(folder: Path, draw: random.Random) -> None:
    """Weights damaged, and the manifest made to fit them."""
    path = folder / "model.safetensors"
    path.write_bytes(draw.choice([flip, cut])(path.read_bytes(), draw))
    about = json.loads((folder / "caveat.json").read_text())
    about["checksums"][path.name] = hashlib.sha256(path.read_bytes()).hexdigest()
    about["sizes"][path.name] = path.stat().st_size
    signed(folder, about)


def leave_staged(folder: Path, draw: random.Random) -> None:
    """What a killed or hostile writer may leave: a folder of files to be moved, and odd names to be removed."""
    staged = folder / ".caveat-new"
    staged.mkdir()
    (staged / "model.safetensors").write_bytes(b"x")
    about = hashlib.sha256((folder / "caveat.json").read_bytes()).hexdigest()
    task = {
        "manifest": draw.choice([about, "x", 7]),
        "remove": draw.choice([["../../t.csv"], ["/etc/x"], [7], 7, [".."], ["."]]),
    }
    (staged / "replacing.json").write_text(draw.choice([json.dumps(task), "{", "[" * 5000]))


DAMAGES = (forge, forge, forge, forge, damage_content, damage_content, replace_file, resign_weights, leave_staged)


def try_folder(base: Path, seed: int, *, process: bool = False) -> str | None:
    """What is wrong with how a command takes the model folder of this seed, or None."""
    draw = random.Random(seed)
    damage = DAMAGES[seed % len(DAMAGES)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = folder / "m"
        shutil.copytree(base / "m", model)
        damage(model, draw)
        table, before = str(base / "t.csv"), (base / "t.csv").read_bytes()
        words = draw.choice([
            ["predict", str(model), table, "--out", str(folder / "out.csv"), "--draws", "2", "--json"],
            ["evaluate", str(model), table, "--draws", "2", "--json"],
            ["decide", str(model), table, "--budget", "0.1", "--json"],
            ["fit", table, "--target", "y", "--out", str(model), *QUICK],
        ])  # fmt: skip
        code, said = run(words, process=process)
        made = {"out.csv"} if code == 0 else set[str]()
        wrong = judge(code, said, folder, {"m", *made})
        if (base / "t.csv").read_bytes() != before:
            wrong = "the table was changed"
        return None if wrong is None else f"folder {seed} ({damage.__name__}), {words[0]}: {wrong}"


def run_all() -> int:
    """Run what the command line asks for; the number of faults."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--files", type=int, default=500)
    options.add_argument("--folders", type=int, default=500)
    options.add_argument("--first", type=int, default=0, help="the first seed")
    options.add_argument("--processes", type=int, default=20, help="of each kind, so many in a process of their own")
    given = options.parse_args()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        make_base(Path(name))
        for attempt, count in ((try_file, given.files), (try_folder, given.folders)):
            for number in range(count):
                process = given.processes > 0 and number % max(1, count // given.processes) == 0
                wrong = attempt(Path(name), given.first + number, process=process)
                if wrong is not None:
                    faults.append(wrong)
                    sys.stdout.write(f"{wrong}\n")
                    sys.stdout.flush()
    ends = ", ".join(f"{count} with {code}" for code, count in sorted(codes.items()))
    sys.stdout.write(f"{given.files} files, {given.folders} folders: {len(faults)} faults; {ends}\n")
    return len(faults)


if __name__ == "__main__":
    sys.exit(min(run_all(), 1))
