"""Charts as SVG: lines with whiskers over a logarithmic x, and horizontal bars with intervals."""

import math
from collections.abc import Callable, Mapping, Sequence

from embprobe.page.html import markup

Point = tuple[float, float, float | None, float | None]  # x, y and the ends of y's interval
Bar = tuple[float, float | None, float | None]

HUES = ("#3b6fd4", "#d4622b", "#2f9e6b", "#a04bc4", "#b08a1e", "#c43b6f", "#2f97a8", "#7d7d7d")
DASHES = ("", "6 3", "2 3", "8 3 2 3")  # told apart without colour too
WIDTH, HEIGHT = 420, 280
LEFT, RIGHT, TOP, BOTTOM = 56, 12, 12, 42


class AxisScale:
    """Places of values on a logarithmic x and a linear y."""

    def __init__(self, points: Sequence[Point]) -> None:
        xs = [math.log10(max(x, 1e-9)) for x, *_ in points]
        ys = [y for _, *values in points for y in values if y is not None]
        self.low_x, self.high_x = min(xs), max(max(xs), min(xs) + 1e-9)
        low, high = min(0.0, *ys), max(0.0, *ys)
        self.tick = _step(high - low)
        self.low_y, self.high_y = (
            self.tick * f(v / self.tick - s) for f, v, s in ((math.floor, low, -1e-9), (math.ceil, high, 1e-9))
        )

    def x(self, value: float) -> float:
        share = (math.log10(max(value, 1e-9)) - self.low_x) / (self.high_x - self.low_x)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low_y) / (self.high_y - self.low_y)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - TOP)


def curves(series: Mapping[str, Sequence[Point]], x_label: str, y_label: str) -> str:
    """Lines with whiskers; a legend names them. Returns a figure, empty without points."""
    points = [p for line in series.values() for p in line]
    if not points:
        return ""
    scale = AxisScale(points)
    parts = [_frame(scale, x_label, y_label)]
    for number, line in enumerate(series.values()):
        hue, dash = HUES[number % len(HUES)], DASHES[_shape(number)]
        ordered = sorted(line)
        path = " ".join(f"{scale.x(x):.1f},{scale.y(y):.1f}" for x, y, *_ in ordered)
        parts.append(
            f'<polyline points="{path}" fill="none" stroke="{hue}" stroke-width="2" stroke-dasharray="{dash}"/>'
        )
        for x, y, low, high in ordered:
            if low is not None and high is not None:
                place = f'x1="{scale.x(x):.1f}" x2="{scale.x(x):.1f}" y1="{scale.y(low):.1f}" y2="{scale.y(high):.1f}"'
                parts.append(f'<line {place} stroke="{hue}" stroke-width="1.5"/>')
            parts.append(marker(number, scale.x(x), scale.y(y)))
    return _figure(HEIGHT, parts, list(series), f"{y_label} over {x_label}", lines=True)


def bars(groups: Mapping[str, Mapping[str, Bar]], label: str) -> str:
    """Bars from 0 to 1 with intervals: group → series → (value, low, high). Returns a figure, empty without groups."""
    names = list(dict.fromkeys(n for g in groups.values() for n in g))
    if not names:
        return ""
    thick, left = 9, 150
    step = thick * len(names) + 10
    height = TOP + step * len(groups) + 34

    def place(value: float) -> float:
        return left + max(0.0, min(1.0, value)) * (WIDTH - left - RIGHT)

    parts = []
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(
            f'<line class="axis" x1="{place(tick):.1f}" x2="{place(tick):.1f}" y1="{TOP}" y2="{height - 34}"/>'
        )
        parts.append(f'<text x="{place(tick):.1f}" y="{height - 20}" text-anchor="middle">{tick:g}</text>')
    for i, (group, values) in enumerate(groups.items()):
        top = TOP + i * step + 5
        word = group if len(group) <= 21 else group[:20] + "…"
        middle = top + thick * len(names) / 2 + 4
        parts.append(f'<text class="name" x="{left - 8}" y="{middle:.1f}" text-anchor="end">{markup(word)}</text>')
        for j, name in enumerate(names):
            if name in values:
                parts.append(_bar(values[name], top + j * thick, thick, place, HUES[j % len(HUES)], f"{group}, {name}"))
    parts.append(f'<text x="{(left + WIDTH) / 2}" y="{height - 4}" text-anchor="middle">{markup(label)}</text>')
    return _figure(height, parts, names, label, lines=False)


