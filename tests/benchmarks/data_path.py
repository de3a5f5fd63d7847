"""How fast numbers move: `python -m tests.benchmarks.data_path [FOLDER]`, a few minutes in one thread; prints ratios.

    extraction / bare     Extract.run to a store in FOLDER, beside the network alone, from u8 pixels in memory to f16 ones
    encode                stored f16 bytes a second of processor time, with their statistics; and the cast alone
    store / plain file    a 33 MB chunk with its moments, beside a plain file that is written and flushed
    amplification         bytes read and hashed / bytes asked for: random batches of an epoch, in order by 128, single rows
    order                 seconds for an epoch's order of 1.28 million rows in chunks of 51

Each pair is measured in turns in one process, since machines are shared; the median and the best of several rounds are given.
"""

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from embprobe import console
from embprobe.store import Array, Folder, Parts, Store, aligned
from embprobe.training import batches
from embprobe.training.batches import RowBatches
from tests.benchmarks.pairs import Pair, Sizes, Timed, agree, in_turns
from tests.tiny import Toy

ROUNDS = 7
ROW = (16, 16, 1280)  # ViT-H/14
CHUNK = 51


def ratio(times: Timed, of: str, to: str) -> str:
    """By how much `to` takes less time than `of`, in wall and processor time: median (best)."""
    parts = []
    for index, kind in enumerate(("wall", "processor")):
        middle, best = (
            choice(t[index] for t in times[of]) / choice(t[index] for t in times[to])
            for choice in (statistics.median, min)
        )
        parts.append(f"{kind} {middle:.2f} ({best:.2f})")
    return ", ".join(parts)


def extraction(root: Path) -> None:
    import torch

    from embprobe.encoders.load import load_encoder
    from embprobe.making import make
    from embprobe.stages.extract import Extract
    from embprobe.stages.ingest import Ingest

    store = Store(root / "extraction")
    images = make(Ingest(source="planted", count=2000, size=64), store)
    pixels = torch.from_numpy(images.array("images").read())
    name = "random:vit-128x6-h4-p8"
    encoder = load_encoder(name, image_size=(64, 64))
    number = iter(range(10**6))

    def bare() -> None:
        tokens = torch.empty(len(pixels), *encoder.grid, encoder.width, dtype=torch.float16)
        for start in range(0, len(pixels), 128):
            tokens[start : start + 128] = encoder(pixels[start : start + 128])

    def extract() -> None:
        seed = next(number)
        stage = Extract(images=images, encoder=name, seed=seed, device="cpu")
        out = store.open(stage)
        with out.locked():
            stage.run(out)

    bare()
    extract()
    times = in_turns({"bare": bare, "extract": extract}, ROUNDS)
    print(f"extraction / bare       {ratio(times, 'bare', 'extract')}")


def encode() -> None:
    import torch

    from embprobe.encoders.tokens import Rounding

    tokens, train = torch.randn(CHUNK, *ROW), torch.ones(CHUNK, dtype=torch.bool)
    rounding = Rounding({"encoding": "f16"}, "cpu")
    into = rounding.of(aligned(tuple(tokens.shape), np.dtype("float16")))
    times = in_turns(
        {"encode": lambda: rounding.encode(tokens, train, into), "cast": lambda: into.copy_(tokens)}, ROUNDS
    )
    rates = {k: into.nbytes / 1e6 / statistics.median(cpu for _, cpu in v) for k, v in times.items()}
    print(f"encode                  {rates['encode']:,.0f} MB/cpu-s; the cast alone {rates['cast']:,.0f}")


def storing(root: Path, rounds: int) -> Timed:
    """Seconds for a 33 MB chunk and its moments; for a plain file, flushed; and for zarr-python, which flushes nothing."""
    import zarr

    out = Store(root / "storing").open(Toy())
    values = aligned((CHUNK, *ROW), np.dtype("float16"))
    values[...] = np.random.default_rng(0).normal(size=values.shape)
    number, shape = iter(range(10**6)), (CHUNK * 1000, *ROW)
    foreign = zarr.create_array(
        str(root / "foreign.zarr"), shape=shape, dtype="float16", chunks=values.shape, compressors=None
    )
    with out.locked():
        array = out.create("embeddings", shape, "float16", chunk_rows=CHUNK)
        moments = Parts(out.create("moments", (1000, 3, ROW[-1]), "float64", chunk_rows=136), 1)
        row = np.random.default_rng(1).normal(size=(1, 3, ROW[-1]))

        def gone(path: Path) -> None:
            agree("bytes", np.fromfile(path, np.int16), values.view(np.int16).ravel(), 0.0)
            path.unlink()

        def plain() -> None:
            with (root / "plain").open("wb") as file:
                file.write(values.data)
                file.flush()
                os.fsync(file.fileno())

        def chunk() -> None:
            index = next(number)
            moments.write(index, row)
            array.write_chunk(index, values)
            written.append(out.path / array.file(index))

        def zarr_python() -> None:
            foreign[:CHUNK] = values

        written: list[Path] = []
        times: Timed = {"plain": [], "chunk": [], "zarr": []}
        for _ in range(rounds):
            for name, found in in_turns({"plain": plain, "chunk": chunk, "zarr": zarr_python}, 1).items():
                times[name] += found
            for path in (root / "plain", written.pop(), root / "foreign.zarr" / "c" / "0" / "0" / "0" / "0"):
                gone(path)
    return times


