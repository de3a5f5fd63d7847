"""A forest plot as SVG: a row a metric, each encoder's value and interval on a common scale from worst to real images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from embprobe.metrics.table import significant
from embprobe.page.charts import HUES, Bar, marker
from embprobe.page.html import markup

GAP, HEAD, LINE, APART = 7, 22, 16, 506  # APART: where differences stand in the wide one
LONGEST = 28  # characters of a name


@dataclass(frozen=True)
class ForestRow:
    """A metric: the ends of its scale, each encoder's value with its interval, and the difference of the leading pair."""

    name: str
    worst: float
    floor: float
    values: Mapping[str, Bar]
    difference: str = ""
    leader: str = ""  # who leads by more than chance
    of_rows: bool = False  # the worst is the worst row, not what stands at that end elsewhere

    def place(self, value: float) -> float:
        """0 at the worst, 1 at the floor."""
        return (value - self.worst) / (self.floor - self.worst)

    @property
    def told(self) -> str:
        """The row in words."""
        values = ", ".join(f"{name} {value_text(bar)}" for name, bar in self.values.items())
        ends = f"worst {significant(self.worst)}, real {significant(self.floor)}"
        lead = f"; {self.leader or 'nobody'} leads: {self.difference}" if self.difference else ""
        return f"{self.name} ({ends}): {values}{lead}."


@dataclass(frozen=True)
class Forest:
    """All rows of a plot; `worst` says what the left end is."""

    encoders: Sequence[str]
    controls: frozenset[str]
    rows: Sequence[ForestRow]
    worst: str
    unusable: frozenset[str] = frozenset()

    def mark(self, name: str, x: float, y: float) -> str:
        return marker(self.encoders.index(name), x, y, control=name in self.controls)

    def hue(self, name: str) -> str:
        return HUES[self.encoders.index(name) % len(HUES)]


@dataclass(frozen=True)
class Layout:
    """Where the columns stand; in the narrow one a metric's name and difference stand above its lines."""

    name: Literal["wide", "narrow"]
    width: int
    left: int
    right: int
    values: int
    line: int
    above: int  # of each row

    @property
    def stacked(self) -> bool:
        return self.name == "narrow"


WIDE = Layout("wide", 700, 158, 392, 404, 12, 0)
NARROW = Layout("narrow", 360, 6, 214, 222, 13, 16)


def forest_figure(forest: Forest) -> str:
    """The plot, once for wide screens and once for narrow ones, of which either is seen."""
    drawn = "".join(forest_plot(forest, layout) for layout in (WIDE, NARROW))
    return f'<figure class="forest">{drawn}</figure>'


def forest_plot(forest: Forest, layout: Layout) -> str:
    """One drawing."""
    legend, top = _legend(forest, layout)
    parts = [legend]
    tall = max(2 if not layout.stacked else 1, len(forest.encoders)) * layout.line + layout.above + GAP
    bottom = top + HEAD + tall * len(forest.rows)
    parts.append(_heads(forest, layout, top + HEAD - 8))
    for number, row in enumerate(forest.rows):
        parts.append(_row(forest, row, layout, top + HEAD + number * tall, tall))
    title = "Each encoder's figures with 95 % intervals, from worst (left) to real held-out images (right)"
    told = " ".join(row.told for row in forest.rows)
    mark = f"forest-{layout.name}"
    return (
        f'<svg class="on-{layout.name}" viewBox="0 0 {layout.width} {bottom + 4}" role="img" '
        f'aria-labelledby="{mark}-title {mark}-told"><title id="{mark}-title">{title}</title>'
        f'<desc id="{mark}-told">{markup(told)}</desc>{"".join(parts)}</svg>'
    )


def value_text(bar: Bar) -> str:
    """A value in four digits ± half its interval in two."""
    value, low, high = bar
    half = "" if low is None or high is None else f" ±{significant((high - low) / 2, 2, like=value)}"
    return significant(value) + half


def _legend(forest: Forest, layout: Layout) -> tuple[str, int]:
    """Who is who, in as many lines as it takes, and where they end."""
    drawn, x, y = "", 4.0, 12
    for name in forest.encoders:
        word = _short(name) + (" (control)" if name in forest.controls else "")
        word += " – not usable yet" if name in forest.unusable else ""
        room = 26 + 6.7 * len(word)
        if x > 4 and x + room > layout.width:
            x, y = 4.0, y + LINE
        drawn += forest.mark(name, x + 5, y - 4) + f'<text class="name" x="{x + 14:.0f}" y="{y}">{markup(word)}</text>'
        x += room
    return drawn, y + 8


