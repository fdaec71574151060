"""The page of every report: one HTML file that fetches nothing, light or dark as the screen is, plain on paper.

The hues are Okabe and Ito's, which people with any common color vision can tell apart
(https://jfly.uni-koeln.de/color/); the darkest of them are lightened on dark paper.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from caveat._palette import BLUE, GREEN, GRID, INK, MUTED, PAPER, SKY


@dataclass(frozen=True)
class Theme:
    """One paper and what is printed on it.

    Attributes:
        right: what names the digit.
        other: what names another one.
        accent: anything else that wants a color.
    """

    paper: str
    ink: str
    muted: str
    grid: str
    right: str
    other: str
    accent: str


LIGHT = Theme(
    paper=PAPER,
    ink=INK,
    muted=MUTED,
    grid=GRID,
    right=BLUE,
    other="#c04a00",
    accent=GREEN,
)
DARK = Theme(
    paper="#15171b",
    ink="#eceef1",
    muted="#a4abb5",
    grid="#333840",
    right=SKY,
    other="#ff9a52",
    accent="#2fc79b",
)


def _variables(theme: Theme) -> str:
    return (
        f"--paper:{theme.paper};--ink:{theme.ink};--muted:{theme.muted};--grid:{theme.grid};"
        f"--right:{theme.right};--other:{theme.other}"
    )


STYLE = f"""
:root{{color-scheme:light dark;{_variables(LIGHT)}}}
@media (prefers-color-scheme:dark){{:root{{{_variables(DARK)}}}}}
*{{box-sizing:border-box}}
body{{margin:0;background:var(--paper);color:var(--ink);
 font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}}
main{{max-width:760px;margin:0 auto;padding:40px 20px 64px}}
h1{{font-size:clamp(1.5rem,4.5vw,2.1rem);line-height:1.2;margin:0 0 .6em;text-wrap:balance}}
h2{{font-size:1.2rem;line-height:1.3;margin:2.6em 0 .5em;text-wrap:balance}}
p{{margin:.5em 0}} .lead{{font-size:1.1rem}} .read{{color:var(--muted)}}
small,.small{{font-size:.85rem;color:var(--muted)}}
img.plot{{width:100%;height:auto;display:block;margin:.8em 0 .2em}} img.dark{{display:none}}
@media screen and (prefers-color-scheme:dark){{img.light{{display:none}}img.dark{{display:block}}}}
.tiles{{display:grid;grid-template-columns:repeat(auto-fill,minmax(74px,1fr));gap:14px 6px;margin:1em 0}}
.tiles figure{{margin:0;text-align:center;line-height:1.25;break-inside:avoid;overflow-wrap:anywhere}}
.tiles img{{width:52px;height:52px;border-radius:4px;border:1px solid var(--grid);background:#fff}}
.tiles b{{display:block;font-size:.95rem}}
.tiles span{{display:block;font-size:.66rem;color:var(--muted)}}
.right{{color:var(--right)}} .other{{color:var(--other)}} .unsure{{color:var(--ink)}}
.eight{{grid-template-columns:repeat(8,minmax(0,1fr))}}
@media (max-width:640px){{.eight{{grid-template-columns:repeat(4,minmax(0,1fr))}}}}
.wide{{overflow-x:auto}}
table{{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}}
th,td{{text-align:right;padding:.32em .6em;border-bottom:1px solid var(--grid);white-space:nowrap}}
th:first-child,td:first-child{{text-align:left}}
th{{color:var(--muted);font-weight:600}} .tally *{{white-space:normal}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:.35em 1.2em;margin:.8em 0}}
dt{{color:var(--muted)}} dd{{margin:0}}
@media (max-width:640px){{dl{{grid-template-columns:1fr;gap:0}}dd{{margin:0 0 .6em}}}}
summary{{cursor:pointer;color:var(--right)}}
footer{{margin-top:3.5em;padding-top:1em;border-top:1px solid var(--grid)}}
@media print{{
 :root{{color-scheme:light;{_variables(LIGHT)}}}
 body{{font-size:10.5pt}} img.plot{{width:5.1in}} main{{max-width:none;padding:0}} h2{{break-after:avoid}}
 section,img.plot,tr{{break-inside:avoid}} .tiles{{grid-template-columns:repeat(12,1fr);gap:8px 2px}}
 .tiles span{{font-size:.6rem}} .tiles b{{font-size:.75rem}} .tiles img{{width:40px;height:40px}}
 .eight{{grid-template-columns:repeat(8,1fr)}} summary{{list-style:none;color:inherit}}
}}
"""


def make_page(title: str, sections: Sequence[str], *, style: str = "", footer: str) -> str:
    """Returns sections as one page, with further rules of style after the common ones."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head><body><main>\n"
        + "\n".join(sections)
        + f"\n<footer class=small>{footer}</footer></main></body></html>\n"
    )


def section(title: str, body: str, how_to_read: str = "") -> str:
    """Returns a part of a page: its title as text; what it shows, and under it a sentence on that, as HTML."""
    read = f"<p class='read small'>{how_to_read}</p>" if how_to_read else ""
    return f"<section><h2>{escape(title)}</h2>{body}{read}</section>"


def wide_table(
    titles: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    kinds: Mapping[int, str] | None = None,
    bold: Collection[tuple[int, int]] = (),
    kind: str = "",
) -> str:
    """Returns a table that can be moved where it is too wide for the screen.

    Args:
        titles: Of the columns, as text.
        rows: Cells of each row, as text.
        kinds: Classes of columns by their number.
        bold: Cells that are bold, by row and column.
        kind: Class of the table.
    """
    marks = [f" class={kinds[at]}" if kinds and at in kinds else "" for at in range(len(titles))]
    lines = "".join(f"<th{mark}>{escape(title)}</th>" for mark, title in zip(marks, titles, strict=True))
    for number, row in enumerate(rows):
        lines += "</tr><tr>"
        for at, (mark, cell) in enumerate(zip(marks, row, strict=True)):
            lines += f"<td{mark}>{f'<b>{escape(cell)}</b>' if (number, at) in bold else escape(cell)}</td>"
    return f"<div class=wide><table{f' class={kind}' if kind else ''}><tr>{lines}</tr></table></div>"


def list_facts(facts: Mapping[str, str]) -> str:
    """Returns names and what is known under each, as a list."""
    return "<dl>" + "".join(f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items()) + "</dl>"


def data_url(png: bytes) -> str:
    """Returns a picture as the address that an image within the page has."""
    return f"data:image/png;base64,{b64encode(png).decode('ascii')}"
