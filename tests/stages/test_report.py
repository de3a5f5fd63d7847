"""The report: opens on the answer, shows every part, tolerates what older artefacts lack, is the same for machines."""

import csv
import io
import re
from pathlib import Path

import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.ingest import Ingest
from embprobe.stages.probe import Probe
from embprobe.stages.report import Report
from embprobe.store import Artefact, Store
from tests import fake_study, tiny
from tests.conftest import Zoo
from tests.fake_study import HOSTILE, Links


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """A report of the study written by hand."""
    store = Store(tmp_path_factory.mktemp("report") / "store")
    return make(Report(artefacts=fake_study.artefacts(store), title=HOSTILE, latex=True), store)


def differences(made: Artefact, metric: str) -> list[dict]:  # type: ignore[type-arg]
    return [d for d in made.read_json("table.json")["differences"] if d["metric"] == metric]


def text(made: Artefact) -> str:
    return (made.path / "report.html").read_text()


def test_it_opens_on_the_answer(whole: Artefact) -> None:
    first = re.split(r"<h2>", text(whole))[1]
    assert first.startswith("The answer")
    assert "<strong>ijepa</strong> leads mae in FD (12.0 against 20.0, by 8.0 [5.1, 10.9])" in first
    assert "corrected by Holm&#x27;s method for the" in first and "with a control of this page" in first
    assert "ijepa and mae</strong> can&#x27;t be told apart in" in first or "mae and ijepa</strong> can&#x27;t" in first
    assert "<strong>pixels</strong> (a control) is ahead of every learned encoder in" in first
    for caution in (
        "one training seed each",
        "85.0 % of held-out images right",
        "FD∞",
        "Inception has not judged",
    ):
        assert caution in first, caution
    assert "lead of 8.0 over mae (by class) stands against 4.0 between their decoders" in first


def test_who_copies_takes_no_part_and_is_told_first(place: Store) -> None:
    made = make(Report(artefacts=fake_study.artefacts(place, copier="mae", curve=False)), place)
    first, second = made.read_json("table.json")["answer"][0]["said"][:2]
    assert first.startswith(
        "mae is not usable yet: it copies: at least 15.0 % of its samples (found: 25.0 %) are copies"
    )
    assert second == "Nobody wins. ijepa has no other to be compared with."
    assert any(c.startswith("mae, by class may copy") for c in made.read_json("table.json")["cautions"])


def test_who_is_still_improving_has_not_won(place: Store) -> None:
    made = make(Report(artefacts=fake_study.artefacts(place, fall=2.0)), place)
    said = made.read_json("table.json")["answer"][0]["said"]
    assert said[0] == (
        "ijepa is not usable yet: it is still improving (FD fell from 24.0 to 12.0 between 3 and 10 epochs). It takes no part."
    )
    assert "Nobody wins." in said and not any("leads" in s for s in said)
    (fd,) = [d for d in differences(made, "fd") if (d["first"], d["second"]) == ("ijepa", "mae")]
    assert fd["barred"] and not fd["significant"]


def test_every_part_is_there_and_nothing_is_asked_of_anyone(whole: Artefact) -> None:
    headings = re.findall(r"<h2>(.*?)</h2>", text(whole))
    assert headings == [
        "The answer", "Comparison", "Curves over training", "Samples", "Reconstructions by step", "What the embeddings keep",
        "Nearest training images", "Classes", "Budget", "Provenance", "Whom to cite",
    ]  # fmt: skip
    assert len(Links(text(whole)).found) > 20 and Links(text(whole)).outside == []
    assert HOSTILE not in text(whole) and "&lt;img src=x" in text(whole)
    assert f"{HOSTILE.replace('<', '&lt;').replace('>', '&gt;')} and =cat look swapped" in text(whole)
    figures = {p.stem.split("-")[0] for p in (whole.path / "figures").iterdir()}
    assert figures == {"forest", "strips", "samples", "real", "reconstructions", "copies", "curve", "factors"}
    assert all((whole.path / "figures" / f"{p.stem}.svg").is_file() for p in (whole.path / "figures").iterdir())


def test_every_table_of_a_weak_judge_says_so(whole: Artefact) -> None:
    judged = [c for c in re.findall(r"<caption>(.*?)</caption>", text(whole)) if "classifier" in c]
    assert len(judged) >= 6 and all("Judged by classifier" in c and "⚠ weak judge" in c for c in judged)


def test_floors_are_real_images_and_reconstructions_for_every_metric(whole: Artefact) -> None:
    rows = list(csv.DictReader((whole.path / "table.csv").open()))
    floors = {r["encoder"]: r for r in rows if r["floor"] == "True"}
    assert set(floors) == {"real held-out images", *(f"{e}, reconstructions" for e in fake_study.ENCODERS)}
    assert (
        float(floors["real held-out images"]["density"]) == 1.0 and float(floors["mae, reconstructions"]["fd"]) == 10.0
    )
    assert float(rows[0]["fd"]) == 12.0 and float(rows[0]["latent_fd"]) == 3.0