def _heads(forest: Forest, layout: Layout, y: float) -> str:
    """What the ends of the scale are, and what stands beside it."""
    worst = forest.worst if layout.stacked else f"worst: {forest.worst}"
    drawn = f'<text x="{layout.left}" y="{y}">{markup(worst)}</text>'
    drawn += f'<text x="{layout.right}" y="{y}" text-anchor="end">real images</text>'
    if not layout.stacked:
        drawn += f'<text x="{layout.values}" y="{y}">value ± 95 %</text>'
        if any(row.difference for row in forest.rows):
            drawn += f'<text x="{APART}" y="{y}">ahead of the next by [95 %]</text>'
    return drawn


def _scale(layout: Layout, top: float, bottom: float) -> str:
    """Lines at each quarter of the way."""
    drawn = ""
    for quarter in range(5):
        x = layout.left + (layout.right - layout.left) * quarter / 4
        kind = "axis" if quarter < 4 else "goal"
        drawn += f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>'
    return drawn


def _row(forest: Forest, row: ForestRow, layout: Layout, y: float, tall: float) -> str:
    """A metric's lines, one an encoder."""
    room = tall - layout.above - GAP
    drawn = f'<line class="axis" x1="0" x2="{layout.width}" y1="{y - 3:.1f}" y2="{y - 3:.1f}"/>'
    drawn += _scale(layout, y - 3 + layout.above, y + tall - 3)
    ends = f"{significant(row.worst, 3)}{' (worst row)' if row.of_rows else ''} … {significant(row.floor, 3)}"
    if layout.stacked:
        name = row.name + (" (left: worst row)" if row.of_rows else "")
        drawn += f'<text class="strong" x="{layout.left}" y="{y + 10:.1f}">{markup(name)}</text>'
        drawn += _difference(forest, row, layout.width - 2, y + 10, "end")
    else:
        middle = y + room / 2
        drawn += f'<text class="strong" x="4" y="{middle - 1:.1f}">{markup(row.name)}</text>'
        drawn += f'<text x="4" y="{middle + 12:.1f}">{markup(ends)}</text>'
        drawn += _difference(forest, row, APART, middle + 4, "start")
    step = room / max(1, len(forest.encoders))
    for number, name in enumerate(forest.encoders):
        if name in row.values:
            drawn += _line(forest, row, name, layout, y + layout.above + (number + 0.5) * step)
    return drawn


def _difference(forest: Forest, row: ForestRow, x: float, y: float, anchor: str) -> str:
    """The leader's sign and by how much it leads; ≈ where chance explains it."""
    if not row.leader:
        words = f"≈ {row.difference}" if row.difference[:1].isdigit() else row.difference
        return f'<text x="{x}" y="{y:.1f}" text-anchor="{anchor}">{markup(words)}</text>' if words else ""
    place = x - 7.2 * len(row.difference) - 8 if anchor == "end" else x + 5
    start = x if anchor == "end" else x + 15
    words = f'<text class="strong" x="{start}" y="{y:.1f}" text-anchor="{anchor}">{markup(row.difference)}</text>'
    return forest.mark(row.leader, place, y - 4) + words


def _line(forest: Forest, row: ForestRow, name: str, layout: Layout, y: float) -> str:
    """One encoder's whisker, sign and value; what lies beyond the scale is an arrow at its end."""
    value, low, high = row.values[name]
    span = layout.right - layout.left

    def at(figure: float) -> float:
        return layout.left + min(1.0, max(0.0, row.place(figure))) * span

    paint = 'class="control"' if name in forest.controls else f'stroke="{forest.hue(name)}"'
    drawn = f"<g><title>{markup(f'{row.name}, {name}: {value_text(row.values[name])}')}</title>"
    if low is not None and high is not None:
        drawn += f'<line {paint} x1="{at(low):.1f}" x2="{at(high):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke-width="2"/>'
    place, x = row.place(value), at(value)
    if -0.005 <= place <= 1.005:
        drawn += forest.mark(name, x, y)
    else:
        tip = 5 if place > 1 else -5
        fill = 'class="control"' if name in forest.controls else f'fill="{forest.hue(name)}"'
        drawn += (
            f'<polygon points="{x + tip:.1f},{y:.1f} {x - tip:.1f},{y - 4.5:.1f} {x - tip:.1f},{y + 4.5:.1f}" {fill}/>'
        )
    kind = "" if name in forest.controls else ' class="name"'
    return f'{drawn}<text{kind} x="{layout.values}" y="{y + 4:.1f}">{value_text(row.values[name])}</text></g>'


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
