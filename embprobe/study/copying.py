"""The page's table of the search for copies."""

from embprobe.page import html
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.cautions import pvalue
from embprobe.study.gallery import Gallery
from embprobe.study.judging import JudgeReport
from embprobe.study.reading import SPACES, Study
from embprobe.study.usable import warned


def copies_section(study: Study, judge: JudgeReport, gallery: Gallery) -> str:
    """The tests, and the pairs that look most like copies to be opened."""
    pairs = html.folded("The pairs most like copies", gallery.neighbours())
    return copies_table(study, judge) + pairs


def copies_table(study: Study, judge: JudgeReport) -> str:
    """Whether samples lie nearer to training images than held-out images do, in each space."""
    rows = []
    for evaluation in (*study.final, *study.foreign):
        for space, test in evaluation.copies.items():
            rows.append([Cell(study.name(evaluation)), Cell(SPACES.get(space, space)), *_memory(test)])
    headers = [
        "encoder",
        "space",
        "p",
        "nearer to training",
        "expected",
        "copies found",
        "share, at least",
        "of known non-copies",
        "nearer than any other",
        "expected there",
        "training",
        "held out",
    ]
    caption = (
        "Nearest training image against nearest held-out image, one of each group of copies among them. The share of copies is "
        "a lower bound: what is altered more than a small shift or crop, a mirroring, brightness or contrast isn't found, and "
        "in features and latents only what lies as near there. Nearer than any other: samples that are nearer to their nearest "
        f"training image than any other is, about all of them for a model that only copies. {judge.caption}"
    )
    return html.table(headers, rows, caption=caption) if rows else ""


def _memory(test: Json) -> list[Cell]:
    def share(key: str) -> Cell:
        value = test.get(key)
        return Cell("–") if value is None else Cell(f"{value:.1%}", sort=value)

    p, low, base = (test.get(k) for k in ("p", "low", "base"))
    least = Cell("–") if low is None else Cell(f"≥ {low:.1%}", sort=low)
    counts = [Cell(str(test.get(k, "–")), sort=test.get(k)) for k in ("train", "held_out")]
    known = Cell("–") if p is None else Cell(pvalue(p), best=warned(test), sort=p)
    copies = f"{test.get('copies', '–')} of {test.get('count', '–')}"
    others = Cell("–") if base is None else Cell(f"{base[0]} of {base[1]}", sort=base[0])
    found = Cell(copies, sort=test.get("copies"))
    return [
        known,
        share("nearer"),
        share("expected"),
        found,
        least,
        others,
        share("inauthentic"),
        share("inauthentic_floor"),
        *counts,
    ]
