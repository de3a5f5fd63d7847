"""`export`: what other tools read of an artefact is what embprobe reads, and nothing is overwritten or left half-made."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embprobe import signals
from embprobe.errors import Interrupted
from embprobe.making import make
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.store import Store
from embprobe.views import Images
from tests import tiny
from tests.conftest import Shell, Zoo


def test_arrays_are_those_of_the_artefact_with_labels_splits_and_names(zoo: Zoo, shell: Shell, tmp_path: Path) -> None:
    made = zoo["embeddings"]
    done = shell("export", made.path, "--npy", tmp_path / "npy", "--store", zoo.store.root)
    assert done.code == 0 and done.out.strip() == str(tmp_path / "npy")
    assert np.array_equal(np.load(tmp_path / "npy" / "embeddings.npy"), made.array("embeddings").read())
    images = Images(zoo["images"])
    assert np.array_equal(np.load(tmp_path / "npy" / "label.npy"), images.labels)
    assert np.array_equal(np.load(tmp_path / "npy" / "split.npy"), images.split)
    assert json.loads((tmp_path / "npy" / "classes.json").read_text()) == images.classes
    assert [json.loads(line) for line in (tmp_path / "npy" / "key.jsonl").read_text().splitlines()] == images.keys


def test_numbers_that_were_stored_narrow_are_exported_as_floats(
    zoo: Zoo, place: Store, shell: Shell, tmp_path: Path
) -> None:
    made = make(Extract(images=zoo["images"], encoder=tiny.ENCODER, storage="int8"), place)
    assert shell("export", made.short, "--npy", tmp_path / "npy", "--store", place.root).code == 0
    found = np.load(tmp_path / "npy" / "embeddings.npy")
    assert found.dtype == np.float32
    assert np.array_equal(found, made.array("embeddings").floats(slice(0, None)))


@pytest.mark.parametrize("name", ["images", "samples", "decoder"])
def test_pictures_come_out_as_they_are_stored_in_folders_by_split_and_class(
    name: str, zoo: Zoo, shell: Shell, tmp_path: Path
) -> None:
    made = zoo[name]
    assert shell("export", made.path, "--png", tmp_path / "png", "--store", zoo.store.root).code == 0
    with (tmp_path / "png" / "metadata.csv").open() as file:
        rows = list(csv.DictReader(file))
    stored = made.array("reconstructions" if name == "decoder" else "images").read()
    assert len(rows) == len(stored) > 0
    for row, image in zip(rows, stored, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / "png" / row["file_name"])), image)
        if "label" in row:
            assert row["label"] in row["file_name"].split("/")


def test_what_was_exported_can_be_ingested_as_the_same_data_set(
    zoo: Zoo, place: Store, shell: Shell, tmp_path: Path
) -> None:
    images = Images(zoo["images"])
    assert shell("export", images.artefact.path, "--png", tmp_path / "png", "--store", zoo.store.root).code == 0
    (tmp_path / "png" / "metadata.csv").unlink()
    again = Images(make(Ingest(source=str(tmp_path / "png"), size=images.size[0]), place))
    assert len(again) == len(images) and again.classes == images.classes
    assert {split: again.count(split) for split in ("train", "val", "test")} == {
        split: images.count(split) for split in ("train", "val", "test")
    }
    order = np.lexsort(again.array.read().reshape(len(again), -1).T)
    first = np.lexsort(images.array.read().reshape(len(images), -1).T)
    assert np.array_equal(again.array.read()[order], images.array.read()[first])


def test_a_hugging_face_folder_is_what_datasets_reads(zoo: Zoo, shell: Shell, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images, embeddings = Images(zoo["images"]), zoo["embeddings"]
    for made, folder in ((images.artefact, "images"), (embeddings, "embeddings")):
        assert shell("export", made.path, "--hf", tmp_path / folder, "--store", zoo.store.root).code == 0
    loaded = datasets.load_dataset(str(tmp_path / "images"), cache_dir=str(tmp_path / "cache"))
    train = loaded["train"]
    assert len(train) == len(images.train) and train.features["label"].names == images.classes
    row = images.train[3]
    assert np.array_equal(np.asarray(train[3]["image"]), images.array[int(row)])
    assert images.labels is not None and train[3]["label"] == images.labels[row] and train[3]["key"] == images.keys[row]
    vectors = datasets.load_dataset(str(tmp_path / "embeddings"), cache_dir=str(tmp_path / "cache"))["train"]
    found = np.asarray(vectors[3]["embeddings"], np.float32)
    assert np.array_equal(found, embeddings.array("embeddings").floats(slice(row, row + 1))[0])


@pytest.mark.parametrize(
    ("name", "words", "told"),
    [
        ("embeddings", ("--png", "out"), "holds no images; --npy and --hf take its numbers"),
        ("denoiser", ("--hf", "out"), "holds no rows to export"),
        ("embeddings", ("--html", "out"), "has no page; --html takes that of a report"),
        ("embeddings", (), "export needs --npy FOLDER, --png FOLDER, --hf FOLDER or --html FILE"),
    ],
)
def test_what_cannot_be_exported_is_told_in_a_line(
    name: str,
    words: tuple[str, ...],
    told: str,
    zoo: Zoo,
    shell: Shell,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    done = shell("export", zoo[name].path, *words, "--store", zoo.store.root)
    assert done.code == 2 and told in done.lines[-1] and not (tmp_path / "out").exists()


def test_a_folder_that_holds_something_is_refused(zoo: Zoo, shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("dear")
    done = shell("export", zoo["images"].path, "--npy", tmp_path, "--store", zoo.store.root)
    assert done.code == 2 and "not empty; give a new folder" in done.err
    assert [p.name for p in tmp_path.iterdir()] == ["mine"]
    done = shell("export", zoo["images"].path, "--npy", tmp_path / "mine", "--store", zoo.store.root)
    assert done.code == 2 and (tmp_path / "mine").read_text() == "dear"


def test_one_that_is_stopped_leaves_nothing(
    zoo: Zoo, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def check() -> None:
        raise Interrupted("stop")

    with monkeypatch.context() as patch:
        patch.setattr(signals, "check", check)
        assert shell("export", zoo["images"].path, "--png", tmp_path / "out", "--store", zoo.store.root).code == 75
    assert list(tmp_path.iterdir()) == []
