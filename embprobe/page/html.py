"""One self-contained HTML page: headings, tables that sort, pictures as data; nothing is fetched from anywhere."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from embprobe.console import visible
from embprobe.page.style import SCRIPT, STYLE

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, a smaller addition, whether it is the best; what it sorts by, its shade (0 to 1), a ring."""

    text: str
    small: str = ""
    best: bool = False
    sort: float | None = None
    shade: float | None = None
    ringed: bool = False


@dataclass(frozen=True)
class Section:
    """A part of the page; empty ones are left out."""

    name: str
    content: str

    @property
    def anchor(self) -> str:
        return "".join(c if c.isalnum() else "-" for c in self.name.lower())


def markup(words: str) -> str:
    """Text as HTML and SVG show it; control characters are spelled out, which XML could not hold."""
    return escape(visible(words))


def table(
    headers: Sequence[str],
    rows: Sequence[Sequence[Cell]],
    *,
    caption: str = "",
    floors: Sequence[int] = (),
    under: Mapping[int, int] | None = None,
    sortable: bool = True,
    kind: str = "",
) -> str:
    """An HTML table in a box that scrolls.

    `floors` are rows that are references: they stay below when it is sorted. `under`: rows that are folded under another.
    """
    numbers = {i for row in rows for i, cell in enumerate(row) if cell.sort is not None or cell.shade is not None}
    head = ""
    for i, header in enumerate(headers):
        word = "" if i in numbers else ' class="word"'
        head += f'<th scope="col"{word}>{f"<button>{markup(header)}</button>" if sortable else markup(header)}</th>'
    under = under or {}
    body = "".join(_line(row, numbers, _fold(i, under)) for i, row in enumerate(rows) if i not in floors)
    foot = "".join(_line(row, numbers) for i, row in enumerate(rows) if i in floors)
    titled = f"<caption><span>{markup(caption)}</span></caption>" if caption else ""
    foot = f'<tbody class="floor">\n{foot}</tbody>' if foot else ""
    name = markup(caption or ", ".join(headers[:3]))
    return (
        f'<div class="scroller"><div class="wide {kind}" tabindex="0" role="region" aria-label="Table: {name}"><table>{titled}'
        f"<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody>{foot}</table></div></div>"
    )


def _fold(place: int, under: Mapping[int, int]) -> Literal["opens", "inside", ""]:
    return "inside" if place in under else "opens" if place in under.values() else ""


def _line(row: Sequence[Cell], numbers: set[int], fold: Literal["opens", "inside", ""] = "") -> str:
    cells = "".join(_cell(cell, "td" if i else "th", i not in numbers) for i, cell in enumerate(row))
    if fold == "opens":  # a button before the first cell's words
        name = f"Each seed of {markup(row[0].text)}"
        button = f'<button class="fold" aria-expanded="false" aria-label="{name}"></button>'
        cells = cells.replace(">", f">{button}", 1)
    return f'<tr class="inside" hidden>{cells}</tr>\n' if fold == "inside" else f"<tr>{cells}</tr>\n"


def _cell(cell: Cell, tag: str, word: bool) -> str:
    marks = [name for name, on in (("best", cell.best), ("ringed", cell.ringed), ("word", word)) if on]
    attributes = ' scope="row"' if tag == "th" else ""
    attributes += f' class="{" ".join(marks)}"' if marks else ""
    attributes += f' data-sort="{cell.sort!r}"' if cell.sort is not None else ""
    if cell.shade is not None:
        attributes += f' style="background:rgb(59 111 212 / {min(1.0, max(0.0, cell.shade)) * 0.6:.2f})"'
    small = f" <small>{markup(cell.small)}</small>" if cell.small else ""
    return f"<{tag}{attributes}>{markup(cell.text)}{small}</{tag}>"


def picture(data: bytes, caption: str, beside: Sequence[str] = (), size: tuple[int, int] | None = None) -> str:
    """A WebP picture inside the page, with a word beside each of its rows."""
    width = f' width="{size[0]}" height="{size[1]}"' if size else ""
    source = f"data:image/webp;base64,{base64.b64encode(data).decode()}"
    image = f'<img alt="{markup(caption)}" src="{source}"{width}>'
    words = "".join(f'<span title="{markup(word)}">{markup(word)}</span>' for word in beside)
    image = f'<div class="sheet"><div class="beside">{words}</div>{image}</div>' if words else image
    return f"<figure>{image}<figcaption>{markup(caption)}</figcaption></figure>"


def strip(name: str, halves: Sequence[bytes], alt: str) -> str:
    """A line of images under its name, in halves of which the second goes below the first where there is no room."""
    drawn = ""
    for half in halves:
        drawn += f'<img alt="{markup(alt)}" src="data:image/webp;base64,{base64.b64encode(half).decode()}">'
        alt = ""
    return f'<div class="strip"><div class="named">{markup(name)}</div><div class="halves">{drawn}</div></div>'


def row(content: str, *, large: bool = False) -> str:
    """Figures beside each other, two or three of them."""
    return f'<div class="row{" large" if large else ""}">{content}</div>' if content else ""


def pair(first: str, second: str) -> str:
    """Two parts side by side where the screen is wide enough, else one below the other."""
    return f'<div class="pair"><div>{first}</div><div>{second}</div></div>' if first and second else first + second


def text(words: str, kind: str = "soft") -> str:
    """A paragraph."""
    return f'<p class="{kind}">{markup(words)}</p>' if words else ""


def heading(words: str) -> str:
    """A heading inside a section."""
    return f"<h3>{markup(words)}</h3>"


def bullets(items: Sequence[str]) -> str:
    """A list of sentences."""
    return f"<ul>{''.join(f'<li>{markup(item)}</li>' for item in items)}</ul>" if items else ""


def folded(summary: str, content: str, *, is_open: bool = False) -> str:
    """Content that opens on request; open in print."""
    opened = " open" if is_open else ""
    return f"<details{opened}><summary>{markup(summary)}</summary>{content}</details>" if content else ""


def code(lines: str, label: str) -> str:
    """Commands or entries as they are typed."""
    return f'<pre tabindex="0" role="region" aria-label="{markup(label)}"><code>{markup(lines)}</code></pre>'


def download(words: str, name: str, content: str) -> str:
    """A link that saves text as a file, without a script."""
    data = base64.b64encode(content.encode()).decode()
    return f'<p><a download="{markup(name)}" href="data:text/csv;charset=utf-8;base64,{data}">{markup(words)}</a></p>'


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole document."""
    shown = [s for s in sections if s.content]
    links = "".join(f'<li><a href="#{s.anchor}">{markup(s.name)}</a></li>' for s in shown[1:])
    body = "\n".join(f'<section id="{s.anchor}"><h2>{markup(s.name)}</h2>\n{s.content}</section>' for s in shown)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{markup(title)}</title><style>{STYLE}</style></head>\n<body><header><h1>{markup(title)}</h1>\n{lead}"
        f'<nav aria-label="Sections"><ul>{links}</ul></nav></header>\n<main>{body}</main>\n'
        f"<script>{SCRIPT}</script></body></html>\n"
    )
