"""Ingest: sources of every kind become square images with labels and splits, once, whatever happens on the way."""

import csv
import os
import shutil
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from embprobe import signals
from embprobe.data import sources
from embprobe.errors import Interrupted, UserError
from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Artefact, Store
from embprobe.views import Images
from tests.conftest import Shell

DATA = Path(os.environ.get("EMBPROBE_DATA") or Path(__file__).parents[3] / "shared" / "data")
Ingesting = Callable[..., Artefact]


@pytest.fixture
def ingest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ingesting:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = Store(tmp_path / "store")
    return lambda source, **options: make(Ingest(source=str(source), **options), store)


@pytest.fixture
def faces(tmp_path: Path) -> Path:
    folder = tmp_path / "faces"
    for number in range(24):
        kind = ("dog", "cat", "wild")[number % 3]
        file = folder / kind / f"flickr_{kind}_{number:02d}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 16), (number * 10, 5, 5)).save(file)
    return folder


def rows(out: Artefact) -> list[tuple[int, int]]:
    return list(zip(out.array("split").read().tolist(), out.array("label").read().tolist(), strict=True))


def real(name: str) -> Path:
    if not (DATA / name).exists():
        pytest.skip(f"{name} is not here")
    return DATA / name


# ---- end to end


def test_a_folder_becomes_images_with_labels_splits_and_keys(ingest: Ingesting, faces: Path) -> None:
    out = ingest(faces, size=16, val_share=0.25)
    keys, labels = out.read_lines("key.jsonl"), out.array("label").read()
    assert out.read_json("classes.json") == ["cat", "dog", "wild"]
    assert keys == sorted(keys)
    for key, label, image in zip(keys, labels, out.array("images").read(), strict=True):
        assert key.startswith(("cat", "dog", "wild")[label])
        assert (image == (int(key[-6:-4]) * 10, 5, 5)).all()
    assert out.array("images").shape == (24, 16, 16, 3)
    assert Counter(out.array("split").read().tolist()) == {0: 18, 1: 6}
    assert out.metrics["splits"] == {"train": 18, "val": 6}
    assert {name: out.metrics[name] for name in ("count", "size", "classes", "bad", "upscaled")} == {
        "count": 24,
        "size": 16,
        "classes": 3,
        "bad": [],
        "upscaled": 0,
    }