def _bar(bar: Bar, y: float, thick: int, place: Callable[[float], float], hue: str, title: str) -> str:
    value, low, high = bar
    middle = y + thick * 0.43
    drawn = f'<rect x="{place(0):.1f}" y="{y:.1f}" width="{place(value) - place(0):.1f}" height="{thick * 0.86:.1f}"'
    drawn += f' fill="{hue}"><title>{markup(title)}: {value:.3f}</title></rect>'
    if low is not None and high is not None:
        ends = f'x1="{place(low):.1f}" x2="{place(high):.1f}" y1="{middle:.1f}" y2="{middle:.1f}"'
        drawn += f'<line {ends} stroke="currentColor" stroke-width="1.5"/>'
    return drawn


def _frame(scale: AxisScale, x_label: str, y_label: str) -> str:
    """Level lines, ticks and labels."""
    drawn = ""
    for i in range(round((scale.high_y - scale.low_y) / scale.tick) + 1):
        value = scale.low_y + i * scale.tick
        y = scale.y(value)
        drawn += f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        drawn += f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(value)}</text>'
    for value in _ticks(scale.low_x, scale.high_x):
        drawn += (
            f'<text x="{scale.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_short(value)}</text>'
        )
    middle = (HEIGHT - BOTTOM + TOP) / 2
    drawn += f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 6}" text-anchor="middle">{markup(x_label)}</text>'
    return (
        drawn
        + f'<text x="11" y="{middle}" text-anchor="middle" transform="rotate(-90 11 {middle})">{markup(y_label)}</text>'
    )


def _step(span: float) -> float:
    """1, 2, 2.5 or 5 times a power of ten, so that a span has three to five ticks."""
    power = 10.0 ** math.floor(math.log10(max(span, 1e-9) / 5))
    return next(m * power for m in (1, 2, 2.5, 5, 10) if max(span, 1e-9) / (m * power) <= 5)


def _ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times powers of ten within a range of exponents; the powers alone where there are many."""
    powers = range(math.floor(low), math.ceil(high) + 1)
    candidates = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    shown = [v for v in candidates if low - 1e-6 <= math.log10(v) <= high + 1e-6]
    return shown if len(shown) <= 7 else [v for v in shown if math.log10(v) == round(math.log10(v))]


def _shape(number: int) -> int:
    """Which of four dashes and signs a series has: another one each time that hues begin anew."""
    return (number + number // len(HUES)) % 4


def marker(number: int, x: float, y: float, *, control: bool = False) -> str:
    """The sign of a series: one of four shapes in one of eight hues; a control's is hollow and grey."""
    hue = HUES[number % len(HUES)]
    paint = 'class="control"' if control else f'fill="{hue}"'
    kind = _shape(number)
    if kind == 0:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.8" {paint}/>'
    if kind == 1:
        return f'<rect x="{x - 3.4:.1f}" y="{y - 3.4:.1f}" width="6.8" height="6.8" {paint}/>'
    corners = ((0, -4.4), (4.2, 3.4), (-4.2, 3.4)) if kind == 2 else ((0, -4.6), (4.6, 0), (0, 4.6), (-4.6, 0))
    return f'<polygon points="{" ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in corners)}" {paint}/>'


def _figure(height: int, parts: Sequence[str], names: Sequence[str], label: str, *, lines: bool) -> str:
    legend = ""
    for i, name in enumerate(names):
        hue = HUES[i % len(HUES)]
        key = f'<rect x="8" y="2" width="10" height="8" fill="{hue}"/>'
        if lines:
            dash = DASHES[_shape(i)]
            key = f'<line x1="0" x2="26" y1="6" y2="6" stroke="{hue}" stroke-width="2" stroke-dasharray="{dash}"/>'
            key += marker(i, 13, 6)
        legend += f'<span><svg viewBox="0 0 26 12" aria-hidden="true">{key}</svg>{markup(name)}</span>'
    drawn = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{markup(label)}">{"".join(parts)}</svg>'
    return f'<figure>{drawn}<figcaption class="legend">{legend}</figcaption></figure>'


def _short(value: float) -> str:
    if value and (abs(value) >= 1e4 or abs(value) < 1e-2):
        mantissa = f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
        return f"{value / 1000:.0f}k" if 1e4 <= abs(value) < 1e6 else mantissa
    return f"{value:.3g}"
