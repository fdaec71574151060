"""mkdocs hook: runs the Python blocks of every page and puts what they print and draw under them.

A page's blocks run one after another in one namespace, in an empty folder, as a reader would run them. What a block
prints, the figures that it makes and the GIFs that it writes come after it; figures twice, for light and dark pages.
A block whose libraries are not installed ends the run, with a note. Results are kept in ``.cache/docs`` under the hash
of the page's code and of the package's source, so nothing shown is older than the code that made it.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import hashlib
import importlib.util
import io
import json
import os
import re
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.plugins import get_plugin_logger
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
CACHE = ROOT / ".cache" / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LOG = get_plugin_logger("outputs")
LONGEST = 60  # lines of output that are shown
DARK = {
    "#1b1d21": "#e6e8ec", "#5c626b": "#b4bac4", "#a9afb8": "#6f7682", "#e2e4e8": "#3b404b", "#ffffff": "#1e2129",
    "#000000": "#e6e8ec", "#0072b2": "#4aa8e0", "#d55e00": "#f2803a", "#009e73": "#2fc79b",
}  # fmt: skip
"""Ink, lines and paper of `caveat._palette`, and its darker colors, for a dark page."""


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files, **_: Any) -> str:
    """Put each block's results after it, and its figures among the files of the site."""
    matches = list(BLOCK.finditer(markdown))
    if not matches:
        return markdown
    codes = [match.group(1) for match in matches]
    stem = page.file.src_uri.removesuffix(".md").replace("/", "-")
    key = hashlib.sha256("\0".join([fingerprint(), *codes]).encode()).hexdigest()[:24]
    kept = CACHE / f"{stem}-{key}.json"
    if kept.is_file():
        results = json.loads(kept.read_text())
    else:
        start = time.perf_counter()
        results = run(codes, page.file.src_uri)
        LOG.info("ran %s in %.1f s", page.file.src_uri, time.perf_counter() - start)
        kept.parent.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob(f"{stem}-{'?' * 24}.json"):
            old.unlink()
        kept.write_text(json.dumps(results))
    up = "../" * page.file.src_uri.count("/")
    parts, place = [], 0
    for number, (match, result) in enumerate(zip(matches, results, strict=True)):
        parts += [markdown[place : match.end()], shown(result, f"{stem}-{number + 1}", up, config, files)]
        place = match.end()
    return "".join([*parts, markdown[place:]])


def shown(result: dict[str, Any], stem: str, up: str, config: MkDocsConfig, files: Files) -> str:
    """A block's results as Markdown; its pictures become files of the site."""
    text = ""
    if result.get("note"):
        text += f'\n\n!!! note ""\n    {result["note"]}\n'
    if result["printed"].strip():
        lines = result["printed"].rstrip().split("\n")
        lines = lines if len(lines) <= LONGEST else [*lines[:LONGEST], f"… {len(lines) - LONGEST} more lines"]
        text += "\n\n``` { .text .output }\n" + "\n".join(lines) + "\n```\n"
    for number, figure in enumerate(result["figures"]):
        for shade in ("light", "dark"):
            drawing = figure if shade == "light" else darkened(figure)
            name = f"pictures/{stem}-{number + 1}-{shade}.svg"
            files.append(File.generated(config, name, content=drawing))
            wide = " .wide" if float(re.findall(r'width="([\d.]+)pt"', figure)[0]) > 560 else ""
            text += f"\n\n![what the code above draws]({up}{name}#only-{shade}){{ .figure{wide} }}"
        text += "\n"
    for number, animation in enumerate(result["animations"]):
        name = f"pictures/{stem}-{number + 1}.gif"
        files.append(File.generated(config, name, content=bytes.fromhex(animation)))
        text += f"\n\n![what the code above writes]({up}{name}){{ .figure .paper }}\n"
    return text


def run(codes: list[str], name: str) -> list[dict[str, Any]]:
    """What each block prints and draws; a block that fails ends the build and names its page."""
    import torch

    results: list[dict[str, Any]] = []
    space: dict[str, object] = {"__name__": "__page__"}
    here, seed = os.getcwd(), torch.random.get_rng_state()
    torch.manual_seed(0)
    lacking: list[str] = []
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            for number, code in enumerate(codes):
                new = [] if lacking else not_installed(code)
                lacking += new
                without = " and ".join(new)
                note = f"From here on this page was not run in this build, which has no {without}." if new else ""
                results.append({"printed": "", "figures": [], "animations": [], "note": note})
                if lacking:
                    continue
                before = set(Path(folder).rglob("*.gif"))
                printed, dropped = io.StringIO(), io.StringIO()
                with (
                    figures_made() as made,
                    contextlib.redirect_stdout(printed),
                    contextlib.redirect_stderr(dropped),
                ):
                    exec(compile(code, f"{name}, block {number + 1}", "exec"), space)
                animations = sorted(set(Path(folder).rglob("*.gif")) - before)
                results[-1]["printed"] = printed.getvalue()
                results[-1]["figures"] = [as_svg(figure) for figure in made]
                results[-1]["animations"] = [path.read_bytes().hex() for path in animations]
        finally:
            os.chdir(here)
            torch.random.set_rng_state(seed)
    return results


def not_installed(code: str) -> list[str]:
    """The libraries that a block imports and this environment lacks."""
    tree = ast.walk(ast.parse(code))
    names = [
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    tops = dict.fromkeys(name.partition(".")[0] for name in names)
    return [top for top in tops if importlib.util.find_spec(top) is None]


@contextlib.contextmanager
def figures_made() -> Iterator[list[Any]]:
    """Collects the matplotlib figures that are made meanwhile, but for the frames of animations."""
    made: list[Any] = []
    if importlib.util.find_spec("matplotlib") is None:
        yield made
        return
    import sys

    from matplotlib.figure import Figure

    make: Any = Figure.__init__

    def noted(figure: Any, *args: Any, **kwargs: Any) -> None:
        make(figure, *args, **kwargs)
        frame = sys._getframe(1)
        while frame is not None and not frame.f_code.co_filename.endswith("_animation.py"):
            frame = frame.f_back  # type: ignore[assignment]
        if frame is None:
            made.append(figure)

    Figure.__init__ = noted
    try:
        yield made
    finally:
        Figure.__init__ = make


def as_svg(figure: Any) -> str:
    """A figure as SVG whose text is text, with ids that do not change from build to build."""
    import matplotlib

    drawing = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "caveat", "font.family": "sans-serif"}):
        figure.savefig(drawing, format="svg", metadata={"Date": None}, bbox_inches="tight", pad_inches=0.08)
    return drawing.getvalue()


def darkened(drawing: str) -> str:
    """The same drawing for a dark page: ink and paper change places, the darker colors become lighter."""
    drawing = re.sub(r"#[0-9a-f]{6}\b", lambda found: DARK.get(found.group(), found.group()), drawing)
    # Text without a color of its own is black by SVG's default.
    return drawing.replace("<svg ", f'<svg fill="{DARK["#000000"]}" ', 1)


@functools.cache
def fingerprint() -> str:
    """The hash of the package's source, of this file, and of torch's version."""
    import torch

    digest = hashlib.sha256(torch.__version__.encode())
    for path in [Path(__file__), *sorted((ROOT / "src").rglob("*.py"))]:
        digest.update(path.read_bytes())
    return digest.hexdigest()