def test_machines_get_the_same(whole: Artefact) -> None:
    found = whole.read_json("table.json")
    (fd,) = [d for d in found["differences"] if (d["metric"], d["first"], d["second"]) == ("fd", "ijepa", "mae")]
    assert fd["value"] == -8 and fd["paired"] and fd["significant"] and fd["drawn"] == "by class"
    assert found["answer"][0]["said"][0].startswith("ijepa leads mae in FD")
    assert found["curves"]["target"] == 20 and found["curves"]["rows"]["mae, by class"][
        "epochs_until"
    ] == pytest.approx(3.0)
    assert found["judges"][0]["weak"] and len(found["headers"]) == len(found["rows"][0])
    assert whole.metrics["answer"] == [s for a in found["answer"] for s in a["said"]]
    assert r"\begin{tabular}" in (whole.path / "tables.tex").read_text()


def test_provenance_has_every_fingerprint_and_command(whole: Artefact) -> None:
    for artefact in whole.lineage():
        if artefact != whole:
            assert artefact.fingerprint in text(whole)
    assert "embprobe extract --images" in text(whole)


def test_older_artefacts_are_compared_by_their_intervals(place: Store) -> None:
    made = make(Report(artefacts=fake_study.artefacts(place, plain=True)), place)
    found = made.read_json("table.json")
    assert {d["paired"] for d in found["differences"] if d["metric"] == "precision"} == {False} and not (
        made.path / "tables.tex"
    ).exists()
    assert "asked_class" not in csv.DictReader(io.StringIO((made.path / "table.csv").read_text())).fieldnames  # type: ignore[operator]
    assert "Classes</h2>" not in text(made) and "swapped" not in text(made).split("<body>")[1]


def test_judges_that_disagree_are_named_and_a_probed_one_is_flagged(place: Store) -> None:
    made = make(Report(artefacts=fake_study.artefacts(place, second=True, curve=False)), place)
    found = made.read_json("table.json")
    (said,) = [c for c in found["cautions"] if c.startswith("Judges disagree")]
    assert "FD (by class): ijepa by classifier, mae by inception" in said
    assert any(
        c.startswith("inception is, or was trained as, the encoder of ijepa, mae and pixels") for c in found["cautions"]
    )
    captions = [c for c in re.findall(r"<caption>(.*?)</caption>", text(made)) if "inception" in c]
    assert len(captions) >= 3 and all("⚠ the judge is a probed encoder" in c for c in captions)
    rows = list(csv.DictReader((made.path / "table.csv").open()))
    assert {(r["judge"], r["weak_judge"], r["judged_by_itself"]) for r in rows if r["kind"] == "samples"} == {
        ("classifier", "True", "False"),
        ("inception", "False", "True"),
    }


def test_samples_without_classes_have_a_grid_without_them(place: Store) -> None:
    given = fake_study.artefacts(place, plain=True, conditional=False)
    made = make(Report(artefacts=given, fd_target=15.0), place)
    assert (
        ", by class" not in text(made)
        and "Beside a row" not in text(made)
        and "samples-mae" in str(list(made.path.rglob("*.png")))
    )
    curves = made.read_json("table.json")["curves"]
    assert curves["rows"]["mae"]["epochs_until"] is None and curves["rows"]["ijepa"]["epochs_until"] < 10
    assert "not reached" in text(made) and len(curves["points"]["fd"]["mae"]) == 3


def test_training_seeds_are_kept_apart_and_compared_by_their_spread(place: Store) -> None:
    found = make(Report(artefacts=fake_study.artefacts(place, seeds=(0, 1, 2), curve=False)), place).read_json(
        "table.json"
    )
    labels = [r["label"] for r in found["values"]["classifier"] if r["kind"] == "samples" and r["encoder"] == "mae"]
    assert labels == ["mae, by class, seed 0", "mae, by class, seed 1", "mae, by class, seed 2"]
    (fd,) = [d for d in found["differences"] if (d["metric"], d["first"], d["second"]) == ("fd", "ijepa", "mae")]
    assert set(fd["variances"]) == {"images", "training"} and fd["value"] == pytest.approx(-8)
    assert not any("one training seed" in c for c in found["cautions"])


def test_a_target_is_above_0(whole: Artefact) -> None:
    with pytest.raises(UserError, match="--fd-target is -1; it must be above 0"):
        Report(artefacts=(whole,), fd_target=-1)


