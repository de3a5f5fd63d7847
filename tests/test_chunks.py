"""The loop that fills arrays: resumes by chunk, never crosses chunks, overlaps, stays in bounded memory."""

import errno
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from embprobe import signals
from embprobe.chunks import batches_of, fill, pour
from embprobe.errors import Interrupted
from embprobe.store import Array, Artefact, Store, disk
from tests.tiny import Toy

ROWS = 23


@pytest.fixture
def out(place: Store) -> Artefact:
    return place.open(Toy())


def arrays(out: Artefact) -> tuple[Array, Array, Array]:
    """Two arrays of the same rows in chunks of five, and the sums of each chunk."""
    plain = out.create("plain", (ROWS, 2), "float32", chunk_rows=5)
    double = out.create("double", (ROWS,), "int64", chunk_rows=5)
    return plain, double, out.create("sums", (plain.n_chunks, 1), "float64", chunk_rows=1)


def run(out: Artefact, batch: int = 2, asked: list[range] | None = None) -> None:
    def read(rows: range) -> np.ndarray:
        return np.arange(rows.start, rows.stop)

    def compute(rows: range, values: np.ndarray) -> list[np.ndarray]:
        if asked is not None:
            asked.append(rows)
        return [np.stack([values, -values], 1), 2 * values, np.array([values.sum()])]

    with out.locked():
        plain, double, sums = arrays(out)
        fill([plain, double], read, compute, batch=batch, label="filling", sums=sums)


