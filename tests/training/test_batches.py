"""Training batches: the order of rows, what is read for it, and how long it takes."""

import time

import numpy as np
import pytest

from embprobe.store import Array, Folder, Store
from embprobe.training import batches
from embprobe.training.batches import RowBatches
from tests.tiny import Toy


def drawn(order: RowBatches, epoch: int) -> np.ndarray:
    """The order of an epoch, group by group, as it was first written: quadratic, and plain."""
    rng = np.random.default_rng([order.seed, epoch, 0xBA7C])
    chunks = rng.permutation(np.unique(order.rows // order.chunk_rows))
    groups = [np.sort(chunks[i : i + order.group]) for i in range(0, len(chunks), order.group)]
    return np.concatenate([rng.permutation(order.rows[np.isin(order.rows // order.chunk_rows, g)]) for g in groups])


def made(place: Store, rows: int, chunk_rows: int, width: int = 8, name: str = "values") -> Array:
    """An array whose rows hold their own number."""
    out = place.open(Toy())
    with out.locked():
        array = out.create(name, (rows, width), "float32", chunk_rows=chunk_rows)
        array.write(np.repeat(np.arange(rows, dtype=np.float32)[:, None], width, 1))
    return array


@pytest.fixture
def bytes_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The bytes of every chunk that is read from here on."""
    sizes: list[int] = []
    real = Folder.read

    def read(self: Folder, name: str, most: int = 1 << 28) -> bytes:
        data = real(self, name, most)
        sizes.extend([len(data)] if "/c/" in name else [])
        return data

    monkeypatch.setattr(Folder, "read", read)
    return sizes


@pytest.mark.parametrize("group", [1, 3, 6, 100])
@pytest.mark.parametrize("every", [1, 2, 17])
def test_an_order_is_that_of_the_plain_formula_bit_for_bit(
    place: Store, group: int, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = made(place, 430, 7)
    monkeypatch.setattr(batches, "SHUFFLE_BYTES", group * 7 * 32)
    order = RowBatches({"values": array}, np.arange(0, 430, every)[::-1], 8, seed=3)
    for epoch in range(3):
        np.testing.assert_array_equal(order._order(epoch), drawn(order, epoch))


def test_every_epoch_sees_each_row_once_and_runs_on_into_the_next(place: Store) -> None:
    order = RowBatches({"values": made(place, 50, 7)}, np.arange(50), 20, seed=0)
    seen = np.concatenate([order.rows_of(step) for step in range(5)])
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert order(3)["values"][:, 0].tolist() == order(3)["row"].tolist()


def test_the_order_of_an_epoch_of_a_million_images_takes_no_time(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    class Large:
        dtype, row_bytes, chunk_rows = np.dtype("float16"), 16 * 16 * 1280 * 2, 51

        def keep(self, chunks: int) -> None: ...

    order = RowBatches({"embeddings": Large()}, np.arange(1_280_000), 64, seed=0)  # type: ignore[dict-item]
    before = time.process_time()
    order.rows_of(0)
    assert time.process_time() - before < 0.5  # 0.03 s alone


@pytest.mark.parametrize("chunks", [6, 12, 45])
@pytest.mark.parametrize("batch", [5, 64, 120])
def test_a_random_epoch_reads_every_chunk_once(
    place: Store, chunks: int, batch: int, bytes_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    array = made(place, chunks * 51, 51)
    chunk = 51 * 32
    monkeypatch.setattr(batches, "SHUFFLE_BYTES", 6 * chunk)
    array._most = 2  # what CACHE_BYTES would leave of large chunks
    order = RowBatches({"values": array}, np.arange(len(array)), batch, seed=0)
    for step in range(len(array) // batch):
        order(step)
    assert sum(bytes_read) <= 1.05 * chunks * chunk
    assert len(array._kept) <= 6, "more is held than a group"


def test_smaller_chunks_of_the_same_rows_are_kept_for_the_whole_group(
    place: Store, bytes_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    large, small = made(place, 1200, 120), made(place, 1200, 10, name="small")
    monkeypatch.setattr(batches, "SHUFFLE_BYTES", 3 * 120 * 32)
    large._most = small._most = 2
    order = RowBatches({"large": large, "small": small}, np.arange(1200), 50, seed=0)
    for step in range(1200 // 50):
        order(step)
    assert sum(bytes_read) <= 1.05 * 2 * 1200 * 32
