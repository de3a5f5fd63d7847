"""Parquet and Arrow files: stable keys, one hash however the rows lie, bounded memory, and one line for what is damaged."""

import io
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embprobe.data import batches
from embprobe.data.reading import image_reader
from embprobe.data.sources import content_hash, open_source, read_image
from embprobe.errors import UserError

pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
NOTED = {b"huggingface": json.dumps({"info": {"features": FEATURES}}).encode()}


def picture(shade: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8), (shade % 256, 7, 7)).save(stream, "PNG")
    return stream.getvalue()


def table(rows: range, *, paths: bool = True, **columns: list) -> "pa.Table":  # type: ignore[type-arg]
    """Rows as `datasets` lays them out; a column of its own in the place of theirs."""
    images = [{"bytes": picture(i), "path": f"x/{i}.png" if paths else None} for i in rows]
    image = pa.array(images, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))
    told = {"image": image, "label": pa.array([i % 2 for i in rows]), **{k: pa.array(v) for k, v in columns.items()}}
    return pa.table(told).replace_schema_metadata(NOTED)


def arrow_file(path: Path, rows: "pa.Table", each: int = 3) -> Path:
    with pa.ipc.new_stream(str(path), rows.schema) as writer:
        writer.write_table(rows, max_chunksize=each)
    return path


def told(path: Path) -> list[tuple[str, str | None]]:
    return [(item.key, item.label) for item in open_source(str(path)).items]


# ---- names and hashes


def test_a_key_is_the_path_in_the_record_where_every_row_has_one_else_split_and_number(tmp_path: Path) -> None:
    pq.write_table(table(range(3)), tmp_path / "a.parquet")
    assert told(tmp_path / "a.parquet") == [("x/0.png", "cat"), ("x/1.png", "dog"), ("x/2.png", "cat")]
    (tmp_path / "b").mkdir()
    for split in ("train", "test"):
        pq.write_table(table(range(2)), tmp_path / "b" / f"{split}-00000-of-00001.parquet")
    assert [key for key, _ in told(tmp_path / "b")] == [f"{s}/{i:08d}" for s in ("test", "train") for i in range(2)]
    pq.write_table(table(range(2), paths=False), tmp_path / "c.parquet")
    assert [key for key, _ in told(tmp_path / "c.parquet")] == ["00000000", "00000001"]


def test_an_absolute_path_in_a_record_tells_nobody_where_it_lay(tmp_path: Path) -> None:
    images = [{"bytes": picture(i), "path": f"/home/someone/{i}.png"} for i in range(2)]
    pq.write_table(pa.table({"image": images}), tmp_path / "a.parquet")
    assert [key for key, _ in told(tmp_path / "a.parquet")] == ["0.png", "1.png"]


@pytest.mark.parametrize("paths", [True, False])
def test_rows_hash_alike_in_one_file_in_shards_and_in_arrow(tmp_path: Path, paths: bool) -> None:
    rows = table(range(10), paths=paths)
    pq.write_table(rows, tmp_path / "one.parquet", row_group_size=4)
    (tmp_path / "shards").mkdir()
    for number, part in enumerate((rows.slice(0, 7), rows.slice(7))):
        pq.write_table(part, tmp_path / "shards" / f"x-{number:05d}-of-00002.parquet", row_group_size=2)
    whole = content_hash(str(tmp_path / "one.parquet"))
    assert content_hash(str(tmp_path / "shards")) == whole
    assert content_hash(str(arrow_file(tmp_path / "one.arrow", rows))) == whole
    pq.write_table(table(range(10), paths=paths, caption=["c"] * 10), tmp_path / "one.parquet")
    assert content_hash(str(tmp_path / "one.parquet")) != whole


def test_columns_by_others_are_found_by_name_and_type(tmp_path: Path) -> None:
    columns = {"png": [picture(i) for i in range(2)], "cls": ["b", "a"], "text": ["x", ""], "split": ["train", "valid"]}
    pq.write_table(pa.table({**columns, "key": ["k0", "k1"]}), tmp_path / "a.parquet")
    items = open_source(str(tmp_path / "a.parquet")).items
    assert [(i.key, i.label, i.caption, i.split) for i in items] == [
        ("k0", "b", "x", "train"),
        ("k1", "a", None, "val"),
    ]


# ---- reading


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_rows_are_read_in_any_order_and_by_several_threads(tmp_path: Path, kind: str) -> None:
    rows = table(range(300))
    path = tmp_path / f"a.{kind}"
    pq.write_table(rows, path, row_group_size=70) if kind == "parquet" else arrow_file(path, rows)
    items = open_source(str(path)).items
    for place in random.Random(0).sample(range(300), 40):
        assert items[place].open().read() == picture(place)
    with image_reader("a", 8, None, skip_bad=False, threads=8) as reader:
        shades = [int(image.pixels[0, 0, 0]) for image in reader.whole(items)]
    assert shades == [i % 256 for i in range(300)]


