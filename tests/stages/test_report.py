"""The page: self-contained, text stays text, the table says what was measured."""

import csv
import re

from embprobe import page
from embprobe.make import make
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.probe import Probe
from embprobe.stages.report import Report
from embprobe.store import Store
from tests import tiny
from tests.conftest import Zoo

HOSTILE = "<img src=x onerror=alert(1)>"


def test_the_page_asks_nothing_of_anyone_and_shows_every_part(zoo: Zoo, place: Store):
    judged = Evaluate(samples=zoo["samples"], reference=zoo["images"], judge=tiny.ENCODER, k=2, device="cpu")
    metrics = make(judged.prepare(lambda first: make(first, place)), place)
    probe = make(Probe(embeddings=zoo["embeddings"], k=3), place)
    made = make(Report(artefacts=(metrics, probe), title=HOSTILE), place)
    text = (made.path / "report.html").read_text()
    assert not re.search(r"(?:src|href)=[\"']?(?!data:)[a-z]*:?//", text)
    assert HOSTILE not in text and "&lt;img src=x" in text
    for heading in ("Comparison", "Samples", "Reconstructions", "What the embeddings keep", "Nearest", "Provenance"):
        assert heading in text
    rows = list(csv.DictReader((made.path / "table.csv").open()))
    assert float(rows[0]["fd"]) == metrics.read_json("metrics.json")["judges"]["judge"]["metrics"]["fd"]["value"]
    assert list((made.path / "figures").glob("samples*.png"))


def test_class_names_in_tables_and_charts_stay_text():
    assert "<img" not in page.table([HOSTILE], [[page.Cell(HOSTILE, HOSTILE)]])
    chart = page.bars({HOSTILE: {HOSTILE: (0.5, 0.4, 0.6)}}, HOSTILE)
    assert "<img" not in chart and "&lt;img" in chart
    assert "<img" not in page.curves({HOSTILE: [(1.0, 2.0), (10.0, 1.0)]}, HOSTILE, HOSTILE)
