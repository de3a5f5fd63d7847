"""One table: how people keep their images, and the splits, classes and captions that must come out."""

# ruff: noqa: E501

import csv
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Store
from embprobe.views import Images
from tests.tiny import picture

Write = Callable[[Path], Path]
SPLITS = ("train", "val", "test")
TWO = ("cat", "dog")
EACH = {"train": 8, "val": 3, "test": 4, "valid": 3, "validation": 3, "Test": 4}  # images of a class


def folders(*splits: str) -> Write:
    """CIFAR's layout: a folder for each split, and in it one for each class."""

    def write(root: Path) -> Path:
        for number, split in enumerate(splits):
            for label, name in enumerate(TWO):
                for index in range(EACH[split]):
                    picture(root / split / name / f"{index}.png", 1000 * number + 100 * label + index)
        return root

    return write


def zipped(write: Write) -> Write:
    def pack(root: Path) -> Path:
        write(root)
        with zipfile.ZipFile(root.with_suffix(".zip"), "w") as archive:
            for file in root.rglob("*.*"):
                archive.write(file, f"{root.name}/{file.relative_to(root)}")
        return root.with_suffix(".zip")

    return pack


def only_classes(root: Path) -> Path:
    for number, name in enumerate(TWO):
        for index in range(10):
            picture(root / name / f"{index}.png", 100 * number + index)
    return root


def flat(root: Path) -> Path:
    for index in range(20):
        picture(root / f"{index:02d}.png", index)
    return root


def metadata(suffix: str, *, told: bool = True, split_folders: bool = False) -> Write:
    """Hugging Face's imagefolder: a table of captions, and perhaps of more, beside the images."""

    def write(root: Path) -> Path:
        for top in ("train", "test") if split_folders else ("",):
            rows = []
            for index in range(10):
                picture(root / top / f"{index}.png", len(top) * 100 + index)
                more = {"label": TWO[index % 2], "split": "test" if index > 7 else "train"} if told else {}
                rows.append({"file_name": f"{index}.png", "text": f"number {index}", **more})
            table = root / top / f"metadata{suffix}"
            if suffix == ".csv":
                with table.open("w", newline="") as file:
                    writer = csv.DictWriter(file, list(rows[0]))
                    writer.writeheader()
                    writer.writerows(rows)
            else:
                table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return root

    return write


def npz(**names: str) -> Write:
    def write(root: Path) -> Path:
        images = np.random.default_rng(0).integers(0, 255, (20, 16, 16, 3), np.uint8)
        columns = {"images": images, "label": np.arange(20) % 2}
        root.mkdir()
        np.savez(root / "s.npz", **{theirs: columns[ours] for ours, theirs in names.items()})
        return root / "s.npz"

    return write


def rows_of(count: int, seed: int) -> "tuple[dict, object]":  # type: ignore[type-arg]
    datasets = pytest.importorskip("datasets")
    from PIL import Image

    rng = np.random.default_rng(seed)
    pictures = [Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)) for _ in range(count)]
    rows = {"image": pictures, "label": [i % 2 for i in range(count)], "caption": [f"c{i}" for i in range(count)]}
    kinds = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=list(TWO)),
        "caption": datasets.Value("string"),
    }
    return rows, datasets.Features(kinds)


def saved(*splits: str) -> Write:
    """What `save_to_disk` writes: a DatasetDict, or without splits a single Dataset."""

    def write(root: Path) -> Path:
        datasets = pytest.importorskip("datasets")
        sets = {}
        for number, split in enumerate(splits or ("",)):
            rows, features = rows_of(12, number)
            sets[split] = datasets.Dataset.from_dict(rows, features=features)
        (datasets.DatasetDict(sets) if splits else sets[""]).save_to_disk(str(root))
        return root

    return write


def parquet(*files: str) -> Write:
    def write(root: Path) -> Path:
        datasets = pytest.importorskip("datasets")
        for number, name in enumerate(files):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            rows, features = rows_of(12, number)
            datasets.Dataset.from_dict(rows, features=features).to_parquet(str(root / name))
        return root / files[0] if len(files) == 1 else root

    return write