def test_a_row_group_is_read_once_and_a_few_batches_are_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "ROWS", 10)
    pq.write_table(table(range(1000)), tmp_path / "a.parquet", row_group_size=500)
    began = []
    start = batches.parquet_batches
    monkeypatch.setattr(batches, "parquet_batches", lambda *given: began.append(given) or start(*given, 10))
    pictures = batches.Pictures()
    for row in range(1000):
        assert pictures.row(tmp_path / "a.parquet", "image", row) == picture(row)
    (forward,) = pictures.open.values()
    assert len(began) == 1 and sum(batch.num_rows for _, batch in forward.held) <= batches.LAG + 20


def test_large_rows_come_few_at_a_time(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    large = [rng.bytes(1 << 20) for _ in range(40)]
    pq.write_table(pa.table({"image": large}), tmp_path / "a.parquet")
    sizes = [batch.num_rows for _, batch in batches.parquet_batches(tmp_path / "a.parquet", ["image"], 0)]
    assert sum(sizes) == 40 and max(sizes) <= 16


def test_many_files_do_not_stay_open(tmp_path: Path) -> None:
    for number in range(5):
        pq.write_table(table(range(number, number + 1)), tmp_path / f"x-{number}.parquet")
    pictures = batches.Pictures()
    for number in range(5):
        assert pictures.row(tmp_path / f"x-{number}.parquet", "image", 0) == picture(number)
    assert len(pictures.open) <= batches.OPEN


# ---- what is refused


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"a": [1, 2]}, "holds no column of images"),
        ({"one": [b"x"], "two": [b"y"]}, "holds no column of images, or several"),
        ({"image": [b"x"], "split": ["hidden"]}, 'split "hidden" is none of train'),
    ],
)
def test_a_table_that_is_no_set_of_images_says_what_it_lacks(tmp_path: Path, rows: dict, message: str) -> None:  # type: ignore[type-arg]
    pq.write_table(pa.table(rows), tmp_path / "a.parquet")
    with pytest.raises(UserError, match=message):
        open_source(str(tmp_path / "a.parquet"))


def test_a_label_without_a_name_is_refused_and_minus_one_is_none(tmp_path: Path) -> None:
    pq.write_table(table(range(2), label=[0, 7]), tmp_path / "a.parquet")
    with pytest.raises(UserError, match="label 7 is none of the 2 classes"):
        open_source(str(tmp_path / "a.parquet"))
    pq.write_table(table(range(2), label=[-1, -1]), tmp_path / "a.parquet")
    assert [label for _, label in told(tmp_path / "a.parquet")] == [None, None]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("data", [b"", b"PAR1", b"ARROW1\0\0", b"\xff" * 5000, b"PAR1" + bytes(100) + b"PAR1"])
def test_a_damaged_file_is_one_line(tmp_path: Path, suffix: str, data: bytes) -> None:
    (tmp_path / f"a{suffix}").write_bytes(data)
    with pytest.raises(UserError, match=r"give a whole Parquet or Arrow file|holds no image") as caught:
        open_source(str(tmp_path / f"a{suffix}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_flipped_bytes_end_in_a_bad_image_or_one_line_and_never_in_a_crash(tmp_path: Path, kind: str) -> None:
    rows, path = table(range(40)), tmp_path / f"a.{kind}"
    pq.write_table(rows, path) if kind == "parquet" else arrow_file(path, rows)
    whole, chance = path.read_bytes(), random.Random(0)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(3):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        try:
            for item in open_source(str(path)).items:
                read_image(item, 8, None)
        except UserError as error:
            assert "\n" not in str(error)


def test_a_pointer_of_git_lfs_says_how_to_fetch_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\n")
    with pytest.raises(UserError, match="git lfs pull"):
        open_source(str(tmp_path / "a.parquet"))


def test_without_pyarrow_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(table(range(2)), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"pip install 'embprobe\[hf\]'"):
        open_source(str(tmp_path / "a.parquet"))


@pytest.mark.parametrize("name", ["../x.arrow", "/etc/passwd", "", None, "a\\b"])
def test_a_saved_set_that_names_files_elsewhere_is_refused(tmp_path: Path, name: str | None) -> None:
    (tmp_path / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(UserError, match="which is no file beside it"):
        open_source(str(tmp_path))


def test_files_of_which_only_some_tell_a_split_are_refused(tmp_path: Path) -> None:
    for name in ("train-0.parquet", "more.parquet"):
        pq.write_table(table(range(2)), tmp_path / name)
    with pytest.raises(UserError, match=r'more.parquet" tells no split but others do'):
        open_source(str(tmp_path))
