"""A page with the published tables: columns and rows of the study, every judge over training, kept epochs, images from
elsewhere."""

import csv
import re
from typing import Any

import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.report import Report
from embprobe.store import Artefact, Store
from embprobe.study import Study, moments, paper
from tests import fake_study
from tests.fake_study import CLASSES, Elsewhere, Evaluate, Ingest

ENCODERS = list(fake_study.ENCODERS)
UNCONDITIONAL = ["encoder", "IS ↑", "ResNet ↑", "TV ↓", "recall ↑", "precision ↑", "FID ↓"]
BY_CLASS = ["encoder", "class", "IS ↑", "precision ↑", "recall ↑", "FID ↓"]


def study_of(store: Store, second: bool = True) -> tuple[Artefact, ...]:
    """Every encoder with classes and without, after 10, 50 and 100 epochs, the 50th kept."""
    parts = (
        fake_study.artefacts(store, conditional=c, kept=True, published=True, second=second) for c in (False, True)
    )
    return tuple(dict.fromkeys(a for part in parts for a in part))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """A report of all that, and of images from elsewhere."""
    store = Store(tmp_path_factory.mktemp("paper") / "store")
    theirs = make(Elsewhere(), store)
    judged = make(Evaluate(samples=theirs, reference=make(Ingest(), store), fd=15.0, second=3.0), store)
    return make(Report(artefacts=(*study_of(store), judged), published=True, latex=True), store)


@pytest.fixture(scope="module")
def tables(page: Artefact) -> dict[str, Any]:
    """The published tables by their names."""
    return {t["name"]: t for t in page.read_json("table.json")["published"]}


def test_tables_1_and_2_have_the_studys_columns_and_rows_after_the_kept_epoch_and_at_the_end(
    tables: dict[str, Any],
) -> None:
    assert list(tables)[:4] == ["Table 1a", "Table 1b", "Table 2a", "Table 2b"]
    for name, headers, epochs in (
        ("Table 1a", UNCONDITIONAL, "50"),
        ("Table 1b", UNCONDITIONAL, "100"),
        ("Table 2a", BY_CLASS, "50"),
        ("Table 2b", BY_CLASS, "100"),
    ):
        assert tables[name]["headers"] == headers and f"after {epochs} epochs" in tables[name]["caption"]
    assert [row[0] for row in tables["Table 1a"]["rows"]] == ENCODERS
    assert [row[:2] for row in tables["Table 2b"]["rows"]] == [[e, c] for e in ENCODERS for c in CLASSES]


def test_each_figure_is_the_right_judges(tables: dict[str, Any]) -> None:
    first = tables["Table 1b"]
    assert first["rows"][0] == [
        "ijepa",
        "2.500 ±0.20",
        "2.500 ±0.20",
        "0.05000 ±0.020",
        "0.4000 ±0.040",
        "0.8000 ±0.060",
        "27.00 ±2.0",
    ]
    assert "ResNet and TV by classifier (85.0 % accurate) ⚠ weak judge." in first["caption"]
    assert "FID is against all training images" in first["caption"]
    last = tables["Table 2b"]["rows"]
    assert last[0][2:] == ["0.5000 ±0.20"] * 4 and last[2][2:] == ["–"] * 4
    assert "A class with too few samples has no figures." in tables["Table 2b"]["caption"]


def test_the_papers_values_stand_above_those_found_here(tables: dict[str, Any]) -> None:
    found = tables["Paper against here, Table 1"]
    assert found["headers"] == ["encoder", "epochs", "from", "IS", "ResNet", "TV", "recall", "precision", "FID"]
    assert [row[:3] for row in found["rows"]][:4] == [
        ["MAE", "50", "paper"], ["MAE", "50", "here"], ["I-JEPA", "50", "paper"], ["I-JEPA", "50", "here"],
    ]  # fmt: skip
    assert found["values"][0] == [7.85, 2.59, 0.05, 0.30, 0.50, 20.66]
    assert found["values"][1] == [2.5, 2.5, 0.05, 0.4, 0.81, 19.0] and found["rows"][5][1] == "last (100)"
    by_class = tables["Paper against here, Table 2b"]
    assert [row[1] for row in by_class["rows"]] == ["cat", "cat", "dog", "dog", "wild", "wild"] * 2
    assert by_class["values"][0] == [2.10, 0.27, 0.47, 50.3] and by_class["values"][1] == [None] * 4


def test_they_stand_on_the_page_and_in_latex(page: Artefact) -> None:
    html = (page.path / "report.html").read_text()
    section = html.split("<h2>The published tables</h2>")[1].split("<h2>")[0]
    assert re.findall(r"<span>(Table \w+|Paper against here)", section) == [
        "Table 1a", "Table 1b", "Table 2a", "Table 2b", "Paper against here", "Paper against here",
    ]  # fmt: skip
    latex = (page.path / "tables.tex").read_text()
    assert latex.count(r"\caption{Table ") == 4 and latex.count(r"\caption{Paper against here") == 2 and latex.isascii()
    assert r"\caption{After the epochs that were kept" in latex


