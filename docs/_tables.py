"""mkdocs hook: what pages take from other files, so that it is written once: extras, examples, experiments, llms.txt.

A page says where, with a comment such as ``<!-- extras -->``.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.nav import Navigation
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NOT_FOR_USERS = {"dev", "docs", "zoo", "frameworks", "experiments"}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The version, at the head and the foot of every page."""
    config.site_name = f"{PROJECT['name']} {PROJECT['version']}"
    address = PROJECT.get("urls", {}).get("Repository")
    if address and not config.repo_url:
        config.repo_url, config.repo_name = address, "/".join(address.rstrip("/").split("/")[-2:])
    config.copyright = f"caveat {PROJECT['version']} · {PROJECT['license']}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """The experiments' pictures, for the gallery."""
    for picture in pictures():
        name = f"pictures/experiments/{picture.parent.name}-{picture.name}"
        files.append(File.generated(config, name, content=picture.read_bytes()))
    return files


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Each marker's table in its place."""
    for marker, make in {"extras": extras, "examples": examples, "experiments": experiments}.items():
        if f"<!-- {marker} -->" in markdown:
            markdown = markdown.replace(f"<!-- {marker} -->", make("../" * page.file.src_uri.count("/")))
    return markdown.replace("{version}", PROJECT["version"]) if page.is_homepage else markdown


def on_page_content(html: str, **_: Any) -> str:
    """No line of prose ends between a number and its percent sign."""
    code = r"(<(?:pre|code|svg)\b.*?</(?:pre|code|svg)>)"
    return re.sub(rf"{code}|(?<=\d) %", lambda found: found[1] or "&nbsp;%", html, flags=re.DOTALL)


def on_env(env: Any, *, config: MkDocsConfig, files: Files) -> Any:
    """``llms.txt``: the home page's example and the pages in the order of the navigation, for coding agents."""
    nav: Navigation = _NAVIGATION[0]
    example = re.search(r"^```python\n.*?^```$", (ROOT / "docs/index.md").read_text(), re.MULTILINE | re.DOTALL)
    lines = ["# caveat", "", f"> {config.site_description}.", ""]
    lines += ["`import caveat` is the public face; `caveat.predict(sampler, x, n=100, seed=0)` is its center:", ""]
    lines += [example[0] if example else ""]
    section = None
    for page in nav.pages:
        top = page.ancestors[-1].title if page.ancestors else "Start"
        if top != section:
            section = top
            lines += ["", f"## {section}", ""]
        lines.append(f"- [{page.title}]({page.file.url}): {first_sentence(page.markdown or '')}")
    files.append(File.generated(config, "llms.txt", content="\n".join(lines) + "\n"))
    return env


def on_nav(nav: Navigation, **_: Any) -> Navigation:
    """Remembered for `on_env`, which is given no navigation."""
    _NAVIGATION[:] = [nav]
    return nav


_NAVIGATION: list[Navigation] = []


def first_sentence(markdown: str) -> str:
    """The first sentence of a page's prose, without its links."""
    body = re.sub(r"^(---\n.*?\n---|```.*?```)$", "", markdown, flags=re.DOTALL | re.MULTILINE)
    paragraphs = [part for part in body.split("\n\n") if not re.match(r"\s*($|[#|<!:]|[*-] )", part)]
    text = re.sub(r"\[([^]]+)\](\([^)]*\)|\[[^]]*\])", r"\1", " ".join(paragraphs[0].split())) if paragraphs else ""
    return re.split(r"(?<=[.?])\s", text)[0]


def extras(_: str) -> str:
    """Which extra is for whom, as pyproject.toml says."""
    text = (ROOT / "pyproject.toml").read_text()
    said = dict(re.findall(r'^([a-z]+) = \[[^#\n]*#\s*(.+)$', text, re.MULTILINE))
    rows = ["| extra | for | brings |", "| --- | --- | --- |"]
    for name, needs in PROJECT["optional-dependencies"].items():
        if name not in NOT_FOR_USERS:
            rows.append(f"| `{name}` | {said[name].strip()} | {', '.join(_plain(need) for need in needs)} |")
    return "\n".join(rows)


def _plain(need: str) -> str:
    own = re.fullmatch(r"caveat\[(.+)\]", need)
    return f"what `{own[1].replace(',', '`, `')}` brings" if own else re.split(r"[\[<>=]", need)[0]


def examples(_: str) -> str:
    """Every example: its first sentence and the command that runs it."""
    rows = ["| example | run |", "| --- | --- |"]
    for path in sorted((ROOT / "examples").glob("*.py")):
        lines = (ast.get_docstring(ast.parse(path.read_text())) or "").split("\n")
        rows.append(f"| {lines[0].replace('``', '`')} | `python examples/{path.name}` |")
    return "\n".join(rows)


def experiments(up: str) -> str:
    """Every experiment: its title, what it is, its command and its pictures."""
    parts: list[str] = []
    for folder in sorted(path.parent for path in (ROOT / "experiments").glob("*/README.md")):
        text = (folder / "README.md").read_text()
        title = text.split("\n")[0].lstrip("# ")
        parts.append(f"### {title}\n\n{first_sentence(text)}\n\n`python experiments/{folder.name}/run.py`")
        for picture in (one for one in pictures() if one.parent == folder):
            address = f"{up}pictures/experiments/{folder.name}-{picture.name}"
            parts.append(f"![{title}: {picture.stem}]({address}){{ .figure .paper loading=lazy }}")
    return "\n\n".join(parts)


def pictures() -> list[Path]:
    """The pictures that experiments keep in the repository."""
    found = (ROOT / "experiments").glob("*/*")
    return sorted(path for path in found if path.suffix in (".png", ".gif"))
