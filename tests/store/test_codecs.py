"""Chunks are coded as zarr.json declares: by us for Zarr, by Zarr for us, and by zarrs for both."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from embprobe.errors import DamagedError, UserError
from embprobe.store import Array, Artefact, Folder, Store
from embprobe.store.codecs import COMPRESSORS, Coder
from tests.store.test_store import flip
from tests.tiny import Toy

IMAGES = np.random.default_rng(0).integers(0, 40, (10, 8, 6, 3), np.uint8)


@pytest.fixture
def out(place: Store) -> Artefact:
    out = place.open(Toy())
    with out.locked():
        out.create("images", IMAGES.shape, "uint8", chunk_rows=4, kind="images").write(IMAGES)
        out.create("bare", (7, 3), "float16", chunk_rows=2).write(np.arange(21).reshape(7, 3))
    return out


def test_images_take_less_than_their_pixels_and_read_back_equal(out: Artefact) -> None:
    stored = sum((out.path / out.array("images").file(c)).stat().st_size for c in range(3))
    assert stored < IMAGES.nbytes
    np.testing.assert_array_equal(out.array("images").read(), IMAGES)
    np.testing.assert_array_equal(out.array("images")[[7, 0]], IMAGES[[7, 0]])


def test_plain_zarr_reads_what_we_code(out: Artefact) -> None:
    group = zarr.open_group(str(out.path / "data.zarr"), mode="r")
    np.testing.assert_array_equal(group["images"][:], IMAGES)
    np.testing.assert_array_equal(group["bare"][:], out.array("bare").read())


def test_zarrs_reads_what_we_code(out: Artefact) -> None:
    pytest.importorskip("zarrs")
    with zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"}):
        group = zarr.open_group(str(out.path / "data.zarr"), mode="r")
        np.testing.assert_array_equal(group["images"][:], IMAGES)
        np.testing.assert_array_equal(group["bare"][:], out.array("bare").read())


@pytest.mark.parametrize("codec", [*COMPRESSORS["images"], {"name": "zstd", "configuration": {"level": 3}}, None])
def test_we_read_what_plain_zarr_codes(tmp_path: Path, codec: dict[str, object] | None) -> None:
    group = zarr.open_group(str(tmp_path / "data.zarr"), mode="w", zarr_format=3)
    made = group.create_array(
        "images", shape=IMAGES.shape, dtype="uint8", chunks=(4, 8, 6, 3), compressors=codec and (codec,), filters=None
    )
    made[:] = IMAGES
    folder = Folder(tmp_path)
    for file in [p for p in tmp_path.rglob("*") if p.is_file()]:
        folder.write(file.relative_to(tmp_path).as_posix(), file.read_bytes())
    np.testing.assert_array_equal(Array(folder, "images").read(), IMAGES)


def test_the_same_values_give_the_same_bytes_in_any_thread() -> None:
    from concurrent.futures import ThreadPoolExecutor

    coder = Coder([{"name": "bytes"}, *COMPRESSORS["images"]])
    large = np.random.default_rng(1).integers(0, 9, (64, 128, 128, 3), np.uint8)
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(coder.encode, large).result()
    assert bytes(coder.encode(large)) == bytes(other) == bytes(coder.encode(large))


def test_an_unknown_codec_is_named(out: Artefact) -> None:
    name = "data.zarr/images/zarr.json"
    meta = json.loads((out.path / name).read_text())
    meta["codecs"].append({"name": "lzma9"})
    out.folder.write(name, json.dumps(meta).encode())
    with pytest.raises(UserError, match="coded by 'lzma9' can't be read"):
        out.array("images")


def test_a_damaged_chunk_is_told_by_its_checksum_before_it_is_decoded(out: Artefact) -> None:
    flip(out.path / out.array("images").file(1), 40)
    with pytest.raises(DamagedError, match="is damaged; `embprobe verify --repair"):
        out.array("images").read()


def test_bytes_that_hold_too_little_are_damage() -> None:
    with pytest.raises(DamagedError, match="holds 4 values, not 8"):
        Coder([{"name": "bytes"}]).decode(b"abcd", np.dtype("uint8"), 8)
