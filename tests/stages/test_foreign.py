"""Images from elsewhere, the split that is held out, the whole reference, and Inception that is or isn't there."""

from pathlib import Path

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.evaluation import inception, judges
from embprobe.evaluation.output import JudgeOutput
from embprobe.making import make
from embprobe.stages import evaluate
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.ingest import Ingest
from embprobe.stages.probe import Probe
from embprobe.stages.report import Report
from embprobe.store import Artefact, Json, Store
from tests import tiny
from tests.conftest import Shell, Zoo


def three_splits(root: Path) -> Path:
    """CIFAR's layout: training and test images by class, no validation."""
    for number, (split, count) in enumerate((("train", 14), ("test", 8))):
        for label, name in enumerate(("bird", "cat")):
            for index in range(count):
                tiny.picture(root / split / name / f"{index}.png", 5000 + 1000 * number + 100 * label + index)
    return root


@pytest.fixture
def birds(place: Store, tmp_path: Path) -> Artefact:
    return make(Ingest(source=str(three_splits(tmp_path / "cifar")), size=16, val_share=0.25), place)


def figures(samples: Artefact, reference: Artefact, place: Store, **options: Json) -> Artefact:
    stage = Evaluate(samples=samples, reference=reference, judges=(tiny.ENCODER,), k=2, device="cpu", **options)
    return make(stage, place)


# ---- held out


def test_held_out_is_test_where_there_is_one_and_else_what_is_asked_for(birds: Artefact, place: Store) -> None:
    by_itself, asked, val = (
        figures(birds, birds, place, **given) for given in ({}, {"held_out": "test"}, {"held_out": "val"})
    )
    assert by_itself == asked != val
    assert [a.spec["held_out"] for a in (by_itself, val)] == ["test", "val"]
    assert by_itself.metrics["held_out"] == "test" and by_itself.metrics["count"] == 16
    assert by_itself.read_json("metrics.json")["protocol"]["held out"] == "the test split"
    assert val.metrics["count"] == 7


def test_a_split_that_holds_nothing_is_refused_and_the_others_named(zoo: Zoo) -> None:
    with pytest.raises(
        UserError, match=r"--held-out test: ingest .* has no test images, only train \(36\), val \(12\)"
    ):
        Evaluate(samples=zoo["samples"], reference=zoo["images"], held_out="test")


def test_probes_are_measured_where_figures_are(place: Store, tmp_path: Path) -> None:
    from embprobe.stages.extract import Extract

    images = make(Ingest(source=str(three_splits(tmp_path / "cifar")), size=16, val_share=0.2), place)
    embeddings = make(Extract(images=images, encoder=tiny.ENCODER, device="cpu"), place)
    found = [make(Probe(embeddings=embeddings, k=3, **given), place) for given in ({}, {"held_out": "val"})]
    protocols = [probe.read_json("probe.json")["protocol"] for probe in found]
    assert [(p["split"], p["held_out"]) for p in protocols] == [("test", 16), ("val", 6)]


# ---- images from elsewhere


def test_a_folder_is_taken_at_the_references_size_and_its_classes_by_name(
    birds: Artefact, place: Store, tmp_path: Path, shell: Shell
) -> None:
    place.name("cifar", birds)
    for name in ("bird", "cat"):
        tiny.class_folder(tmp_path / "gen", [name], 9)
    given = ["--reference", "cifar", "--judges", tiny.ENCODER, "--k", 2, "--device", "cpu", "--store", place.root]
    done = shell("evaluate", "--samples", tmp_path / "gen", *given)
    assert done.code == 0, done.err
    (made,) = [a for a in place.artefacts() if a.stage == "evaluate"]
    assert made.inputs["samples"].metrics["size"] == 16
    assert made.read_json("metrics.json")["judges"][0]["per_class"]["cat"]["count"] == 9
    tiny.class_folder(tmp_path / "gen", ["dog"], 9)
    done = shell("evaluate", "--samples", tmp_path / "gen", *given)
    assert done.code == 2 and "classes dog are none of the reference's (bird, cat" in done.err


def test_images_from_elsewhere_are_rows_and_searched_for_copies(birds: Artefact, place: Store, tmp_path: Path) -> None:
    tiny.class_folder(tmp_path / "gen", ["bird"], 9)
    made = [
        make(Ingest(source=str(tiny.flat_folder(tmp_path / name, count)), size=16, val_share=0), place)
        for name, count in (("ours", 12), ("theirs", 13))
    ]
    evaluated = tuple(figures(images, birds, place) for images in made)
    assert evaluated[0].read_json("metrics.json")["memorisation"].keys() == {"pixels", "judge"}
    table = make(Report(artefacts=evaluated), place).read_json("table.json")
    rows = [row for row in table["values"][tiny.ENCODER] if row["kind"] == "samples"]
    assert [row["label"] for row in rows] == ["ours, from elsewhere", "theirs, from elsewhere"]
    assert {"fd", "kid", "precision", "recall"} <= rows[0]["values"].keys()
    assert any(d["metric"] == "kid" and d["drawn"] == "from elsewhere" for d in table["differences"])


# ---- rows that must not be compared