@pytest.mark.parametrize("batch", [1, 2, 5, 100])
def test_every_row_is_computed_once_and_batches_never_cross_chunks(out: Artefact, batch: int) -> None:
    asked: list[range] = []
    run(out, batch, asked)
    assert [row for rows in asked for row in rows] == list(range(ROWS))
    assert all(rows.start // 5 == (rows.stop - 1) // 5 and len(rows) <= batch for rows in asked)
    np.testing.assert_array_equal(out.array("plain").read()[:, 1], -np.arange(ROWS))
    np.testing.assert_array_equal(out.array("double").read(), 2 * np.arange(ROWS))
    np.testing.assert_array_equal(out.array("sums").read()[:, 0], [10, 35, 60, 85, 63])


@pytest.mark.parametrize("at", range(12))
def test_stopped_anywhere_it_redoes_only_missing_chunks(
    out: Artefact, at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(whole := Store(tmp_path / "whole").open(Toy()))
    asked = [0]

    def check() -> None:
        asked[0] += 1
        if asked[0] > at:
            raise Interrupted("stop")

    with monkeypatch.context() as patch:
        patch.setattr(signals, "check", check)
        with pytest.raises(Interrupted):
            run(out)
    fresh = Store(out.root).open(Toy())
    missing = set(fresh.array("plain").missing()) | set(fresh.array("double").missing())
    again: list[range] = []
    run(fresh, asked=again)
    assert {rows.start // 5 for rows in again} == missing
    assert fresh.folder.sums == whole.folder.sums


def test_a_chunk_that_one_array_lacks_leaves_the_others_files_alone(out: Artefact) -> None:
    run(out)
    kept = out.path / out.array("plain").file(1)
    before = kept.stat().st_mtime_ns
    out.remove(out.array("double").file(1))
    run(out)
    assert kept.stat().st_mtime_ns == before and out.array("double").read(5, 10).tolist() == [10, 12, 14, 16, 18]


def test_reading_and_writing_overlap_with_computing(out: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    busy: set[str] = set()
    seen: set[frozenset[str]] = set()
    lock = threading.Lock()

    def work(name: str, seconds: float) -> None:
        with lock:
            busy.add(name)
            seen.add(frozenset(busy))
        time.sleep(seconds)
        with lock:
            busy.discard(name)

    real = Array.write_chunk

    def write(self: Array, chunk: int, values: np.ndarray) -> None:
        work("write", 0.02)
        real(self, chunk, values)

    monkeypatch.setattr(Array, "write_chunk", write)
    with out.locked():
        array = out.create("values", (40,), "float32", chunk_rows=4)

        def read(rows: range) -> range:
            work("read", 0.01)
            return rows

        def compute(rows: range, _: range) -> list[np.ndarray]:
            work("compute", 0.02)
            return [np.zeros(len(rows))]

        fill([array], read, compute, batch=4, label="filling")
    assert frozenset({"read", "compute", "write"}) in seen


def test_no_more_than_three_chunks_are_held(out: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    computed, written, most = [0], [0], [0]
    real = Array.write_chunk

    def write(self: Array, chunk: int, values: np.ndarray) -> None:
        time.sleep(0.01)
        real(self, chunk, values)
        written[0] += 1

    monkeypatch.setattr(Array, "write_chunk", write)
    with out.locked():
        array = out.create("values", (30,), "float32", chunk_rows=1)

        def compute(rows: range, _: None) -> list[np.ndarray]:
            computed[0] += 1
            most[0] = max(most[0], computed[0] - written[0])
            return [np.zeros(1)]

        fill([array], lambda rows: None, compute, batch=1, label="filling")
    assert most[0] <= 4  # the one computed now, two on their way, and one whose count is not yet taken


def test_what_fails_to_write_fails_the_loop(out: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Array, "write_chunk", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run(out)


def test_batches_cover_their_rows() -> None:
    assert list(batches_of(range(5, 12), 3)) == [range(5, 8), range(8, 11), range(11, 12)]
    assert list(batches_of(range(3, 3), 3)) == []


def poured(out: Artefact, batch: int, asked: list[range], waited: list[int] | None = None, die: int = 99) -> None:
    """Fills by units of whole chunks; values and sums arrive only when they are waited for, as from a device."""

    def compute(rows: range, _: None, into: Sequence[np.ndarray]) -> Callable[[], None]:
        asked.append(rows)
        if len(asked) > die:
            raise Interrupted("stop")
        into[0][...] = np.nan  # not there yet
        assert not into[-1].any(), "sums of an earlier unit"

        def wait() -> None:
            if waited is not None:
                waited.append(rows.start)
            numbers = np.arange(rows.start, rows.stop)
            into[0][...] = np.stack([numbers, numbers + 0.25 * len(rows)], 1)  # as it was computed together
            into[1][...] = 2 * numbers
            for place, part in enumerate(batches_of(rows, 5)):
                into[-1][place] += sum(part)

        return wait

    with out.locked():
        plain, double, sums = arrays(out)
        pour([plain, double], lambda rows: None, compute, batch=batch, label="filling", sums=sums, together=True)


@pytest.mark.parametrize(
    ("batch", "units"),
    [
        (4, [*((5 * c + a, 5 * c + b) for c in range(4) for a, b in ((0, 4), (4, 5))), (20, 23)]),
        (5, [(0, 5), (5, 10), (10, 15), (15, 20), (20, 23)]),
        (11, [(0, 10), (10, 20), (20, 23)]),
        (15, [(0, 15), (15, 23)]),
        (500, [(0, 23)]),
    ],
)
def test_units_cover_whole_chunks_and_are_written_once_they_arrived(
    out: Artefact, batch: int, units: list[tuple[int, int]]
) -> None:
    asked: list[range] = []
    waited: list[int] = []
    poured(out, batch, asked, waited)
    assert [(rows.start, rows.stop) for rows in asked] == units and sorted(waited) == [a for a, _ in units]
    np.testing.assert_array_equal(out.array("plain").read()[:, 0], np.arange(ROWS))
    np.testing.assert_array_equal(out.array("double").read(), 2 * np.arange(ROWS))
    np.testing.assert_array_equal(out.array("sums").read()[:, 0], [10, 35, 60, 85, 63])


@pytest.mark.parametrize("chunk", range(5))
@pytest.mark.parametrize("name", ["plain", "sums"])
def test_a_lost_chunk_is_made_by_the_unit_it_was_made_by(out: Artefact, chunk: int, name: str) -> None:
    poured(out, 11, [])
    before = dict(out.folder.sums)
    out.remove(out.array(name).file(chunk))
    asked: list[range] = []
    poured(out, 11, asked)
    assert [rows.start for rows in asked] == [chunk // 2 * 10]
    assert dict(out.folder.sums) == before


@pytest.mark.parametrize("die", range(4))
def test_units_stopped_anywhere_continue_to_the_same_bytes(out: Artefact, die: int, tmp_path: Path) -> None:
    poured(whole := Store(tmp_path / "whole").open(Toy()), 11, [])
    if die < 3:
        with pytest.raises(Interrupted):
            poured(out, 11, [], die=die)
    poured(fresh := Store(out.root).open(Toy()), 11, [])
    assert fresh.folder.sums == whole.folder.sums


def test_a_full_disk_stops_it_and_what_was_written_is_kept(out: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    real, room = disk.create, [10]

    def create(path: Path, data: bytes) -> None:
        room[0] -= 1
        if room[0] < 0:
            path.write_bytes(bytes(data)[: len(data) // 2])
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(disk, "create", create)
        with pytest.raises(OSError, match="No space"):
            run(out)
    again: list[range] = []
    run(fresh := Store(out.root).open(Toy()), asked=again)
    assert 0 < len({rows.start // 5 for rows in again}) < 5
    np.testing.assert_array_equal(fresh.array("sums").read()[:, 0], [10, 35, 60, 85, 63])
