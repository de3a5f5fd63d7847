"""One listing and one content hash for a set, whatever it comes in."""

import csv
import io
import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from embprobe.data.names import expand_braces, folder_labels, folder_splits, normalised, regex_labels
from embprobe.data.sources import content_hash, open_source
from embprobe.errors import UserError


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def put(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(picture(sum(Path(name).name.encode()) % 256))
    return root


def zipped(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*"), reverse=True):
            archive.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def tarred(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def keys(source: Path | str) -> list[str]:
    return [item.key for item in open_source(str(source)).items]


# ---- one content hash


def test_a_folder_its_zips_and_its_tar_hash_alike(tmp_path: Path) -> None:
    faces = put(tmp_path / "faces", "cat/1.png", "dog/ü 2.png")
    (faces / "README.txt").write_text("not an image")
    whole = content_hash(str(faces))
    assert content_hash(str(zipped(faces, tmp_path / "a.zip"))) == whole
    assert content_hash(str(zipped(faces, tmp_path / "b.zip", "faces/"))) == whole
    assert content_hash(str(zipped(faces, tmp_path / "c.zip", "some/where/"))) == whole
    members = {f"./x/{name}": (faces / name).read_bytes() for name in ("dog/ü 2.png", "cat/1.png")}
    assert content_hash(str(tarred(tmp_path / "d.tar", members))) == whole


def test_a_moved_and_touched_folder_hashes_alike(tmp_path: Path) -> None:
    faces = put(tmp_path / "faces", "cat/1.png", "dog/2.png")
    whole = content_hash(str(faces))
    moved = shutil.copytree(faces, tmp_path / "elsewhere" / "other name")
    os.utime(moved / "cat/1.png", (1, 1))
    assert content_hash(str(moved)) == whole


@pytest.mark.parametrize("change", ["rename", "content", "add"])
def test_a_renamed_changed_or_added_file_changes_the_hash(tmp_path: Path, change: str) -> None:
    faces = put(tmp_path / "faces", "cat/1.png", "dog/2.png")
    whole = content_hash(str(faces))
    if change == "rename":
        (faces / "cat/1.png").rename(faces / "cat/3.png")
    elif change == "content":
        (faces / "cat/1.png").write_bytes(picture(200))
    else:
        put(faces, "cat/3.png")
    assert content_hash(str(faces)) != whole


def test_labels_and_captions_of_a_manifest_count(tmp_path: Path) -> None:
    put(tmp_path, "1.png")
    sheets = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for sheet, label in zip(sheets, ("cat", "dog"), strict=True):
        sheet.write_text(f"path,label\n1.png,{label}\n")
    assert content_hash(str(sheets[0])) != content_hash(str(sheets[1]))


def test_a_remembered_hash_is_used_until_a_file_is_touched(tmp_path: Path) -> None:
    faces = put(tmp_path / "faces", "1.png", "2.png")
    for file in faces.iterdir():
        os.utime(file, (1, 1))
    cache: dict[str, str] = {}

    class Table:
        get = staticmethod(cache.get)
        set = staticmethod(cache.__setitem__)

    whole = content_hash(str(faces), Table())
    assert list(cache.values()) == [whole]
    cache.update(dict.fromkeys(cache, "remembered"))
    assert content_hash(str(faces), Table()) == "remembered"
    os.utime(faces / "1.png", (2, 2))
    assert content_hash(str(faces), Table()) == whole


def test_a_file_touched_just_now_is_not_remembered(tmp_path: Path) -> None:
    cache: dict[str, str] = {}

    class Table:
        get = staticmethod(cache.get)
        set = staticmethod(cache.__setitem__)

    content_hash(str(put(tmp_path / "faces", "1.png")), Table())
    assert not cache


# ---- names


@pytest.mark.parametrize(
    ("names", "source", "expected"),
    [
        (["afhq64/train/cat/1.jpg"], "afhq_cat64", ["train/cat/1.jpg"]),
        (["cat/1.jpg", "cat/2.jpg"], "data", ["cat/1.jpg", "cat/2.jpg"]),
        (["faces/1.jpg"], "faces", ["1.jpg"]),
        (["train/cat/1.jpg"], "data", ["train/cat/1.jpg"]),
        (["a/b/cat/1.jpg", "a/b/dog/1.jpg"], "data", ["cat/1.jpg", "dog/1.jpg"]),
        (["e\u0301.jpg"], "data", ["\u00e9.jpg"]),
    ],
)
def test_wrapping_folders_are_dropped_and_split_folders_kept(
    names: list[str], source: str, expected: list[str]
) -> None:
    assert normalised(names, source) == expected


def test_two_names_that_become_one_are_refused() -> None:
    with pytest.raises(UserError, match="two files named"):
        normalised(["e\u0301.jpg", "\u00e9.jpg"], "data")


def test_splits_come_from_folders_of_their_names_only() -> None:
    assert folder_splits(["train/1.jpg", "valid/2.jpg", "Test/3.jpg"]) == ["train", "val", "test"]
    assert folder_splits(["val_ref/cat/1.jpg", "val_src/cat/2.jpg"]) is None
    assert folder_splits(["car/1.jpg", "train/2.jpg"]) is None
    with pytest.raises(UserError, match=r'"x/3\.jpg" lies outside the split folders'):
        folder_splits(["train/1.jpg", "val/2.jpg", "x/3.jpg"])


def test_the_class_is_the_first_folder_below_the_split() -> None:
    assert folder_labels(["cat/x/1.jpg", "dog/2.jpg"], below_splits=False) == ["cat", "dog"]
    assert folder_labels(["train/cat/x/1.jpg"], below_splits=True) == ["cat"]
    assert folder_labels(["train/1.jpg"], below_splits=True) is None
    with pytest.raises(UserError, match="outside the class folders"):
        folder_labels(["cat/1.jpg", "2.jpg"], below_splits=False)


def test_label_regex_takes_the_first_group() -> None:
    assert regex_labels(["a/flickr_cat_1.jpg", "pixabay_dog_2.jpg"], r"_(cat|dog)_") == ["cat", "dog"]
    for pattern, message in (
        (r"cat", "has no group"),
        (r"(", "not a regular expression"),
        (r"(cow)", r'no class in "x_cat"'),
    ):
        with pytest.raises(UserError, match=message):
            regex_labels(["x_cat"], pattern)


def test_braces_expand_with_their_zeros() -> None:
    assert expand_braces("a{008..010}.tar") == ["a008.tar", "a009.tar", "a010.tar"]
    assert expand_braces("{0..1}{0..1}") == ["00", "01", "10", "11"]


def test_hidden_files_and_upper_case_suffixes(tmp_path: Path) -> None:
    put(tmp_path / "x", "A b.PNG", "._c.png", "__MACOSX/d.png", ".cache/e.png", "ünï/f.Png")
    assert keys(tmp_path / "x") == ["A b.PNG", "ünï/f.Png"]


# ---- what is refused


def test_what_is_missing_or_empty_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "README.txt").write_text("no image")
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    (tmp_path / "x.rar").write_bytes(b"")
    for name, message in (
        ("nowhere", "there is nothing at"),
        ("empty", "holds no image"),
        ("text", "holds no image"),
        ("bad.zip", "make the zip again"),
        ("x.rar", "neither a folder nor"),
    ):
        with pytest.raises(UserError, match=message) as caught:
            open_source(str(tmp_path / name))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["../evil.png", "/etc/evil.png", "a/../../evil.png", "C:/evil.png", "..\\evil.png"])
def test_archives_that_point_outside_are_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(name, picture(1))
    tarred(tmp_path / "b.tar", {name: picture(1)})
    for archive_name in ("a.zip", "b.tar"):
        with pytest.raises(UserError, match="points outside it"):
            open_source(str(tmp_path / archive_name))


def test_a_link_that_leads_in_a_circle_is_walked_once(tmp_path: Path) -> None:
    put(tmp_path / "x", "cat/1.png", "dog/2.png")
    (tmp_path / "x" / "cat" / "loop").symlink_to(tmp_path / "x")
    assert keys(tmp_path / "x") == ["cat/1.png", "dog/2.png"]


# ---- manifests and shards


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_manifests_tell_labels_captions_and_splits(tmp_path: Path, suffix: str) -> None:
    put(tmp_path / "pictures", "1.png", "2.png")
    rows = [
        {"path": "pictures/1.png", "label": "cat", "caption": 'a "cat", lying', "split": "valid", "key": "b"},
        {"path": "pictures/2.png", "label": "dog", "caption": "", "split": "train", "key": "a"},
    ]
    sheet = tmp_path / f"list{suffix}"
    with sheet.open("w", encoding="utf-8-sig", newline="") as file:
        if suffix == ".csv":
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        else:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    a, b = open_source(str(sheet)).items
    assert (a.key, a.label, a.caption, a.split) == ("a", "dog", None, "train")
    assert (b.key, b.label, b.caption, b.split) == ("b", "cat", 'a "cat", lying', "val")
    assert b.open().read() == (tmp_path / "pictures/1.png").read_bytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file\n1.png\n", "no column `path`"),
        ("path\nnone.png\n", "line 2: there is no file"),
        ("path,split\n1.png,hidden\n", 'split "hidden"'),
        ("path\n1.png\n1.png\n", "two images are named"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path, "1.png")
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "list.csv"))