def test_rows_measured_in_other_ways_are_all_shown_and_not_compared(zoo: Zoo, place: Store, birds: Artefact) -> None:
    ways = ({}, {"k": 4})
    elsewhere = make(Ingest(source="planted", count=30, size=16, seed=5), place)
    evaluated = tuple(
        make(Evaluate(samples=images, reference=zoo["images"], judges=(tiny.ENCODER,), device="cpu", **way), place)
        for images in (elsewhere, birds)
        for way in ways
    )
    table = make(Report(artefacts=evaluated), place).read_json("table.json")
    rows = [row["label"] for row in table["values"][tiny.ENCODER] if row["kind"] == "samples"]
    assert sorted(rows) == sorted(f"{name}, from elsewhere, k {k}" for name in ("cifar", "planted") for k in (3, 4))
    assert {d["drawn"] for d in table["differences"]} == {"from elsewhere, k 3", "from elsewhere, k 4"}
    assert any("measured in different ways are not compared" in c for c in table["cautions"])


def test_two_judges_of_one_name_are_two(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    import torchvision

    evaluated = []
    for seed in range(2):
        torch.manual_seed(seed)
        torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / f"net{seed}.pth")
        images = make(Ingest(source="planted", count=20, size=16, seed=seed), place)
        stage = Evaluate(
            samples=images, reference=zoo["images"], judges=(str(tmp_path / f"net{seed}.pth"),), device="cpu"
        )
        evaluated.append(make(stage, place))
    table = make(Report(artefacts=tuple(evaluated)), place).read_json("table.json")
    names = [judge["name"] for judge in table["judges"]]
    assert len(set(names)) == 2 and all(name.startswith("squeezenet1_1 ") for name in names)
    assert table["differences"] == []


# ---- Inception


def test_inception_that_is_asked_for_and_absent_is_an_error_that_says_how_to_place_it(
    zoo: Zoo, place: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMBPROBE_WEIGHTS", str(tmp_path))
    if (Path("/tmp") / inception.INCEPTION).exists():
        pytest.skip("Inception's weights are in /tmp")
    stage = Evaluate(samples=zoo["samples"], reference=zoo["images"], judges=("inception",), device="cpu")
    with pytest.raises(UserError, match=r"inception-2015-12-05.pt are not here; .* EMBPROBE_WEIGHTS"):
        make(stage, place)


def stand_in(path: Path) -> judges.Judge:
    """A judge called Inception that sees an image's mean colour and one of two classes."""

    def look(images_BHWC: torch.Tensor) -> JudgeOutput:
        mean = images_BHWC.float().flatten(1, 2).mean(1)
        return JudgeOutput(mean, mean[:, :2].softmax(1))

    return judges.Judge("inception", look, torch.nn.Identity())


def test_inception_left_out_is_said_and_found_later_it_is_computed_then(
    zoo: Zoo, place: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stage = Evaluate(samples=zoo["samples"], reference=zoo["images"], k=2, device="cpu")
    quick = evaluate.Classify(images=zoo["images"], steps=2, batch=8, device="cpu")
    monkeypatch.setattr(evaluate, "Classify", lambda **_: quick)
    monkeypatch.setattr(inception, "inception_there", lambda: False)
    without = make(stage, place)
    assert "not judged by Inception, whose weights are not on this machine" in capsys.readouterr().err
    monkeypatch.setattr(inception, "inception_there", lambda: True)
    monkeypatch.setattr(judges, "inception_file", lambda: tmp_path)
    monkeypatch.setattr(judges, "_inception", stand_in)
    found = make(stage, place)
    assert found != without and found.spec["judges"] != without.spec["judges"]
    names = [[report["name"] for report in a.read_json("metrics.json")["judges"]] for a in (without, found)]
    assert len(names[0]) == 1 and names[1] == [*names[0], "inception"]
    of_inception = found.read_json("metrics.json")["judges"][1]
    assert "score" in of_inception["metrics"] and "tv" not in of_inception["metrics"]
    caution = [make(Report(artefacts=(a,)), place).read_json("table.json")["cautions"] for a in (without, found)]
    assert [any("Inception has not judged" in c for c in each) for each in caution] == [True, False]


# ---- the whole reference


def test_fd_against_all_training_images_stands_beside_that_at_matched_numbers(zoo: Zoo, place: Store) -> None:
    made = figures(zoo["samples"], zoo["images"], place, reference_count="all")
    report = made.read_json("metrics.json")["judges"][0]
    assert report["whole"] == {"samples": 24, "training": 36} and report["count"] == 24
    assert report["metrics"]["fd_all"]["value"] != report["metrics"]["fd"]["value"]
    assert "24 against 36" in made.read_json("metrics.json")["protocol"]["counts"]
    page = (make(Report(artefacts=(made,)), place).path / "report.html").read_text()
    assert "FD, all training images ↓" in page
    assert (
        "fd_all" not in figures(zoo["samples"], zoo["images"], place).read_json("metrics.json")["judges"][0]["metrics"]
    )


def test_features_that_are_no_numbers_end_in_one_line(zoo: Zoo, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(path: Path) -> judges.Judge:
        return judges.Judge(
            "inception", lambda x: JudgeOutput(torch.full((len(x), 4), np.nan), None), torch.nn.Identity()
        )

    monkeypatch.setattr(judges, "inception_file", lambda: Path())
    monkeypatch.setattr(judges, "_inception", broken)
    given = ["--samples", "samples", "--reference", "images", "--judges", "inception", "--k", 2, "--device", "cpu"]
    done = shell("evaluate", *given, "--store", zoo.store.root)
    assert done.code == 2 and "the judge's features of 24 of 24 samples are not finite numbers" in done.lines[-1]
    assert "defect" not in done.err