def test_real_artefacts_make_a_page(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    judged = Evaluate(samples=zoo["samples"], reference=zoo["images"], judges=(tiny.ENCODER,), k=2, device="cpu")
    metrics = make(judged, place)
    probe = make(Probe(embeddings=zoo["embeddings"], k=3), place)
    made = make(Report(artefacts=(metrics, probe)), place)
    for heading in ("Comparison", "Samples", "Reconstructions", "What the embeddings keep", "Nearest", "Provenance"):
        assert heading in text(made)
    rows = list(csv.DictReader((made.path / "table.csv").open()))
    assert float(rows[0]["fd"]) == metrics.read_json("metrics.json")["judges"][0]["metrics"]["fd"]["value"]
    assert list((made.path / "figures").glob("samples*.png"))


def test_real_images_from_elsewhere_have_a_row_a_grid_and_their_nearest_training_images(
    zoo: Zoo, place: Store, tmp_path: Path
) -> None:
    theirs = make(Ingest(source=tiny.flat_folder(tmp_path / "theirs", 12), size=16), place)
    judged = Evaluate(samples=theirs, reference=zoo["images"], judges=(tiny.ENCODER,), k=2, device="cpu")
    made = make(Report(artefacts=(make(judged, place),)), place)
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", text(made))
    assert captions[:2] == ["theirs, from elsewhere", "real training images"]
    assert any(c.startswith("theirs, from elsewhere, pixels: nearest training image below") for c in captions)


# ---- names


def chain_of(zoo: Zoo, place: Store) -> Artefact:
    """Figures of samples of a pretrained encoder, all in a store of its own."""
    from embprobe.stages.compress import Compress
    from embprobe.stages.decode import Decode
    from embprobe.stages.diffuse import Diffuse
    from embprobe.stages.extract import Extract
    from embprobe.stages.pretrain import Pretrain
    from embprobe.stages.sample import Sample

    images = make(Ingest(source="planted", count=48, size=16, val_share=0.25), place)
    encoder = make(Pretrain(images=images, objective="mae", **tiny.PRETRAIN), place)
    latents = make(Compress(embeddings=make(Extract(images=images, encoder=encoder), place), **tiny.COMPRESS), place)
    denoiser = make(Diffuse(latents=latents, conditional=True, **tiny.DIFFUSE), place)
    decoder = make(Decode(latents=latents, **tiny.DECODE), place)
    samples = make(Sample(denoiser=denoiser, decoder=decoder, **tiny.SAMPLE), place)
    return make(Evaluate(samples=samples, reference=images, judges=(encoder,), k=2, device="cpu"), place)


def test_rows_and_judges_are_called_by_their_alias_and_a_new_one_makes_a_new_page(zoo: Zoo, place: Store) -> None:
    judged = chain_of(zoo, place)
    unnamed = make(Report(artefacts=(judged,)), place)
    assert unnamed.metrics["systems"] == ["mae, by class"]
    (encoder,) = {a for a in judged.lineage() if a.stage == "pretrain"}
    (images,) = {a for a in judged.lineage() if a.stage == "ingest"}
    place.name("mae-small", encoder)
    place.name("scenes", images)
    place.name("elsewhere", unnamed)  # a name of what is not behind the page
    named = make(Report(artefacts=(judged,)), place)
    assert named != unnamed and named.metrics["systems"] == ["mae-small, by class"]
    assert named.read_json("table.json")["judges"][0]["name"] == "mae-small"
    assert '<p class="soft">scenes: 48 images of 16 px' in text(named)
    assert encoder.short not in text(named).replace(encoder.fingerprint, "")
    assert make(Report(artefacts=(judged,)), place) == named


def test_a_classifiers_fingerprint_is_no_name() -> None:
    from embprobe.study import Study

    study = Study((), {"55f95f5be1aa": "my judge"})
    assert study.plain_name({"name": "classifier 55f95f5be1"}) == "my judge"
    assert Study(()).plain_name({"name": "classifier 55f95f5be1"}) == "classifier"
    assert Study(()).plain_name({"name": "55f95f5be1"}) == "pretrained encoder"
    assert Study(()).plain_name({"name": "random:vit-16x1-h2-p4"}) == "random:vit-16x1-h2-p4"


def test_every_figure_is_a_pdf_too_where_asked_for(place: Store) -> None:
    pytest.importorskip("svglib")
    made = make(Report(artefacts=fake_study.artefacts(place, curve=False), pdf=True), place)
    files = {p.name for p in (made.path / "figures").iterdir()}
    drawn = {name.removesuffix(".svg") for name in files if name.endswith(".svg")}
    assert {"forest", "strips", "factors-grid"} <= drawn and {f"{name}.pdf" for name in drawn} <= files
    assert (made.path / "figures" / "forest.pdf").read_bytes().startswith(b"%PDF")


def test_the_short_table_and_the_sentence_are_for_terminals_too(whole: Artefact) -> None:
    found = whole.read_json("table.json")
    assert found["headline"].startswith("No clear winner: ijepa is ahead of mae in 2 of 9 figures")
    lines = [found["short"]["headers"], *found["short"]["rows"]]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    assert sum(widths) + 2 * (len(widths) - 1) <= 100 and lines[1][:2] == ["ijepa, by class", "12.0 ±2"]


def test_no_class_is_a_number_and_pairs_like_copies_are_folded(whole: Artefact) -> None:
    assert '<th scope="col">dog</th>' in text(whole) and '<th scope="col">1</th>' not in text(whole)
    assert re.search(r"<details><summary>The pairs most like copies</summary><div class=\"row", text(whole))