def reading(root: Path, chunks: int, rounds: int) -> Timed:
    """Seconds for an epoch of random batches of 64, from checked chunks of 33 MB and from a memmap in the disk's cache."""
    out, rows = Store(root / "epoch").open(Toy()), CHUNK * chunks
    values = np.random.default_rng(0).integers(-1000, 1000, (rows, *ROW), np.int16).view(np.float16)
    with out.locked():
        out.create("values", values.shape, "float16", chunk_rows=CHUNK).write(values)
    values.tofile(root / "values")
    mapped = np.memmap(root / "values", np.float16, "r", shape=values.shape)
    drawn = RowBatches({"values": out.array("values")}, np.arange(rows), 64, 0)
    steps = range(rows // 64)
    order = [drawn.rows_of(step) for step in steps]
    for step in steps:
        agree("rows", drawn(step)["values"].view(np.int16), mapped[order[step]].view(np.int16), 0.0)

    def epoch() -> None:
        unread = out.array("values")  # which keeps nothing yet
        fresh = RowBatches({"values": unread}, np.arange(rows), 64, 0)
        for step in steps:
            fresh(step)

    return in_turns({"ours": epoch, "memmap": lambda: [mapped[at] for at in order]}, rounds)


def pairs(sizes: Sizes, root: Path) -> Iterator[Pair]:
    """The store's lines of `python -m tests.benchmarks`."""
    times = storing(root, max(sizes.rounds, 5))
    for name, shown in (("plain", "plain file + fsync"), ("zarr", "zarr-python, not flushed")):
        what = "a 33 MB chunk, its checksum and its moments, flushed"
        yield Pair("store", what, shown, times["chunk"], times[name], "bytes of the files equal")
    times = reading(root, sizes.chunks, sizes.rounds)
    what = f"random batches of 64 from {sizes.chunks} chunks, every chunk's checksum checked"
    yield Pair("store", what, "numpy memmap, cached", times["ours"], times["memmap"], "rows equal")


def amplification(root: Path) -> None:
    """In an array of a 64th of the size, in memory that is smaller by as much."""
    out = Store(root / "reading").open(Toy())
    with out.locked():
        array = out.create("values", (CHUNK * 60, 20, 16, 16), "float16", chunk_rows=CHUNK)
        array.write(np.zeros(array.shape, np.float16))
    batches.SHUFFLE_BYTES >>= 6
    read = [0]
    real = Folder.read

    def counted(self: Folder, name: str, most: int = 1 << 28) -> bytes:
        data = real(self, name, most)
        read[0] += len(data)
        return data

    Folder.read = counted  # type: ignore[method-assign]

    def fresh() -> Array:
        array = out.array("values")
        array._most = 8
        read[0] = 0
        return array

    array = fresh()
    order = RowBatches({"values": array}, np.arange(len(array)), 64, 0)
    for step in range(len(array) // 64):
        order(step)
    whole = array.row_bytes * len(array)
    found = {"random": read[0] / (len(array) // 64 * 64 * array.row_bytes)}
    for name, size in (("by 128", 128), ("singly", 1)):
        array = fresh()
        for start in range(0, len(array), size):
            array.read(start, start + size)
        found[name] = read[0] / whole
    print("amplification           " + ", ".join(f"{k} {v:.2f}" for k, v in found.items()))


def order() -> None:
    class Large:
        dtype, row_bytes, chunk_rows = np.dtype("float16"), int(np.prod(ROW)) * 2, CHUNK

        def keep(self, chunks: int) -> None: ...

    drawn = RowBatches({"embeddings": Large()}, np.arange(1_280_000), 64, 0)  # type: ignore[dict-item]
    before = time.process_time()
    drawn.rows_of(0)
    print(f"order                   {time.process_time() - before:.3f} s")


if __name__ == "__main__":
    import torch

    torch.set_num_threads(1)
    console.say = lambda *words: None  # type: ignore[assignment]
    with tempfile.TemporaryDirectory(dir=sys.argv[1] if len(sys.argv) > 1 else None) as folder:
        order()
        encode()
        amplification(Path(folder))
        times = storing(Path(folder), 15)
        print(f"store / plain file      {ratio(times, 'plain', 'chunk')}")
        extraction(Path(folder))
