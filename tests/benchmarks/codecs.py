"""Ratio and speed of chunk codecs on the arrays of a store; `python tests/benchmarks/codecs.py --store DIR`."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numcodecs import blosc
from numcodecs.blosc import BITSHUFFLE, Blosc
from numcodecs.zstd import Zstd

sys.path.insert(0, str(Path(__file__).parents[2]))

from embprobe.store import Store

blosc.use_threads = False  # as the store does: with threads the order of blocks, and so the bytes, vary
CODECS = {
    "none": None,
    "zstd 1": Zstd(1),
    "blosc lz4 bitshuffle": Blosc("lz4", 5, BITSHUFFLE),
    "blosc zstd 1 bitshuffle": Blosc("zstd", 1, BITSHUFFLE),
}
ARRAYS = (("ingest", "images"), ("extract", "embeddings"), ("compress", "latents"), ("features", "train_features"))
MOST = 256 << 20  # bytes of each array


def rate(work: Callable[[], object], size: int) -> float:
    """GB/s, median of 3."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return size / statistics.median(times) / 1e9


def table(store: Store) -> None:
    """A row for each array and codec."""
    line = "{:<12}{:<14}{:<10}{:<26}{:>7}{:>14}{:>14}"
    print(line.format("stage", "array", "type", "codec", "ratio", "encode GB/s", "decode GB/s"))
    for artefact in store.artefacts():
        for stage, name in ARRAYS:
            if artefact.stage != stage or not artefact.complete or not artefact.has(name):
                continue
            array = artefact.array(name)
            rows = max(1, MOST // (array.dtype.itemsize * int(np.prod(array.shape[1:]))))
            chunks = [array.chunk(c) for c in range(min(array.n_chunks, max(1, rows // array.chunk_rows)))]
            size = sum(c.nbytes for c in chunks)
            for label, codec in CODECS.items():
                encode = np.ndarray.copy if codec is None else codec.encode
                stored = [encode(c) for c in chunks]
                decode = np.copy if codec is None else codec.decode
                ratio = size / sum(len(memoryview(s).cast("B")) for s in stored)
                shown = f"{artefact.stage} {artefact.options.get('storage', '')}", name, str(array.dtype), label
                speed = rate(lambda c=chunks, e=encode: [e(v) for v in c], size)
                back = rate(lambda s=stored, d=decode: [d(v) for v in s], size)
                print(line.format(*shown, f"{ratio:.2f}", f"{speed:.2f}", f"{back:.2f}"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=Path, required=True)
    table(Store(parser.parse_args().store))