def test_every_judge_has_its_curves_and_areas(page: Artefact) -> None:
    drawn = {p.stem for p in (page.path / "figures").glob("curve-*.svg")}
    keys = {"fd", "fd_all", "kid", "score", "tv", "precision", "recall"}
    assert drawn == {f"curve-{k}" for k in keys} | {f"curve-inception-{k}" for k in keys}
    curves = page.read_json("table.json")["curves"]
    assert (
        set(curves["judges"]) == {"classifier", "inception"}
        and curves["points"] == curves["judges"]["classifier"]["points"]
    )
    assert curves["judges"]["inception"]["points"]["fd"]["mae"][-1][:2] == [100.0, 20.0]
    html = (page.path / "report.html").read_text()
    assert all(f"Areas under the curves. Judged by {name}" in html for name in curves["judges"])


def test_rows_after_kept_epochs_have_a_table_of_their_own_and_no_part_in_the_answer(page: Artefact) -> None:
    found = page.read_json("table.json")
    rows = found["over_training"]["inception"]
    assert [(r["label"], r["epochs"], r["values"]["fd"]["value"]) for r in rows[:4]] == [
        ("ijepa", 50, 28), ("ijepa", 100, 28), ("mae", 50, 20), ("mae", 100, 20),
    ]  # fmt: skip
    assert len(rows) == 12 and len([r for r in found["values"]["inception"] if r["kind"] == "samples"]) == 7
    assert len(page.metrics["systems"]) == 7 and not any("epochs" in said for said in page.metrics["answer"])
    written = list(csv.DictReader((page.path / "over-training.csv").open()))
    assert len(written) == 24 and {r["epochs"] for r in written} == {"50.0", "100.0"}
    html = (page.path / "report.html").read_text()
    assert html.count("<span>After the epochs that were kept, and at the end") == 2


def test_grids_after_kept_epochs_and_of_images_from_elsewhere_with_their_nearest_training_images(
    page: Artefact,
) -> None:
    html = (page.path / "report.html").read_text()
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert [c for c in captions if c.startswith("mae") and "nearest" not in c][:4] == [
        "mae, after 50 epochs", "mae, after 100 epochs", "mae, by class, after 50 epochs", "mae, by class, after 100 epochs",
    ]  # fmt: skip
    (theirs,) = [c for c in captions if c.startswith("theirs, from elsewhere") and "nearest" not in c]
    assert "epochs" not in theirs
    assert [c for c in captions if c.startswith("theirs, from elsewhere, pixels: nearest training image below")]
    assert list((page.path / "figures").glob("samples-theirs*.png")) and "real training images" in captions


def test_epochs_that_are_asked_for_are_shown_in_place_of_those_kept(place: Store) -> None:
    study = Study(fake_study.artefacts(place, kept=True))
    assert [m.epochs for m in moments.moments_of(study)] == [3.0, 10.0] * 3
    assert [m.epochs for m in moments.moments_of(study, (1.0,))] == [1.0, 10.0] * 3
    assert [m.last for m in moments.moments_of(study, (1.0, 3.0))] == [False, False, True] * 3


def test_epochs_after_which_nothing_was_drawn_are_told(place: Store) -> None:
    study = Study(fake_study.artefacts(place))
    with pytest.raises(UserError, match="--epochs 7: none of the samples given were drawn then, only after 1, 3, 10"):
        moments.moments_of(study, (3.0, 7.0))


def test_without_inception_another_judge_stands_in_and_is_not_set_beside_the_paper(place: Store) -> None:
    given = fake_study.artefacts(place, conditional=False, kept=True, published=True)
    study = Study(given)
    tables = {t.name: t for t in paper.published_tables(study, moments.moments_of(study))}
    assert list(tables) == ["Table 1a", "Table 1b", "Paper against here, Table 1", "Paper against here, Table 2b"]
    shown = tables["Table 1b"]
    assert shown.headers[1:] == [
        "IS ↑", "ResNet ↑", "TV ↓", "recall ↑ (by classifier)", "precision ↑ (by classifier)", "FID ↓ (FD by classifier)",
    ]  # fmt: skip
    assert shown.rows[0][1].text == "–" and "IS: –, since no classifier of ImageNet has judged." in shown.caption
    assert "recall, precision and FID in the place of Inception, which has not judged" in shown.caption
    here = tables["Paper against here, Table 1"].rows[5]
    assert [c.text for c in here[3:]] == ["–", "2.500", "0.05000", "–", "–", "–"]