def test_asked_again_costs_nothing_and_so_does_the_zip(
    ingest: Ingesting, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = ingest(faces, size=16)
    monkeypatch.setattr(Ingest, "run", lambda *_: pytest.fail("ran again"))
    assert ingest(faces, size=16) == first
    moved = shutil.move(faces, tmp_path / "elsewhere")
    assert ingest(moved, size=16, threads=1, count=7) == first
    assert ingest(shutil.make_archive(str(tmp_path / "z"), "zip", moved), size=16) == first


def test_every_deciding_option_makes_another_artefact(ingest: Ingesting, faces: Path) -> None:
    options: list[dict[str, Any]] = [
        {},
        {"size": 8},
        {"seed": 1},
        {"val_share": 0.5},
        {"limit": 9},
        {"label_regex": "(flickr)"},
        {"skip_bad": True},
    ]
    made = {ingest(faces, **({"size": 16} | changed)).fingerprint for changed in options}
    assert len(made) == len(options)


def test_small_images_are_enlarged_and_counted(ingest: Ingesting, faces: Path) -> None:
    out = ingest(faces, size=32)
    assert out.metrics["upscaled"] == 24
    assert out.array("original_size").read(0, 1).tolist() == [[16, 20]]


def test_a_flat_folder_is_unlabelled_and_label_regex_labels_it(ingest: Ingesting, faces: Path, tmp_path: Path) -> None:
    flat = tmp_path / "flat"
    flat.mkdir()
    for file in faces.rglob("*.png"):
        shutil.copy(file, flat)
    out = ingest(flat, size=16)
    assert not out.has("label")
    assert not out.has("classes.json")
    assert "classes" not in out.metrics
    named = ingest(flat, size=16, label_regex=r"_(cat|dog|wild)_")
    assert named.read_json("classes.json") == ["cat", "dog", "wild"]


def test_one_class_is_a_labelled_set(ingest: Ingesting, faces: Path) -> None:
    shutil.rmtree(faces / "dog")
    shutil.rmtree(faces / "wild")
    out = ingest(faces, size=16)
    assert out.read_json("classes.json") == ["cat"]
    assert set(out.array("label").read().tolist()) == {0}


def test_split_folders_are_kept(ingest: Ingesting, faces: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    shutil.copytree(faces, root / "train")
    shutil.copytree(faces / "cat", root / "validation" / "cat")
    out = ingest(root, size=16)
    for key, split in zip(out.read_lines("key.jsonl"), out.array("split").read(), strict=True):
        assert split == (0 if key.startswith("train/") else 1)


def test_a_manifest_brings_captions(ingest: Ingesting, faces: Path) -> None:
    files = sorted(faces.rglob("*.png"))
    with (faces / "list.csv").open("w", newline="") as sheet:
        writer = csv.writer(sheet)
        writer.writerow(["path", "label", "caption"])
        writer.writerows([file.relative_to(faces), "x", f"face {number}"] for number, file in enumerate(files))
    out = ingest(faces / "list.csv", size=16)
    assert out.read_lines("caption.jsonl") == [f"face {number}" for number in range(24)]
    assert out.read_json("classes.json") == ["x"]


def test_limit_takes_a_part_with_the_same_split_and_ids(ingest: Ingesting, faces: Path) -> None:
    whole, part = ingest(faces, size=16), ingest(faces, size=16, limit=9)
    assert part.metrics["count"] == 9
    known = dict(zip(whole.read_lines("key.jsonl"), rows(whole), strict=True))
    for key, row in zip(part.read_lines("key.jsonl"), rows(part), strict=True):
        assert known[key] == row


# ---- mistakes


@pytest.mark.parametrize(
    "options",
    [
        {"size": 0},
        {"val_share": 1.0},
        {"val_share": -0.1},
        {"limit": 0},
        {"count": 0},
        {"source": "planted", "limit": 3},
        {"label_regex": "cat"},
    ],
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=f"--{list(options)[-1].replace('_', '-')}"):
        Ingest(**({"source": "x"} | options))


# ---- bad files


@pytest.fixture
def damaged(faces: Path) -> Path:
    whole = (faces / "cat" / "flickr_cat_01.png").read_bytes()
    (faces / "cat" / "short.png").write_bytes(whole[:60])
    (faces / "dog" / "text.jpg").write_text("hello")
    return faces


def test_a_bad_file_stops_the_run_with_its_name(ingest: Ingesting, damaged: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read cat/short\.png in .*--skip-bad") as caught:
        ingest(damaged, size=16)
    assert "\n" not in str(caught.value)


def test_skip_bad_lists_and_leaves_out_bad_files(ingest: Ingesting, damaged: Path) -> None:
    out = ingest(damaged, size=16, skip_bad=True)
    assert [row["key"] for row in out.metrics["bad"]] == ["cat/short.png", "dog/text.jpg"]
    assert all(row["reason"] for row in out.metrics["bad"])
    assert out.metrics["count"] == len(out.read_lines("key.jsonl")) == out.array("label").shape[0] == 24


def test_a_damaged_zip_member_is_a_bad_file(ingest: Ingesting, faces: Path, tmp_path: Path) -> None:
    path = tmp_path / "faces.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(faces.rglob("*.png")):
            archive.write(file, file.relative_to(faces))
    data = bytearray(path.read_bytes())
    data[data.index(b"IDAT") + 6] ^= 255
    path.write_bytes(data)
    with pytest.raises(UserError, match="cannot read cat/flickr_cat_01"):
        ingest(path, size=16)
    assert len(ingest(path, size=16, skip_bad=True).metrics["bad"]) == 1


def test_a_set_of_bad_files_only_is_refused(ingest: Ingesting, tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "1.png").write_text("hello")
    with pytest.raises(UserError, match="not one image"):
        ingest(tmp_path / "x", size=16, skip_bad=True)


# ---- killed and continued


def stop_after(monkeypatch: pytest.MonkeyPatch, chunks: int) -> None:
    left = iter(range(chunks))

    def check() -> None:
        if next(left, None) is None:
            raise Interrupted("stopped")

    monkeypatch.setattr(signals, "check", check)


@pytest.mark.parametrize("source", ["faces", "planted"])
def test_killed_ingest_redoes_only_missing_chunks_and_equals_whole(
    source: str, faces: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("embprobe.stages.ingest.CHUNK_BYTES", 5 * 3 * 16 * 16)
    stage = Ingest(source=str(faces) if source == "faces" else source, size=16, count=24)
    whole = make(stage, Store(tmp_path / "whole"))
    killed = Store(tmp_path / "killed")
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Interrupted):
            make(stage, killed)
    out = killed.open(stage)
    assert out.array("images").missing() == [3, 4]
    decoded: list[str] = []
    read_image = sources.read_image

    def counted(item: sources.Item, **options: Any) -> object:
        decoded.append(item.key)
        return read_image(item, **options)

    monkeypatch.setattr(sources, "read_image", counted)
    out = make(stage, killed)
    if source == "faces":
        assert sorted(decoded) == out.read_lines("key.jsonl")[15:]
    for name in ("images", "split", "label", "group"):
        np.testing.assert_array_equal(out.array(name).read(), whole.array(name).read())
    assert out.metrics == whole.metrics


# ---- duplicates


def photograph(seed: int, side: int = 96) -> Image.Image:
    """Structure at every scale."""
    rng = np.random.default_rng(seed)
    layers = [
        Image.fromarray(rng.integers(0, 256, (n, n, 3), np.uint8)).resize((side, side), 3) for n in (3, 6, 12, 24)
    ]
    return Image.fromarray(np.mean([np.asarray(layer) for layer in layers], 0).astype(np.uint8))


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Forty photographs in two splits, and copies of five of them: exact, encoded again, resized; flat images too."""
    root = tmp_path / "album"
    for split in ("train", "val"):
        (root / split).mkdir(parents=True)
    for number in range(40):
        photograph(number).save(root / ("val" if number >= 30 else "train") / f"{number:02d}.png")
    photograph(3).save(root / "train" / "zz exact.png")
    photograph(4).save(root / "val" / "zz exact.png")
    photograph(5).save(root / "train" / "zz again.jpg", quality=60)
    photograph(6).resize((80, 80), Image.Resampling.BICUBIC).save(root / "val" / "zz smaller.png")
    photograph(35).save(root / "val" / "zz again.jpg", quality=60)
    for level in (100, 101):
        Image.new("RGB", (96, 96), (level, level, level)).save(root / "train" / f"flat {level}.png")
    return root


def test_exact_and_near_copies_are_listed_within_and_across_splits(
    ingest: Ingesting, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ingest(album)
    listed = [(g["kind"], [(i["key"], i["split"]) for i in g["images"]]) for g in out.read_lines("duplicates.jsonl")]
    assert sorted(listed) == [
        ("exact", [("train/03.png", "train"), ("train/zz exact.png", "train")]),
        ("exact", [("train/04.png", "train"), ("val/zz exact.png", "val")]),
        ("near", [("train/05.png", "train"), ("train/zz again.jpg", "train")]),
        ("near", [("train/06.png", "train"), ("val/zz smaller.png", "val")]),
        ("near", [("val/35.png", "val"), ("val/zz again.jpg", "val")]),
    ]
    assert out.metrics["duplicates"] == {"exact": 2, "near": 3, "across": 2}
    keys, group = out.read_lines("key.jsonl"), Images(out).group
    assert group is not None and keys[group[keys.index("val/zz smaller.png")]] == "train/06.png"
    assert (group != np.arange(47)).sum() == 5
    assert "2 images are exact copies of others and 3 near ones, 2 of them in another split" in capsys.readouterr().err


def test_no_word_where_every_image_is_its_own(
    ingest: Ingesting, album: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in album.glob("*/zz*"):
        file.unlink()
    out = ingest(album)
    assert (
        out.metrics["duplicates"] == {"exact": 0, "near": 0, "across": 0} and out.read_lines("duplicates.jsonl") == []
    )
    assert "copies" not in capsys.readouterr().err


def test_likenesses_are_not_linked_in_a_chain(tmp_path: Path, ingest: Ingesting) -> None:
    ends = [np.asarray(photograph(seed, 32), np.float32) for seed in (0, 1)]
    steps = np.stack([(1 - t) * ends[0] + t * ends[1] for t in np.linspace(0, 1, 40)]).astype(np.uint8)
    np.save(tmp_path / "steps.npy", steps)
    group = Images(ingest(tmp_path / "steps.npy")).group
    assert group is not None and 3 <= len(np.unique(group)) <= 39
    assert group[-1] != group[0] and all(group[i] <= i for i in range(40))


@pytest.mark.parametrize("shape", [(30, 8, 8, 1), (30, 20, 33, 3), (30, 100, 64, 1), (30, 17, 16, 4)])
def test_arrays_of_any_shape_are_searched(shape: tuple[int, ...], tmp_path: Path, ingest: Ingesting) -> None:
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images[-1] = images[2]
    np.save(tmp_path / "images.npy", images)
    out = ingest(tmp_path / "images.npy")
    assert Images(out).group.tolist() == [*range(29), 2]  # type: ignore[union-attr]


# ---- planted


def test_planted_scenes_come_with_their_factors(ingest: Ingesting) -> None:
    out = ingest("planted", count=50, size=16)
    names = out.read_json("factors.json")
    assert out.array("factors").shape == (50, len(names))
    assert names[0] == {"name": "creature", "kind": "category", "values": out.read_json("classes.json")}
    np.testing.assert_array_equal(out.array("factors").read()[:, 0], out.array("label").read())
    assert out.metrics["splits"] == {"train": 45, "val": 5}


def test_scenes_in_which_few_factors_vary_come_with_those(ingest: Ingesting, faces: Path) -> None:
    out = ingest("planted", count=20, size=16, vary=("hue", "x"))
    values, facts = Images(out).factors or ([], [])
    assert [fact["name"] for fact in facts] == ["creature", "x", "hue"] and np.shape(values) == (20, 3)
    assert out.fingerprint != ingest("planted", count=20, size=16).fingerprint
    with pytest.raises(UserError, match="no factor is called 'hues'; did you mean \"hue\""):
        Ingest(source="planted", vary=("hues",))
    assert ingest(faces, size=16, vary=("hue",)).fingerprint == ingest(faces, size=16).fingerprint


# ---- real files


def test_afhq_faces_are_labelled_by_their_names(ingest: Ingesting) -> None:
    out = ingest(real("afhq_stargan_representative512.zip"), size=64, label_regex=r"_(cat|dog|wild)_")
    assert out.read_json("classes.json") == ["cat", "dog", "wild"]
    assert np.bincount(out.array("label").read()).tolist() == [15, 13, 15]
    assert out.metrics["split_rule"] == "seeded"
    assert out.metrics["upscaled"] == 0


def test_a_slice_of_imagenette_keeps_its_splits_and_classes(ingest: Ingesting) -> None:
    out = ingest(real("imagenette64.zip"), limit=300)
    assert len(out.read_json("classes.json")) == 10
    np.testing.assert_allclose(out.metrics["splits"]["train"], 300 * 9469 / 13394, atol=3)
    assert np.bincount(out.array("label").read()).min() >= 25


def test_imagenette_is_listed_whole() -> None:
    listing = sources.open_source(str(real("imagenette64.zip")))
    assert Counter(item.key.partition("/")[0] for item in listing.items) == {"train": 9469, "val": 3925}


def test_cat_faces_are_one_class_with_a_seeded_validation_split(ingest: Ingesting) -> None:
    out = ingest(real("afhq_cat64.zip"), limit=100)
    assert out.read_json("classes.json") == ["cat"]
    assert out.metrics["splits"] == {"train": 90, "val": 10}
    assert out.metrics["split_rule"] == "given, val seeded from train"


# ---- what is said of a set


def test_a_summary_tells_what_the_set_holds(ingest: Ingesting, faces: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (faces / "cat" / "torn.png").write_bytes(b"no image")
    out = ingest(faces, size=16, val_share=0.25, skip_bad=True)
    said = capsys.readouterr().err.splitlines()[-4:]
    assert said == [
        "faces: 24 images of 16 px",
        "  3 classes, from folders: cat 8, dog 8, wild 8",
        "  train 19, val 5 (seeded); figures are taken on val",
        "  skipped 1 image: cat/torn.png (not an image that Pillow knows) (bad.jsonl)",
    ]
    assert out.metrics["class_counts"] == {"cat": 8, "dog": 8, "wild": 8}
    assert out.metrics["skipped"] == 1 and out.metrics["skipped_first"][0]["key"] == "cat/torn.png"
    assert (out.metrics["labels_from"], out.metrics["splits_from"]) == ("folders", None)
    ingest(faces, size=16, val_share=0.25, skip_bad=True)
    assert "images of 16 px" not in capsys.readouterr().err


def test_planted_scenes_are_summed_up_alike(ingest: Ingesting, capsys: pytest.CaptureFixture[str]) -> None:
    out = ingest("planted", count=20, size=16)
    assert "6 classes, from the scenes: beetle " in capsys.readouterr().err
    assert sum(out.metrics["class_counts"].values()) == 20 and out.metrics["held_out"] == "val"


def test_the_first_bad_file_tells_of_the_others_read_with_it(ingest: Ingesting, faces: Path) -> None:
    for number in range(3):
        (faces / "cat" / f"a{number}.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"cannot read cat/a0.png .*, nor 2 more of the 27 images .*--skip-bad"):
        ingest(faces, size=16)


@pytest.mark.parametrize(
    ("regex", "message"), [(r"n\d+_.*", r"'n\d+_.*' has no group"), (r"(cow\d)", r"'(cow\d)' finds no class in")]
)
def test_a_regex_that_fits_nothing_leaves_nothing_behind(
    shell: Shell, faces: Path, place: Store, regex: str, message: str
) -> None:
    done = shell("ingest", "--source", faces, "--label-regex", regex, "--store", place.root)
    assert done.code == 2 and message in done.err
    assert place.artefacts() == [] and not place.root.exists()


def test_val_only_is_another_question_than_before(ingest: Ingesting, faces: Path, tmp_path: Path) -> None:
    shutil.copytree(faces, tmp_path / "set" / "val")
    out = ingest(tmp_path / "set", size=16)
    assert out.spec["train"] == "val" and out.metrics["splits"] == {"train": 22, "val": 2}
    assert "train" not in ingest(faces, size=16).spec


def test_scenes_of_several_creatures_tell_how_many_how_far_and_where(ingest: Ingesting) -> None:
    out = ingest("planted", count=30, size=24, objects=(2, 4))
    scenes = Images(out).scenes
    assert scenes is not None and set(scenes.count) == {2, 3, 4}
    depth, owner = scenes.depth.read(), scenes.segmentation.read()
    assert ((owner == 0) == (depth == 3.0)).all() and (depth[owner > 0] <= 2.5).all()
    kinds = scenes.objects[..., scenes.columns.index("creature")]
    for shown, kind, label in zip(owner, kinds, Images(out).labels, strict=True):  # type: ignore[arg-type]
        assert {*np.unique(shown)} - {0} <= {*(kind[~np.isnan(kind)] + 1)} and (shown == label + 1).any()
    near = [d[o == label + 1].min() for d, o, label in zip(depth, owner, Images(out).labels, strict=True)]  # type: ignore[arg-type]
    np.testing.assert_allclose(near, scenes.nearest, atol=2e-3)


def test_one_creature_a_scene_is_the_question_it_always_was(ingest: Ingesting) -> None:
    given = {"source": "planted", "count": 20, "size": 16}
    assert "objects" not in Ingest(**given).spec() and Ingest(**given, objects=(1,)).spec() == Ingest(**given).spec()
    assert Ingest(**given, objects=(1, 4)).spec() != Ingest(**given).spec()
    for wrong, words in (((4, 1), "least and the most"), ((1, 2, 3), "least and the most"), ((0, 2), "at least 1")):
        with pytest.raises(UserError, match=words):
            Ingest(**given, objects=wrong)
    with pytest.raises(UserError, match="--vary has no meaning with --objects"):
        Ingest(**given, objects=(1, 3), vary=("hue",))


def test_scenes_of_several_creatures_continue_after_a_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from embprobe.stages import ingest as module

    monkeypatch.setattr(module, "CHUNK_BYTES", 4 * 16 * 16 * 3)
    stage = Ingest(source="planted", count=20, size=16, objects=(1, 3))
    whole, asked = make(stage, Store(tmp_path / "whole")), iter(range(100))

    def check() -> None:
        if next(asked) == 3:
            raise Interrupted("stopped")

    with monkeypatch.context() as patch:
        patch.setattr(signals, "check", check)
        with pytest.raises(Interrupted):
            make(stage, Store(tmp_path / "part"))
    part = make(stage, Store(tmp_path / "part"))
    assert part.folder.sums == whole.folder.sums and {"depth", "segmentation"} <= {
        n.split("/")[1] for n in part.folder.sums if "/" in n
    }