LAYOUTS: list[tuple[str, Write, dict[str, int], str, int, int]] = [
    # name, how it is written, images a split, what the rule says, classes, captions
    ("train and test", folders("train", "test"), {"train": 14, "val": 2, "test": 8}, "given, val seeded from train", 2, 0),
    ("train, val and test", folders("train", "val", "test"), {"train": 16, "val": 6, "test": 8}, "given", 2, 0),
    ("train and valid", folders("train", "valid"), {"train": 16, "val": 6}, "given", 2, 0),
    ("train, validation and Test", folders("train", "validation", "Test"), {"train": 16, "val": 6, "test": 8}, "given", 2, 0),
    ("val only", folders("val"), {"train": 5, "val": 1}, "no train given: val taken for it, val seeded from it", 2, 0),
    ("test only", folders("test"), {"train": 7, "val": 1}, "no train given: test taken for it, val seeded from it", 2, 0),
    ("train only", folders("train"), {"train": 14, "val": 2}, "given, val seeded from train", 2, 0),
    ("a zip of train and test", zipped(folders("train", "test")), {"train": 14, "val": 2, "test": 8}, "given, val seeded from train", 2, 0),
    ("classes", only_classes, {"train": 18, "val": 2}, "seeded", 2, 0),
    ("flat", flat, {"train": 18, "val": 2}, "seeded", 0, 0),
    ("metadata.csv", metadata(".csv"), {"train": 7, "val": 1, "test": 2}, "given, val seeded from train", 2, 10),
    ("metadata.jsonl in a zip", zipped(metadata(".jsonl")), {"train": 7, "val": 1, "test": 2}, "given, val seeded from train", 2, 10),
    ("metadata.csv of captions alone", metadata(".csv", told=False), {"train": 9, "val": 1}, "seeded", 0, 10),
    ("metadata.jsonl in split folders", metadata(".jsonl", told=False, split_folders=True), {"train": 9, "val": 1, "test": 10}, "given, val seeded from train", 0, 20),
    ("npz", npz(images="images", label="label"), {"train": 18, "val": 2}, "seeded", 2, 0),
    ("npz of guided-diffusion", npz(images="arr_0", label="arr_1"), {"train": 18, "val": 2}, "seeded", 2, 0),
    ("npz of guided-diffusion without classes", npz(images="arr_0"), {"train": 18, "val": 2}, "seeded", 0, 0),
    ("save_to_disk", saved(), {"train": 11, "val": 1}, "seeded", 2, 12),
    ("save_to_disk of splits", saved("train", "validation", "test"), {"train": 12, "val": 12, "test": 12}, "given", 2, 36),
    ("a Parquet file", parquet("pets.parquet"), {"train": 11, "val": 1}, "seeded", 2, 12),
    ("a Parquet file of a split", parquet("train-00000-of-00001.parquet"), {"train": 11, "val": 1}, "given, val seeded from train", 2, 12),
    ("Parquet shards", parquet("train-00000-of-00002.parquet", "train-00001-of-00002.parquet", "test-00000-of-00001.parquet"), {"train": 22, "val": 2, "test": 12}, "given, val seeded from train", 2, 36),
    ("a clone from the hub", parquet("data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"), {"train": 12, "val": 12}, "given", 2, 24),
]  # fmt: skip


@pytest.mark.parametrize(
    ("write", "splits", "rule", "classes", "captions"), [row[1:] for row in LAYOUTS], ids=[row[0] for row in LAYOUTS]
)
def test_splits_classes_and_captions(
    write: Write, splits: dict[str, int], rule: str, classes: int, captions: int, tmp_path: Path, place: Store
) -> None:
    out = make(Ingest(source=str(write(tmp_path / "set")), size=16, val_share=0.1), place)
    images, facts = Images(out), out.metrics
    assert facts["splits"] == splits == {n: c for n in SPLITS if (c := len(images.of_split(n)))}
    assert facts["split_rule"] == rule and facts["held_out"] == ("test" if "test" in splits else "val")
    assert len(images.classes) == classes and sum(facts.get("class_counts", {}).values()) == len(images) * bool(classes)
    assert facts.get("class_counts", {}) == images.class_counts
    told = images.captions or []
    assert facts["captions"] == captions == sum(caption is not None for caption in told)


def test_each_caption_and_class_stands_by_its_own_image(tmp_path: Path, place: Store) -> None:
    out = make(Ingest(source=str(metadata(".csv")(tmp_path / "set")), size=16), place)
    told = out.read_lines("caption.jsonl")
    assert out.read_lines("key.jsonl") == [f"{i}.png" for i in range(10)] and told == [f"number {i}" for i in range(10)]
    assert [Images(out).classes[label] for label in Images(out).labels.tolist()] == [TWO[i % 2] for i in range(10)]  # type: ignore[union-attr]


def test_metadata_in_class_folders_leaves_the_classes_to_the_folders(tmp_path: Path, place: Store) -> None:
    root = only_classes(tmp_path / "set")
    (root / "metadata.csv").write_text("file_name,text\ncat/1.png,the cat\n")
    out = make(Ingest(source=str(root), size=16), place)
    assert Images(out).classes == ["cat", "dog"] and out.metrics["captions"] == 1
    assert out.metrics["labels_from"] == "folders"
