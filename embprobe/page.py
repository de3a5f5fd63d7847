"""One self-contained HTML page: tables, charts as SVG and pictures as data, with nothing fetched from anywhere."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

HUES = ("#3b6fd4", "#d4622b", "#2f9e6b", "#a04bc4", "#c4a02f", "#c43b6f", "#3ba7b8", "#7d7d7d")

STYLE = """
:root { color-scheme: light dark; --ink: #1b1d21; --soft: #646b76; --line: #dfe3e8; --back: #fff; --panel: #f6f7f9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8eaee; --soft: #9aa3b0; --line: #333a45; --back: #14161a; --panel: #1c2026; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 1200px; font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--back); }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; } h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; } h3 { font-size: 1rem; margin: 1.2rem 0 .3rem; }
p { max-width: 46rem; } .soft, figcaption, small { color: var(--soft); font-size: .9rem; }
.wide { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .45rem .7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; background: var(--back); }
th { background: var(--panel); font-weight: 600; } tr:last-child td { border-bottom: 0; } tr.floor td { color: var(--soft); font-style: italic; }
td.best { font-weight: 700; } td small { font-size: .78rem; }
.row { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(340px, 100%), 1fr)); gap: 1.2rem; } figure { margin: .4rem 0; min-width: 0; }
img { width: 100%; height: auto; image-rendering: pixelated; border-radius: 6px; display: block; }
svg { width: 100%; height: auto; font: 12px system-ui, sans-serif; } svg text { fill: var(--soft); } svg .axis { stroke: var(--line); }
code { font-size: .82rem; overflow-wrap: anywhere; } pre { overflow-x: auto; background: var(--panel); padding: .8rem; border-radius: 8px; }
details { margin: .6rem 0; } summary { cursor: pointer; }
@media print { body { max-width: none; } .wide { overflow: visible; } }
"""


@dataclass(frozen=True)
class Cell:
    """A table's cell: text, a smaller addition, and whether it is the best of its column."""

    text: str
    small: str = ""
    best: bool = False


def table(headers: Sequence[str], rows: Sequence[Sequence[Cell]], floors: Sequence[int] = ()) -> str:
    """An HTML table; `floors` are the rows that are references, not results."""
    head = "".join(f'<th scope="col">{escape(h)}</th>' for h in headers)
    body = ""
    for number, row in enumerate(rows):
        cells = "".join(
            f"<td{' class=best' if c.best else ''}>{escape(c.text)}{f' <small>{escape(c.small)}</small>' if c.small else ''}</td>"
            for c in row
        )
        body += f"<tr{' class=floor' if number in floors else ''}>{cells}</tr>\n"
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>'


def picture(png: bytes, caption: str) -> str:
    """A picture inside the page."""
    data = base64.b64encode(png).decode()
    return f'<figure><img alt="{escape(caption)}" src="data:image/png;base64,{data}"><figcaption>{escape(caption)}</figcaption></figure>'


def page(title: str, lead: str, sections: Sequence[tuple[str, str]]) -> str:
    """The whole document."""
    body = "\n".join(f"<section><h2>{escape(name)}</h2>\n{content}</section>" for name, content in sections if content)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><h1>{escape(title)}</h1>\n{lead}\n{body}\n</body></html>\n"
    )


# ---- pictures


def grid(images_NHWC: "np.ndarray", columns: int, gap: int = 2, scale: int = 1) -> "np.ndarray":
    """Images side by side on white, u8 (H,W,3), each pixel `scale` times as large."""
    import numpy as np

    count, height, width, _ = images_NHWC.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images_NHWC):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet.repeat(scale, 0).repeat(scale, 1)


