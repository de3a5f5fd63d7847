"""Images from elsewhere against real ones in one command: rows by name, copies, one page; refused before anything is made."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import embprobe
from embprobe.errors import UserError
from embprobe.running.comparing import Compare, compare, named_samples
from embprobe.stages import Ingest
from embprobe.store import Artefact, Store
from tests import tiny
from tests.conftest import Shell, Zoo

HOW = {"judges": tiny.ENCODER, "k": 2, "device": "cpu"}
WORDS = ["--judges", tiny.ENCODER, "--k", 2, "--device", "cpu"]


@pytest.fixture
def real(tmp_path: Path) -> Path:
    return tiny.class_folder(tmp_path / "faces", ["cat", "dog"], 20)


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """Samples of another size than the real ones, half of them copies."""
    folder = tmp_path / "gen"
    for index in range(12):
        path = tiny.picture(folder / f"{index:02d}.png", index if index % 2 else 5000 + index, 16)
        Image.open(path).resize((24, 24), Image.Resampling.NEAREST).save(path)
    return folder


@pytest.fixture
def adm(tmp_path: Path) -> Path:
    """What guided-diffusion saves."""
    np.savez(tmp_path / "adm.npz", np.random.default_rng(1).integers(0, 255, (14, 32, 32, 3), np.uint8))
    return tmp_path / "adm.npz"


def rows_of(report: Artefact) -> list[dict]:  # type: ignore[type-arg]
    found = report.read_json("table.json")["values"][tiny.ENCODER]
    return [row for row in found if row["kind"] == "samples"]


# ---- end to end


def test_one_command_judges_names_and_reports_and_asked_again_costs_nothing(
    real: Path, mine: Path, adm: Path, shell: Shell, place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["compare", "--samples", f"ADM 1.0={adm}", "--samples", mine, "--reference", real, "--size", 16, *WORDS]
    done = shell(*words, "--store", place.root, "--name", "page")
    assert done.code == 0, done.err
    report = place["page"]
    assert done.out == f"{report.path}\n" and "ADM 1.0, from elsewhere" in done.err
    rows = rows_of(report)
    assert [row["label"] for row in rows] == ["ADM 1.0, from elsewhere", "gen, from elsewhere"]
    assert {"fd", "kid", "precision", "recall", "density", "coverage"} <= rows[0]["values"].keys()
    page = (report.path / "report.html").read_text()
    assert "ADM 1.0" in page and "Samples against faces" in page and "Nearest training images" in page
    (judged,) = [a for a in place.artefacts() if a.stage == "evaluate" and a.inputs["samples"].metrics["count"] == 12]
    assert judged.read_json("metrics.json")["memorisation"].keys() == {"pixels", "judge"}
    assert judged.inputs["samples"].metrics["size"] == 16 == judged.inputs["reference"].metrics["size"]
    for stage in (embprobe.Ingest, embprobe.Evaluate, embprobe.Featurize, embprobe.Report):
        monkeypatch.setattr(stage, "run", lambda *_: pytest.fail("ran again"))
    assert shell(*words, "--store", place.root).out == done.out


def test_where_copies_could_not_be_looked_for_the_page_says_so(tmp_path: Path, place: Store) -> None:
    """Training images as samples, and too few held-out ones to tell copies by: nothing may look as if it had been searched."""
    real = tiny.class_folder(tmp_path / "few", ["cat"], 20)
    some = tiny.class_folder(tmp_path / "some", ["cat"], 16)
    report = compare({"copies": str(some)}, real, place, size=16, **(HOW | {"k": 3}))
    (told,) = [c for c in report.read_json("table.json")["cautions"] if c.startswith("Copies were not looked for")]
    assert "copies" in told and "too few held-out images" in told


def test_from_python_with_artefacts_and_another_name_only_the_report_is_made_again(
    real: Path, mine: Path, adm: Path, place: Store
) -> None:
    faces = embprobe.make(Ingest(source=str(real), size=16), place)
    first = embprobe.compare({"mine": mine, "adm": adm}, faces, place, **HOW)
    before = {a for a in place.artefacts() if a.stage != "report"}
    second = compare([f"theirs={mine}", f"adm={adm}"], faces, place, **HOW)
    assert first != second and before == {a for a in place.artefacts() if a.stage != "report"}
    assert [row["encoder"] for row in rows_of(second)] == ["theirs", "adm"]
    assert first.inputs == second.inputs


def test_classes_of_the_reference_are_measured_each(real: Path, tmp_path: Path, place: Store) -> None:
    for label, name in enumerate(("cat", "dog")):
        for index in range(9):
            tiny.picture(tmp_path / "gen" / name / f"{index}.png", 900 + 50 * label + index)
    report = compare([f"gen={tmp_path / 'gen'}"], real, place, **HOW)
    judged = report.inputs["artefacts.0"].read_json("metrics.json")["judges"][0]
    assert judged["per_class"]["cat"]["count"] == 9


def test_classes_that_were_given_names_are_found_by_their_own_in_the_samples(tmp_path: Path, place: Store) -> None:
    wnids = ["n01440764", "n02102040"]
    real = tiny.class_folder(tmp_path / "real", wnids, 20)
    faces = embprobe.make(Ingest(source=str(real), size=16, class_names="imagenet"), place)
    for label, name in enumerate(wnids):
        for index in range(9):
            tiny.picture(tmp_path / "gen" / name / f"{index}.png", 900 + 50 * label + index)
    report = compare([str(tmp_path / "gen")], faces, place, **HOW)
    judged = report.inputs["artefacts.0"].read_json("metrics.json")["judges"][0]
    assert judged["per_class"]["tench"]["count"] == 9


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_reference_that_is_not_ingested_yet_is_taken_at_the_samples_size(
    real: Path, mine: Path, adm: Path, place: Store, kind: str
) -> None:
    report = compare([str(mine if kind == "folder" else adm)], real, place, **HOW)
    inputs = report.inputs["artefacts.0"].inputs
    assert inputs["reference"].metrics["size"] == inputs["samples"].metrics["size"] == (24 if kind == "folder" else 32)


def test_a_report_of_a_foreign_folder_is_not_empty(real: Path, mine: Path, place: Store) -> None:
    report = compare([str(mine)], real, place, size=16, **HOW)
    assert report.metrics["systems"] == ["gen, from elsewhere"]
    table = report.read_json("table.json")
    assert table["rows"] and table["headers"]


# ---- refused before anything is made


def test_what_cannot_be_compared_is_refused_in_one_line_before_anything_is_made(
    real: Path, mine: Path, adm: Path, tmp_path: Path, shell: Shell, place: Store
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "copy").symlink_to(mine)
    reference = ["--reference", real, "--size", 16]
    for words, message in (
        ([*reference], "--samples is missing"),
        (["--samples", mine], "needs --reference"),
        (["--samples", mine, "--reference", "nowhere"], "--reference: there is nothing at nowhere"),
        (["--samples", "x=nowhere", *reference], "--samples: there is nothing at nowhere"),
        (["--samples", f"a={mine}", "--samples", f"a={adm}", *reference], "two sets are called a"),
        (["--samples", mine, "--samples", f"gen={adm}", *reference], "two sets are called gen"),
        (["--samples", f"a={mine}", "--samples", f"b={tmp_path / 'copy'}", *reference], "a and b are the same images"),
        (["--samples", f"a={real}", *reference], "a and the reference are the same images"),
        (["--samples", f"<b>={mine}", *reference], "'<b>' can't name a row"),
        (["--samples", f"={mine}", *reference], "'' can't name a row"),
        (["--samples", "a=", *reference], "nothing stands behind the name"),
        (["--samples", f"a={tmp_path / 'empty'}", *reference], "holds no image"),
        (["--samples", mine, *reference, "--held-out", "train"], "--held-out is 'train'"),
        (["--samples", mine, *reference, "--limit", "0"], "--limit is 0; it must be at least 1"),
    ):
        done = shell("compare", *words, *WORDS, "--store", place.root)
        assert done.code == 2 and message in done.lines[-1], (message, done.err)
        assert place.artefacts() == [], message


def test_an_artefact_that_is_no_set_of_images_is_refused(zoo: Zoo, mine: Path) -> None:
    with pytest.raises(UserError, match=r"--samples .* was made by extract; it must be made by ingest or sample"):
        compare({"a": zoo["embeddings"]}, zoo["images"], zoo.store, **HOW)
    with pytest.raises(UserError, match=r"--reference .* was made by sample; it must be made by ingest"):
        compare({"a": mine}, zoo["samples"], zoo.store, **HOW)
    with pytest.raises(UserError, match="evaluate has no option 'kk'"):
        compare({"a": mine}, zoo["images"], zoo.store, kk=3)


def test_a_path_with_an_equals_sign_that_is_there_is_a_path(tmp_path: Path) -> None:
    odd = tmp_path / "cfg=4.npz"
    odd.touch()
    with pytest.raises(UserError, match="'cfg=4' can't name a row"):
        named_samples([str(odd)])
    assert named_samples([f"cfg 4={odd}"]) == {"cfg 4": str(odd)}


def test_the_commands_options_are_those_of_evaluate() -> None:
    shared = set(Compare.__dataclass_fields__) - {"samples", "size", "title"}
    assert shared <= set(embprobe.Evaluate.__dataclass_fields__)


def test_names_that_fit_the_artefacts_not_one_by_one_are_refused(zoo: Zoo) -> None:
    with pytest.raises(UserError, match="--called has 2 for 1 artefacts"):
        embprobe.Report(artefacts=(zoo["images"],), called=("a", "b"))