@pytest.mark.parametrize("header", ["path,caption", "file_name,text"])
def test_absolute_paths_are_named_below_the_folder_that_they_share(tmp_path: Path, header: str) -> None:
    for where in ("here", "there"):
        put(tmp_path / where / "set", "cat/1.png", "dog/2.png")
        rows = [f"{tmp_path / where / 'set' / name},a {name[:3]}" for name in ("cat/1.png", "dog/2.png")]
        (tmp_path / f"{where}.csv").write_text("\n".join([header, *rows]))
    told = [(item.key, item.caption) for item in open_source(str(tmp_path / "here.csv")).items]
    assert told == [("cat/1.png", "a cat"), ("dog/2.png", "a dog")]
    assert content_hash(str(tmp_path / "here.csv")) == content_hash(str(tmp_path / "there.csv"))


def test_an_absolute_path_with_a_key_keeps_it(tmp_path: Path) -> None:
    put(tmp_path, "1.png", "2.png")
    (tmp_path / "list.csv").write_text(f"path,key\n{tmp_path / '1.png'},b\n{tmp_path / '2.png'},\n")
    assert keys(tmp_path / "list.csv") == ["2.png", "b"]


def test_a_folder_with_metadata_and_its_zip_hash_alike_and_captions_count(tmp_path: Path) -> None:
    faces = put(tmp_path / "faces", "cat/1.png", "dog/2.png")
    plain = content_hash(str(faces))
    (faces / "metadata.csv").write_text("file_name,text\ncat/1.png,a cat\n")
    told = content_hash(str(faces))
    assert told != plain and content_hash(str(zipped(faces, tmp_path / "z.zip", "faces/"))) == told
    (faces / "metadata.csv").write_text("file_name,text\ncat/1.png,the cat\n")
    assert content_hash(str(faces)) not in (told, plain)


