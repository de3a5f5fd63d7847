"""Each stage against what a user would pick instead, as ratios: `python -m tests.benchmarks --out tests/benchmarks/README.md`.

Ours and theirs do the same work, which is checked first, by turns in one process and on one thread; a ratio above 1 says
that embprobe takes less time. thingsvision is measured where it can be imported; its newest release pins torchvision
0.15.2, which brings torch 2.0.1, and needs TensorFlow, so it can't be installed beside embprobe's own libraries.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # which OpenBLAS and MKL follow

import argparse
import importlib
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from embprobe import console
from tests.benchmarks.pairs import QUICK, Disagreement, Line, Pair, Sizes, markdown

LINES = {
    "extract": "stages.extraction",
    "compress": "fitting.compression",
    "train": "stages.training",
    "sample": "stages.sampling",
    "decode": "fitting.decoding",
    "metrics": "metrics.pairs",
    "store": "data_path.pairs",
}
"""Where each line is measured; imported when it is its turn."""


def measured(names: list[str], sizes: Sizes, folder: Path | None) -> tuple[list[Pair], list[str], bool]:
    """The pairs, what is to be said beside them, and whether all of them do the same work."""
    pairs, notes, sound = [], [], True
    for name in names:
        began, (module, function) = time.perf_counter(), LINES[name].split(".")
        line: Line = getattr(importlib.import_module(f"tests.benchmarks.{module}"), function)
        with tempfile.TemporaryDirectory(dir=folder) as root:
            try:
                for found in line(sizes, Path(root)):
                    if isinstance(found, Pair):
                        pairs.append(found)
                        print(*found.cells(), sep="  ", file=sys.stderr, flush=True)
                    else:
                        notes.append(found)
            except Disagreement as error:
                sound = False
                notes.append(f"{name}: not the same work, so no ratio: {error}.")
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return pairs, notes, sound


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default=",".join(LINES), help="lines to measure, with commas between")
    parser.add_argument("--quick", action="store_true", help="small sizes, two minutes at most")
    parser.add_argument("--rounds", type=int, help="turns of each")
    parser.add_argument("--out", type=Path, help="a file for the table, or a README.md whose table is replaced")
    parser.add_argument("--folder", type=Path, help="where what is measured is written; else the temporary folder")
    given = parser.parse_args()
    names = given.only.split(",")
    if unknown := set(names) - LINES.keys():
        parser.error(f"no line {', '.join(sorted(unknown))}; there are {', '.join(LINES)}")
    sizes = QUICK if given.quick else Sizes()
    if given.rounds:
        sizes = replace(sizes, rounds=given.rounds)
    console.say = lambda *words: None  # type: ignore[assignment]
    pairs, notes, sound = measured(names, sizes, given.folder)
    write(markdown(pairs, notes), given.out)
    return 0 if sound else 1


BEGIN, END = "<!-- table -->", "<!-- end of table -->"


def write(table: str, out: Path | None) -> None:
    """To stdout or a file; between two marks where the file has them."""
    if out is None:
        print(table, end="")
        return
    old = out.read_text() if out.is_file() else ""
    if BEGIN in old and END in old:
        table = f"{old.partition(BEGIN)[0]}{BEGIN}\n{table}{END}{old.partition(END)[2]}"
    out.write_text(table)


if __name__ == "__main__":
    sys.exit(main())
