"""Small rows in large chunks: no part is lost by a kill, none is taken that is torn, and no journal stays."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from embprobe.store import Artefact, Parts, Store, disk
from tests.tiny import Toy

ROWS, CHUNK = 23, 10


def parts_of(out: Artefact, rows: int = 1) -> Parts:
    return Parts(out.create("sums", (ROWS, 3), "float64", chunk_rows=CHUNK), rows)


def row(part: int, rows: int = 1) -> np.ndarray:
    numbers = np.arange(part * rows, min(ROWS, (part + 1) * rows))
    return numbers[:, None] + np.array([0.0, 0.5, 0.25])


def journals(out: Artefact) -> list[Path]:
    return sorted((out.path / "checkpoints").glob("sums.*"))


@pytest.fixture
def out(place: Store) -> Artefact:
    return place.open(Toy())


@pytest.mark.parametrize("rows", [1, 2, 5, 10])
def test_parts_in_any_order_are_the_array(out: Artefact, rows: int) -> None:
    with out.locked():
        parts = parts_of(out, rows)
        for part in np.random.default_rng(0).permutation(parts.count).tolist():
            parts.write(part, row(part, rows))
        np.testing.assert_array_equal(out.array("sums").read()[:, 0], np.arange(ROWS))
        assert parts.missing() == [] and journals(out) == []


@pytest.mark.parametrize("done", range(ROWS))
def test_a_kill_takes_back_no_part(out: Artefact, done: int) -> None:
    child = os.fork()
    if child == 0:
        with out.locked():
            parts = parts_of(out)
            for part in range(done):
                parts.write(part, row(part))
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    fresh = Store(out.root).open(Toy())
    with fresh.locked():
        parts = parts_of(fresh)
        assert parts.missing() == list(range(done, ROWS))
        for part in parts.missing():
            parts.write(part, row(part))
        np.testing.assert_array_equal(fresh.array("sums").read()[:, 1], np.arange(ROWS) + 0.5)
        assert journals(fresh) == []


def test_torn_changed_and_foreign_lines_are_written_again(out: Artefact) -> None:
    with out.locked():
        parts = parts_of(out)
        for part in range(4):
            parts.write(part, row(part))
        journal = journals(out)[0]
        lines = journal.read_bytes().split(b"\n")[:-1]
        lines[1] = lines[1][:50] + (b"B" if lines[1][50:51] == b"A" else b"A") + lines[1][51:]
        lines[2] = b"15" + lines[2][1:]  # of another chunk
        journal.write_bytes(b"\n".join([*lines[:3], b"", b"\xff\0", lines[3][:-9]]))
        assert parts_of(out).missing() == list(range(1, ROWS))


@pytest.mark.parametrize("rows", [5, 7, 23])
def test_a_chunk_that_is_the_whole_array_may_hold_a_broken_part(out: Artefact, rows: int) -> None:
    with out.locked():
        parts = Parts(out.create("sums", (ROWS, 3), "float64", chunk_rows=35), rows)
        for part in range(parts.count):
            parts.write(part, row(part, rows))
        np.testing.assert_array_equal(out.array("sums").read()[:, 0], np.arange(ROWS))


def test_a_part_that_is_there_is_not_written_again(out: Artefact) -> None:
    with out.locked():
        parts_of(out).write(3, row(3))
        before = journals(out)[0].read_bytes()
        parts_of(out).write(3, row(5))
        assert journals(out)[0].read_bytes() == before


def test_a_part_costs_no_flush_and_settling_flushes_all(out: Artefact, monkeypatch: pytest.MonkeyPatch) -> None:
    with out.locked():
        parts = parts_of(out)
        flushed: list[Path] = []
        real = disk.sync
        monkeypatch.setattr(disk, "sync", lambda path: (flushed.append(path), real(path)))
        for part in range(5):
            parts.write(part, row(part))
        assert flushed == []
        out.folder.settle()
        assert journals(out)[0] in flushed
        for part in range(5, ROWS):
            parts.write(part, row(part))
        out.folder.settle()  # of journals that are gone


def test_large_data_on_whole_pages_goes_past_the_cache_and_reads_back(out: Artefact, tmp_path: Path) -> None:
    from embprobe.store import aligned

    for size in (disk.DIRECT - 1, disk.DIRECT, disk.DIRECT + 4096, disk.DIRECT + 5000):
        data = aligned((size,), np.dtype(np.uint8))
        data[:] = np.random.default_rng(size).integers(0, 255, size, np.uint8)
        disk.create(tmp_path / str(size), data.data)
        disk.create(tmp_path / f"{size}.odd", data[1:].data)
        assert (tmp_path / str(size)).read_bytes() == data.tobytes()
        assert (tmp_path / f"{size}.odd").read_bytes() == data[1:].tobytes()


@pytest.mark.parametrize("refused_at", ["flag", "write"])
def test_a_file_system_that_knows_no_such_way_gets_the_same_bytes(
    tmp_path: Path, refused_at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import fcntl

    from embprobe.store import aligned

    data = aligned((disk.DIRECT * 2,), np.dtype(np.uint8))
    data[:] = np.arange(len(data)) % 251
    real_flag, real_write = fcntl.fcntl, os.write

    def flag(fd: int, command: int, value: int = 0) -> int:
        if refused_at == "flag" and value & os.O_DIRECT:
            raise OSError(errno.EINVAL, "no")
        return real_flag(fd, command, value)

    def write(fd: int, view: memoryview) -> int:
        if real_flag(fd, fcntl.F_GETFL) & os.O_DIRECT:
            if len(view) <= disk.DIRECT:
                raise OSError(errno.EINVAL, "no")
            return real_write(fd, view[: disk.DIRECT])  # short, then refused
        return real_write(fd, view)

    monkeypatch.setattr(disk.fcntl, "fcntl", flag)
    monkeypatch.setattr(disk.os, "write", write)
    disk.create(tmp_path / "file", data.data)
    assert (tmp_path / "file").read_bytes() == data.tobytes()
