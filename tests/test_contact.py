"""`show --png`: a contact sheet of a data set, a class each row."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embprobe.inspection import pictures
from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Artefact, Store
from tests import tiny
from tests.conftest import Shell, Zoo


def sheet(artefact: Artefact) -> np.ndarray:
    return pictures.contact_sheet(artefact)["contact.png"]


def test_each_class_has_a_row_of_its_own_images_with_its_name(place: Store, tmp_path: Path, shell: Shell) -> None:
    folder = tmp_path / "set"
    for number, (name, count) in enumerate((("cat", 20), ("dog", 3))):
        for index in range(count):
            path = folder / name / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (16, 16), (200 * number, 90, index)).save(path)
    out = make(Ingest(source=str(folder), size=16), place)
    done = shell("show", out.path, "--png", tmp_path / "new" / "pics", "--store", place.root)
    assert done.code == 0 and "contact.png" in done.err and str(out.path) in done.out
    drawn = np.asarray(Image.open(tmp_path / "new" / "pics" / "contact.png"))
    right = drawn[:, -(8 * 18 - 2) :]
    assert drawn.shape[0] == 2 * 18 - 2 and drawn.shape[1] > right.shape[1]
    assert (right[:16, ::18, 0] == 0).all() and (right[18:34, 0:48:18, 0] == 200).all()
    assert (right[18:34, 54:] == 255).all()
    left = drawn[:, : -(8 * 18 - 2)]
    assert (left[:16] < 128).any() and (left[18:] < 128).any()


def test_without_classes_a_few_images_of_all_stand_without_a_margin(zoo: Zoo) -> None:
    assert sheet(zoo["flat"]).shape == (3 * 18 - 2, 8 * 18 - 2, 3)


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_any_number_of_channels_and_any_shape_is_drawn_small(place: Store, tmp_path: Path, channels: int) -> None:
    images = np.random.default_rng(0).integers(0, 255, (5, 40, 300, channels), np.uint8)
    np.save(tmp_path / "a.npy", images)
    drawn = sheet(make(Ingest(source=str(tmp_path / "a.npy")), place))
    assert drawn.shape == (17, 8 * 130 - 2, 3)


def test_many_classes_are_cut_and_it_is_said(
    place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pictures, "MOST_CLASSES", 2)
    folder = tiny.class_folder(tmp_path / "set", ["a", "b", "x" * 80], 2)
    assert sheet(make(Ingest(source=str(folder), size=16), place)).shape[0] == 2 * 18 - 2
    assert "the first 2 of 3 classes are drawn" in capsys.readouterr().err


def test_what_nothing_is_drawn_of_and_a_folder_that_is_a_file_are_one_line(
    zoo: Zoo, shell: Shell, tmp_path: Path
) -> None:
    done = shell("show", "denoiser", "--png", tmp_path / "x", "--store", zoo.store.root)
    assert done.code == 2 and "show --png draws what ingest" in done.err and not (tmp_path / "x").exists()
    (tmp_path / "file").touch()
    done = shell("show", "images", "--png", tmp_path / "file", "--store", zoo.store.root)
    assert done.code == 2 and "cannot write" in done.lines[-1]
