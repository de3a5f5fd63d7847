"""What the page says of prompts: how often samples agree with theirs, by factor, and what no prompt at all gives."""

from collections.abc import Iterator, Sequence

from embprobe.metrics.estimate import Estimate
from embprobe.page import html
from embprobe.page.html import Cell
from embprobe.store import Json
from embprobe.study.judging import JudgeReport

HEADERS = ("factor", "samples of", "n", "agree", "95 % interval", "by chance", "the judge on real images")
NULL_HEADERS = ("factor", "samples of", "n", "TV from training images", "by chance below")
ROWS = {"joint": "all that is named", "seen": "words seen together", "unseen": "words never seen together"}
WORDS = (
    "Share of samples that a judge of factors finds as their prompt names them. By chance: training images in the samples' "
    "place. Words seen together: prompts of several words that some training caption names at once, or that none does."
)
NULL_WORDS = (
    "Samples without a prompt: how far the shares of what the judge sees lie from those of training images (total variation), "
    "and what 95 of 100 draws of as many training images stay below."
)


def prompts_section(judged: Sequence[JudgeReport]) -> str:
    """A table of agreement for each judge of factors, and one of samples without a prompt."""
    content = ""
    for judge in judged:
        reports = [
            (label, r["agreement"]) for label, r in zip(judge.labels, judge.reports, strict=True) if "agreement" in r
        ]
        lines = [line for label, found in reports for line in _lines(label, found)]
        null = [line for label, found in reports for line in _null_lines(label, found.get("null"))]
        content += html.text(WORDS) + html.table(HEADERS, lines, caption=judge.caption) if lines else ""
        content += html.text(NULL_WORDS) + html.table(NULL_HEADERS, null, caption=judge.caption) if null else ""
    return content


def _lines(label: str, found: Json) -> Iterator[list[Cell]]:
    rows = {**found["factors"], **{words: found[key] for key, words in ROWS.items()}}
    for name, json in rows.items():
        if json is None:
            continue
        estimate = Estimate.of(json)
        low, high = estimate.ends or (0.0, 1.0)
        ceiling = None if estimate.floor is None else estimate.floor.value
        yield [Cell(name), Cell(label), Cell(str(json["count"]), sort=json["count"]), _share(estimate.value),
               Cell(f"[{low:.3f}, {high:.3f}]"), _share(json["chance"]), _share(ceiling)]  # fmt: skip


def _null_lines(label: str, null: Json) -> Iterator[list[Cell]]:
    for name, told in null["factors"].items() if null else ():
        count = Cell(str(null["count"]), sort=null["count"])
        yield [Cell(name), Cell(label), count, _share(told["tv"]), _share(told["chance"])]


def _share(value: float | None) -> Cell:
    return Cell("–") if value is None else Cell(f"{value:.3f}", sort=value)
