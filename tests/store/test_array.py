"""Reading rows: each chunk is read and hashed once, whatever part of it is asked for, and by how many threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from embprobe.errors import DamagedError
from embprobe.store import Array, Artefact, Store
from tests.store.test_store import flip
from tests.tiny import Toy

ROWS, CHUNK = 1000, 51


@pytest.fixture
def array(place: Store) -> Array:
    out = place.open(Toy())
    with out.locked():
        made = out.create("values", (ROWS, 4), "float32", chunk_rows=CHUNK)
        made.write(np.repeat(np.arange(ROWS, dtype=np.float32)[:, None], 4, 1))
    return made


@pytest.fixture
def chunks_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    read: list[int] = []
    real = Array.chunk

    def chunk(self: Array, index: int) -> np.ndarray:
        read.append(index)
        return real(self, index)

    monkeypatch.setattr(Array, "chunk", chunk)
    return read


@pytest.mark.parametrize("block", [1, 7, 50, 51, 52, 128, 999, 5000])
def test_in_order_each_chunk_is_read_once(array: Array, block: int, chunks_read: list[int]) -> None:
    array._most = 2
    parts = [array.read(start, start + block) for start in range(0, ROWS, block)]
    np.testing.assert_array_equal(np.concatenate(parts)[:, 0], np.arange(ROWS))
    assert sorted(chunks_read) == list(range(array.n_chunks))


def test_what_is_read_whole_is_not_kept(array: Array) -> None:
    array.read()
    assert not array._kept


def test_rows_of_more_chunks_than_are_kept_come_all_the_same(array: Array, chunks_read: list[int]) -> None:
    array._most = 3
    rows = np.random.default_rng(0).permutation(ROWS)
    np.testing.assert_array_equal(array.take(rows)[:, 0], rows)
    assert sorted(chunks_read) == list(range(array.n_chunks)) and len(array._kept) == 3
    assert array.take(np.zeros(0, np.int64)).shape == (0, 4)


def test_those_kept_are_taken_before_others_push_them_out(array: Array, chunks_read: list[int]) -> None:
    array._most = 6
    array.take(np.arange(6 * CHUNK, 12 * CHUNK))
    array.take(np.arange(12 * CHUNK))
    assert sorted(chunks_read) == list(range(12))


def test_many_threads_read_a_chunk_once_and_see_the_same(array: Array, chunks_read: list[int]) -> None:
    rng = np.random.default_rng(0)
    wanted = [rng.integers(0, ROWS, 40) for _ in range(64)]
    with ThreadPoolExecutor(8) as pool:
        for rows, values in zip(wanted, pool.map(array.take, wanted), strict=True):
            np.testing.assert_array_equal(values[:, 0], rows)
    assert len(chunks_read) == len(set(chunks_read)), "one chunk was read twice"


def test_threads_that_push_out_each_others_chunks_get_the_right_rows(array: Array) -> None:
    array._most = 2
    rng = np.random.default_rng(1)
    wanted = [rng.integers(0, ROWS, 40) for _ in range(32)]
    with ThreadPoolExecutor(8) as pool:
        for rows, values in zip(wanted, pool.map(array.take, wanted), strict=True):
            np.testing.assert_array_equal(values[:, 0], rows)
    assert len(array._kept) <= 2


def test_a_damaged_chunk_is_told_each_time_and_kept_never(array: Array, place: Store) -> None:
    out: Artefact = place.open(Toy())
    path: Path = out.path / array.file(3)
    whole = path.read_bytes()
    flip(path)
    for _ in range(2):
        with pytest.raises(DamagedError):
            array.take(np.array([3 * CHUNK]))
    path.write_bytes(whole)
    assert array.take(np.array([3 * CHUNK]))[0, 0] == 3 * CHUNK