def png(image_HWC: "np.ndarray") -> bytes:
    """An image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


# ---- charts


def curves(series: dict[str, list[tuple[float, float]]], x_label: str, y_label: str) -> str:
    """Lines over a logarithmic x; a legend names them. Returns SVG."""
    import math

    points = [p for line in series.values() for p in line]
    if not points:
        return ""
    width, height, left, bottom = 560, 300, 56, 44
    xs = [math.log10(max(x, 1e-9)) for x, _ in points]
    low_x, high_x = min(xs), max(max(xs), min(xs) + 1e-9)
    low_y, high_y = min(0.0, *(y for _, y in points)), max(y for _, y in points) * 1.05 or 1.0

    def place(x: float, y: float) -> str:
        px = left + (math.log10(max(x, 1e-9)) - low_x) / (high_x - low_x) * (width - left - 16)
        py = height - bottom - (y - low_y) / (high_y - low_y or 1) * (height - bottom - 12)
        return f"{px:.1f},{py:.1f}"

    parts = [_axes(width, height, left, bottom, low_y, high_y, x_label, y_label)]
    for power in range(math.floor(low_x), math.ceil(high_x) + 1):
        if low_x - 1e-9 <= power <= high_x + 1e-9:
            x = place(10.0**power, low_y).split(",")[0]
            parts.append(f'<text x="{x}" y="{height - bottom + 16}" text-anchor="middle">{_short(10.0**power)}</text>')
    for line, hue in zip(series.values(), HUES * 9, strict=False):
        path = " ".join(place(x, y) for x, y in sorted(line))
        dots = "".join(
            f'<circle cx="{p.split(",")[0]}" cy="{p.split(",")[1]}" r="3" fill="{hue}"/>' for p in path.split()
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{hue}" stroke-width="2"/>{dots}')
    return _svg(width, height, parts, list(series), f"{y_label} over {x_label}")


def bars(groups: dict[str, dict[str, tuple[float, float | None, float | None]]], y_label: str) -> str:
    """Grouped bars with intervals: group → series → (value, low, high). Returns SVG."""
    names = list(dict.fromkeys(n for g in groups.values() for n in g))
    if not names:
        return ""
    width, height, left, bottom = max(560, 60 + len(groups) * (12 * len(names) + 26)), 320, 44, 84
    parts = [_axes(width, height, left, bottom, 0.0, 1.0, "", y_label)]
    step = (width - left - 8) / len(groups)
    thick = min(20.0, step * 0.8 / len(names))
    for i, (group, values) in enumerate(groups.items()):
        start = left + i * step + step * 0.1
        for j, name in enumerate(names):
            if name not in values:
                continue
            value, low, high = values[name]
            x, y = start + j * thick, _level(value, height, bottom)
            parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{thick * 0.86:.1f}" height="{height - bottom - y:.1f}" fill="{HUES[j % len(HUES)]}"/>'
            )
            if low is not None and high is not None:
                middle = x + thick * 0.43
                parts.append(
                    f'<line x1="{middle:.1f}" x2="{middle:.1f}" y1="{_level(low, height, bottom):.1f}" '
                    f'y2="{_level(high, height, bottom):.1f}" stroke="currentColor"/>'
                )
        tilt = f'transform="rotate(-28 {start + step * 0.4:.1f} {height - bottom + 16})"'
        parts.append(
            f'<text x="{start + step * 0.4:.1f}" y="{height - bottom + 16}" text-anchor="end" {tilt}>{escape(group)}</text>'
        )
    return _svg(width, height, parts, names, y_label)


def _level(value: float, height: int, bottom: int) -> float:
    return height - bottom - max(0.0, min(1.0, value)) * (height - bottom - 12)


def _axes(width: int, height: int, left: int, bottom: int, low: float, high: float, x_label: str, y_label: str) -> str:
    lines = ""
    for i in range(5):
        value = low + (high - low) * i / 4
        y = height - bottom - i / 4 * (height - bottom - 12)
        lines += f'<line class="axis" x1="{left}" x2="{width - 8}" y1="{y:.1f}" y2="{y:.1f}"/>'
        lines += f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
    lines += f'<text x="{(left + width) / 2}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>'
    return (
        lines
        + f'<text x="12" y="{(height - bottom) / 2}" text-anchor="middle" transform="rotate(-90 12 {(height - bottom) / 2})">{escape(y_label)}</text>'
    )


def _svg(width: int, height: int, parts: list[str], names: list[str], label: str) -> str:
    legend = "".join(
        f'<span style="margin-right:1rem"><span style="display:inline-block;width:.8em;height:.8em;border-radius:2px;'
        f'background:{HUES[i % len(HUES)]}"></span> {escape(name)}</span>'
        for i, name in enumerate(names)
    )
    drawn = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    return f"<figure>{drawn}<figcaption>{legend}</figcaption></figure>"


def _short(value: float) -> str:
    if value and (abs(value) >= 1e4 or abs(value) < 1e-2):
        mantissa = f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
        return f"{value / 1000:.0f}k" if 1e4 <= abs(value) < 1e6 else mantissa
    return f"{value:.3g}"
