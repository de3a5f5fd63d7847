"""What width, training images and steps buy: each encoder's surface of FD, and the power law it follows, if any."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from embprobe.metrics.scaling import STEPS, Exponent, Law
from embprobe.metrics.table import METRIC, significant
from embprobe.page import html
from embprobe.page.charts import curves
from embprobe.page.figures import Figures
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.cautions import pvalue
from embprobe.study.chance import LEVEL
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import Study
from embprobe.study.surfaces import AXES, FIGURE, IMAGES, WIDTH, Surface, surfaces
from embprobe.study.table import half_width
from embprobe.study.verdict import listed

NONE = Law((), {}, 0)
FEW = 3  # sizes by which a law is told from any other falling line
WORDS = (
    "How FD falls with the denoiser's width, its training images and its steps. The law: FD − floor is proportional to a power "
    "of each, fitted by least squares to logarithms; the floor is what the decoder makes of held-out images, where that was "
    "judged at the same number and nothing scores below it, else what real images score. "
    "Over different floors exponents are no comparison of encoders. "
    "Exponents of width and images have one point a training, at the "
    "last steps that all share; that of steps is the mean slope within trainings, since milestones of one depend on each other. "
    "Intervals are Student's, over trainings; a claim is corrected by Holm's method for all exponents of this section."
)

# ---- in words


def claims(found: Sequence[Surface]) -> list[dict[str, float]]:
    """p of every surface's exponents by axis, corrected for all of them."""
    from embprobe.metrics.intervals import holm

    every = [(i, e) for i, s in enumerate(found) for e in (s.law.exponents if s.law else ())]
    corrected: list[dict[str, float]] = [{} for _ in found]
    for (i, e), p in zip(every, holm([e.p for _, e in every]), strict=True):
        corrected[i][e.axis] = p
    return corrected


def said(surface: Surface, corrected: Mapping[str, float]) -> list[str]:
    """What follows from a surface, and what doesn't."""
    law = surface.law
    if law is None:
        why = f"{points_are(surface.sunk)} not above the floor" if surface.knows else "the judge can't tell the classes"
        return [f"{surface.name}: no law, since {why}."]
    told = [doubling_words(surface, e, corrected[e.axis]) for e in law.exponents if not bent(law, e.axis)]
    absent = [
        AXES[a] for a, sizes in _sizes(surface).items() if len(sizes) > 1 and a not in {e.axis for e in law.exponents}
    ]
    if absent:
        told.append(f"{surface.name}: {listed(absent)} can't be told: too few trainings, or axes that change together.")
    curved = [AXES[e.axis] for e in law.exponents if bent(law, e.axis)]
    if curved:
        told.append(
            f"{surface.name}: FD follows no power of {listed(curved)} (straight lines miss more than chance): nothing is claimed "
            "along there, and exponents are means over what was tried."
        )
    if surface.below:
        told.append(
            f"{surface.name}: {points_are(surface.below)} below its decoder's reconstructions of held-out images, "
            "so that excess is over real held-out images."
        )
    if surface.copying:
        told.append(
            f"{surface.name}: samples copy training images where these are {listed(list(map(str, surface.copying)))}; their FD "
            "is lower for it."
        )
    return told


def points_are(points: int) -> str:
    """`1 point is`, `2 points are`."""
    return "1 point is" if points == 1 else f"{points} points are"


def bent(law: Law, axis: str) -> bool:
    """Whether a figure is known to follow no power of an axis; width and images are tested together."""
    return law.bends.get(STEPS if axis == STEPS else "sizes", 1.0) < LEVEL


def doubling_words(surface: Surface, exponent: Exponent, p: float) -> str:
    """What twice as much does, or that it can't be told."""
    axis, (factor, low, high) = AXES[exponent.axis], exponent.doubling
    few = f" From {exponent.levels} sizes: whether by a power can't be told." if exponent.levels < FEW else ""
    if p >= LEVEL:
        between = f"between {_percent(low)} and {_percent(high)}"
        return f"{surface.name}: how twice the {axis} would change FD's excess can't be told ({between}).{few}"
    ends = sorted((abs(low - 1), abs(high - 1)))
    how = f"{100 * abs(factor - 1):.0f} % [{100 * ends[0]:.0f}, {100 * ends[1]:.0f}]"
    return f"{surface.name}: with twice the {axis} FD's excess is {how} {'lower' if factor < 1 else 'higher'}.{few}"


def _percent(factor: float) -> str:
    return f"{100 * (factor - 1):+.0f} %".replace("-", "−") if factor < 100 else "any rise"


def _sizes(surface: Surface) -> dict[str, list[int]]:
    """The sizes along each axis."""
    width, images = (sorted(set(sizes)) for sizes in zip(*surface.places, strict=True))
    return {WIDTH: width, IMAGES: images, STEPS: surface.steps}