def test_a_metadata_table_about_something_else_is_left_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    faces = put(tmp_path / "faces", "cat/1.png", "dog/2.png")
    plain = content_hash(str(faces))
    (faces / "metadata.csv").write_text("camera,lens\na,b\n")
    (faces / "cat" / "metadata.jsonl").write_text('{"camera": 1}\n')
    assert content_hash(str(faces)) == plain
    assert capsys.readouterr().err.count("it is not about these images: left aside") == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [("file_name\nnone.png\n", "line 2: there is no image"), ("file_name,split\n1.png,x\n", 'split "x" is none of')],
)
def test_metadata_that_does_not_fit_says_where(tmp_path: Path, text: str, message: str) -> None:
    put(tmp_path / "set", "1.png")
    (tmp_path / "set" / "metadata.csv").write_text(text)
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "set"))


def test_shards_pair_images_with_their_labels_and_captions(tmp_path: Path) -> None:
    for shard in range(2):
        members = {"000.png": picture(shard), "000.cls": f"{shard}\n".encode(), "000.txt": b"a face"}
        members |= {"001.png": picture(9), "001.json": json.dumps({"label": 7, "caption": "a dog"}).encode()}
        tarred(tmp_path / f"a{shard:03d}.tar", members)
    source = open_source(str(tmp_path / "a{000..001}.tar"))
    told = [(item.key, item.label, item.caption) for item in source.items]
    assert told[:2] == [("a000/000.png", "0", "a face"), ("a000/001.png", "7", "a dog")]
    assert told[2:] == [("a001/000.png", "1", "a face"), ("a001/001.png", "7", "a dog")]
    assert source.items[2].open().read() == picture(1)
    assert content_hash(str(tmp_path)) == content_hash(str(tmp_path / "a{000..001}.tar"))


def test_shard_names_and_folders_tell_the_split(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    tarred(tmp_path / "train-000.tar", {"1.png": picture(1), "1.cls": b"0"})
    tarred(tmp_path / "val" / "000.tar", {"2.png": picture(2), "2.cls": b"0"})
    assert folder_splits(keys(tmp_path)) == ["train", "val"]


def test_a_compressed_or_missing_shard_is_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w:gz"):
        pass
    for name, told in (("a.tar", "uncompressed, whole tar"), ("b{0..1}.tar", "there is no file .*b0.tar")):
        with pytest.raises(UserError, match=told):
            open_source(str(tmp_path / name))