# ---- on the page


def what_scales(study: Study, judged: Sequence[JudgeReport], figures: Figures) -> str:
    """The section, by the first judge; empty where no encoder has several widths or numbers of images."""
    found = surfaces(study, judged[0])
    if not found:
        return ""
    corrected = claims(found)
    content = html.bullets(
        [words for surface, p in zip(found, corrected, strict=True) for words in said(surface, p)]
    ) + html.text(WORDS)
    content += exponent_table(found, corrected)
    charts = ""
    for number, surface in enumerate(found):
        drawn = chart(surface)
        figures.drawing(f"scaling-{number + 1}", drawn)
        charts += drawn
    tables = "".join(surface_table(surface) for surface in found)
    return content + html.row(charts, large=True) + tables


def exponent_table(found: Sequence[Surface], corrected: Sequence[Mapping[str, float]]) -> str:
    """A row for each encoder and axis."""
    rows = []
    for surface, claimed in zip(found, corrected, strict=True):
        law = surface.law or NONE
        for e in law.exponents:
            p, sizes = claimed[e.axis], _sizes(surface)[e.axis]
            line = [Cell(surface.name), Cell(AXES[e.axis]), Cell(", ".join(map(str, sizes)))]
            line += [Cell(significant(e.value, 3), _ends(e), best=p < LEVEL and not bent(law, e.axis), sort=e.value)]
            rows.append([*line, Cell(pvalue(p), sort=p), Cell(str(law.trainings))])
    headers = ["encoder", "axis", "sizes", "exponent", "p corrected", "trainings"]
    return html.table(headers, rows, caption="FD − floor ∝ size^−exponent, 95 % intervals") if rows else ""


def _ends(exponent: Exponent) -> str:
    return f"[{significant(exponent.low, 3)}, {significant(exponent.high, 3)}]"


def surface_table(surface: Surface) -> str:
    """FD by width and images (rows) and steps (columns)."""
    rows = []
    for place in surface.places:
        line = [Cell(str(size), sort=size) for size in place]
        for step in surface.steps:
            mean = surface.mean(place, step)
            line.append(Cell("–") if mean is None else Cell(significant(mean.value), half_width(mean), sort=mean.value))
        rows.append(line)
    floors = {point.floor.value for _, seen in surface.trainings.values() for point in seen.values() if point.floor}
    floor = f"; floor {listed([significant(f) for f in sorted(floors)])}" if floors else ""
    counts = {at: sum(place == at for place, _ in surface.trainings.values()) for at in surface.places}
    seeds = f"; mean over {listed([str(n) for n in sorted(set(counts.values()))])} seeds"
    headers = ["width", "training images", *(f"{step} steps" for step in surface.steps)]
    return html.table(headers, rows, caption=f"{METRIC[FIGURE].header} of {surface.name}{seeds}{floor}")


def chart(surface: Surface) -> str:
    """FD over steps, a line for each width and number of images; over images where there is one step alone.

    The mean over seeds alone: of two an interval is wider than the chart, and the table has it.
    """
    lines: dict[str, list[tuple[float, float, float | None, float | None]]] = defaultdict(list)
    over_steps = len(surface.steps) > 1
    for width, images in surface.places:
        for step in surface.steps:
            mean = surface.mean((width, images), step)
            if mean is not None:
                name = f"width {width}, {images} images" if over_steps else f"width {width}"
                lines[name].append((step if over_steps else images, mean.value, None, None))
    return curves(lines, "steps" if over_steps else "training images", f"{METRIC[FIGURE].name}, {surface.name}")


def surfaces_json(study: Study, judged: Sequence[JudgeReport]) -> list[Json]:
    """Every surface and law, for machines."""
    found = surfaces(study, judged[0])
    return [_json(surface, corrected) for surface, corrected in zip(found, claims(found), strict=True)]


def _json(surface: Surface, corrected: Mapping[str, float]) -> Json:
    law = surface.law
    points = [
        {
            "width": width,
            "train_images": images,
            "steps": step,
            "value": point.row.values[FIGURE].value,
            "floor": point.floor and point.floor.value,
        }
        for (width, images), seen in surface.trainings.values()
        for step, point in sorted(seen.items())
    ]
    exponents = [
        {"axis": e.axis, "value": e.value, "low": e.low, "high": e.high, "p": e.p, "corrected": corrected[e.axis]}
        for e in (law.exponents if law else ())
    ]
    told = {
        "encoder": surface.name,
        "figure": FIGURE,
        "points": points,
        "exponents": exponents,
        "said": said(surface, corrected),
    }
    return told | {"bends": dict(law.bends) if law else {}, "trainings": len(surface.trainings)}
