"""The search for copies on real images: which copies are warned of, and how often clean samples are. Run by hand.

    python tests/studies/copies_study.py --images imagenette64.zip [--store DIR] [--judge A]

Prints markdown tables: warnings by kind of copy, share, split and number of samples; duplicated training images and
duplicates across splits, through the code that `ingest` and `evaluate` run; false warnings among 200 clean sets. The
first and the last look neighbours up in one table of distances, which the second does not.
"""

import argparse
import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from embprobe.data.duplicates import Marks, duplicates
from embprobe.evaluation.alignment import QUERIES, PixelSpace, Views
from embprobe.evaluation.copies import KNOWN, distinct, search_copies
from embprobe.evaluation.features import ImageRows
from embprobe.evaluation.judges import load_judge
from embprobe.making import make
from embprobe.metrics.memorisation import COPY, WARNING, K, Memorisation, Near, memorisation, ratios
from embprobe.stages.ingest import Ingest
from embprobe.store import Store
from embprobe.views import Images, blocks

REAL, CLEAN, COPIED = 3000, 5000, 1000  # images of the data set, fresh ones as samples, those that may be copied
ALTERED = 2000  # fresh ones blurred, and with noise
SPACES = 3
KEPT = 200  # neighbours of a query in the table
SPLITS = {"9:1": 0.9, "2:1": 2 / 3}
SEED = 0


def jpeg(image: np.ndarray, quality: int = 50) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def cropped(image: np.ndarray, margin: int = 3) -> np.ndarray:
    side = len(image)
    return np.asarray(
        Image.fromarray(image[margin:-margin, margin:-margin]).resize((side, side), Image.Resampling.BICUBIC)
    )


KINDS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": lambda image: image,
    "flipped": lambda image: image[:, ::-1],
    "shifted 2 px": lambda image: np.pad(image, ((2, 0), (2, 0), (0, 0)), "edge")[:-2, :-2],
    "cropped 3 px": cropped,
    "brightened ×1.3": lambda image: (image * 1.3).clip(0, 255).astype(np.uint8),
    "JPEG 50": jpeg,
}


@dataclass(frozen=True)
class Memory:
    """Stands for a store's array of images."""

    values: np.ndarray
    n_chunks: int = 1

    @property
    def shape(self) -> tuple[int, ...]:
        return self.values.shape

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]

    def rows_of(self, _: int) -> range:
        return range(len(self))

    def chunk(self, _: int) -> np.ndarray:
        return self.values


def data_set(images: np.ndarray) -> Any:  # Any: stands for the view
    """Images with the groups that `ingest` would find."""
    array: Any = Memory(images)
    return SimpleNamespace(array=array, group=duplicates(array, Marks(len(images))).group)


class Pools:
    """Images of the data set and samples of every kind, and each one's neighbours in the data set."""

    def __init__(self, images: np.ndarray, seed: int = SEED) -> None:
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(images))
        group = data_set(images[order]).group
        order = order[np.unique(group, return_index=True)[1]]
        self.real, self.fresh = images[order[:REAL]], images[order[REAL : REAL + CLEAN]]
        part = self.fresh[:ALTERED].astype(np.float32)
        noisy = part + rng.normal(0, 15, part.shape)
        self.samples = {
            "fresh": self.fresh,
            "blurred": gaussian_filter(part, (0, 1.5, 1.5, 0)).round().astype(np.uint8),
            "with noise": noisy.round().clip(0, 255).astype(np.uint8),
        } | {kind: np.stack([alter(image) for image in self.real[:COPIED]]) for kind, alter in KINDS.items()}

    def rows(self, split: float, rng: np.random.Generator, copied: int) -> tuple[np.ndarray, np.ndarray]:
        """Training images, those that may be copied among them, and held-out ones."""
        rest = copied + rng.permutation(REAL - copied)
        train = np.concatenate([np.arange(copied), rest])[: round(REAL * split)]
        return np.sort(train), np.setdiff1d(np.arange(REAL), train)


@dataclass(frozen=True)
class Table:
    """For each query the nearest images of the data set: distances (Q,KEPT) ascending, and rows."""

    distance: Tensor
    row: Tensor

    def near(self, queries: np.ndarray, rows: np.ndarray, k: int) -> Near:
        """The nearest among chosen rows; rows are places in these."""
        place = torch.full((REAL,), -1)
        place[torch.from_numpy(rows)] = torch.arange(len(rows))
        chosen = torch.from_numpy(queries)
        row = place[self.row[chosen]]
        distance = self.distance[chosen].masked_fill(row < 0, torch.inf)
        order = distance.argsort(dim=1, stable=True)[:, :k]
        return Near(distance.gather(1, order), row.gather(1, order).clamp_min(0))


def pixel_table(space: PixelSpace, pictures: np.ndarray, own: bool) -> Table:
    """By views, as `PixelSpace` does, with more candidates; `own`: the pictures are the data set's."""
    fine, coarse = space.reduced(np.arange(REAL))
    parts = []
    for rows in blocks(np.arange(len(pictures)), QUERIES):
        near = Views.of(space.brought(pictures[rows])).nearest(fine, coarse, KEPT)
        mine = near.row == torch.from_numpy(rows)[:, None]
        parts.append(Near(near.distance.masked_fill(mine & own, torch.inf), near.row))
    return Table(torch.cat([p.distance for p in parts]), torch.cat([p.row for p in parts]))


def feature_table(features: Tensor, real: Tensor, own: bool) -> Table:
    """By Euclidean distance."""
    distance = torch.cdist(features.double(), real.double(), compute_mode="donot_use_mm_for_euclid_dist")
    if own:
        distance.fill_diagonal_(torch.inf)
    return Table(*distance.topk(KEPT, dim=1, largest=False))


def tested(
    tables: dict[str, Table], samples: list[tuple[str, np.ndarray]], train: np.ndarray, held: np.ndarray, seed: int
) -> Memorisation:
    """The test as `search_copies` makes it; samples by kind and place."""

    def joined(rows: np.ndarray, k: int) -> Near:
        parts = [tables[kind].near(places, rows, k) for kind, places in samples]
        return Near(torch.cat([p.distance for p in parts]), torch.cat([p.row for p in parts]))

    rng = np.random.default_rng(seed)
    known = np.concatenate([rng.permutation(rows)[:KNOWN] for rows in (held, train)])
    ratio = ratios(tables["real"].near(known, train, K), tables["real"].near(known, held, K))
    return memorisation(joined(train, K), joined(held, K), len(train), len(held), ratio)


def copies_by_kind(pools: Pools, tables: dict[str, Table]) -> Iterator[str]:
    """A line for each kind: warnings and copies found for every share, split and number of samples."""
    cells = [(n, split, share) for n in (300, 1000, 5000) for split in SPLITS for share in (0.01, 0.05, 0.2)]
    yield "| copies | " + " | ".join(f"{n}, {split}, {share:.0%}" for n, split, share in cells) + " |"
    yield "|---" * (len(cells) + 1) + "|"
    for kind in KINDS:
        words = []
        for n, split, share in cells:
            rng = np.random.default_rng(SEED)
            planted = round(n * share)
            train, held = pools.rows(SPLITS[split], rng, COPIED)
            samples = [(kind, rng.permutation(COPIED)[:planted]), ("fresh", rng.permutation(CLEAN)[: n - planted])]
            test = tested(tables, samples, train, held, SEED)
            hits = int((test.ratio[:planted] <= COPY).sum())
            warned = "**warned**" if test.p < WARNING / SPACES else f"p {test.p:.2g}"
            words.append(f"{warned} {hits}/{planted}+{test.copies - hits}")
        yield f"| {kind} | " + " | ".join(words) + " |"


def false_warnings(pools: Pools, tables: dict[str, Table], sets: int = 200) -> Iterator[str]:
    """A line for each kind of clean samples: how many of so many sets are warned of."""
    yield f"| clean samples, {sets} sets | split | n | warned | p < 0.05 | looked copied |"
    yield "|---|---|---|---|---|---|"
    for kind in ("fresh", "blurred", "with noise"):
        for split, share in SPLITS.items():
            for n in (300, 1000):
                found = []
                for seed in range(sets):
                    rng = np.random.default_rng(seed)
                    train, held = pools.rows(share, rng, 0)
                    places = rng.permutation(len(pools.samples[kind]))[:n]
                    found.append(tested(tables, [(kind, places)], train, held, seed))
                warned = sum(t.p < WARNING / SPACES for t in found)
                looked = sum(t.copies for t in found) / n / sets
                small = sum(t.p < 0.05 for t in found) / sets
                yield f"| {kind} | {split} | {n} | {warned} | {small:.1%} | {looked:.3%} |"


# ---- duplicates, through the code that is shipped


def duplicated(
    pools: Pools, times: int, copied: int, split: float, across: float
) -> tuple[Any, np.ndarray, np.ndarray]:
    """A data set whose first images occur several times in training, half of them encoded again; a share also held out."""
    train, held = pools.rows(split, np.random.default_rng(SEED), COPIED)
    again = [pools.real[i] if (i + j) % 2 else jpeg(pools.real[i], 90) for i in range(copied) for j in range(times - 1)]
    twins = [pools.real[i] if i % 2 else jpeg(pools.real[i], 90) for i in train[copied:][: round(across * len(held))]]
    images = np.concatenate([pools.real, *(np.stack(part) for part in (again, twins) if part)])
    extra = np.arange(REAL, REAL + len(again))
    return (
        data_set(images),
        np.concatenate([train, extra]),
        np.concatenate([held, np.arange(extra.size + REAL, len(images))]),
    )


def shipped(pools: Pools, real: tuple[Any, np.ndarray, np.ndarray], copies: int, n: int) -> Any:
    """What `search_copies` says of fresh samples, the first of them flipped copies."""
    data, train, held = real
    samples = np.concatenate([pools.samples["flipped"][:copies], pools.fresh[: n - copies]])
    array: Any = Memory(samples)
    space = PixelSpace(ImageRows(array, np.arange(n), samples.shape[1:3]), data)
    return search_copies(space, np.arange(n), *distinct(data, train, held, train), SPACES)


def with_duplicates(pools: Pools) -> Iterator[str]:
    """A line for each data set with duplicates."""
    yield "| duplicates | split | n | copies | warned | p | found | training, held out (distinct) |"
    yield "|---|---|---|---|---|---|---|---|"
    for split, share in SPLITS.items():
        for n in (300, 1000):
            sets = [(f"×{times} in training", times, 0.0, 0.05) for times in (1, 2, 5, 20)]
            sets += [("10 % of the held-out also in training", 1, 0.1, planted) for planted in (0.0, 0.05)]
            sets += [("50 % of the held-out also in training", 1, 0.5, 0.0)]
            for name, times, across, planted in sets:
                copies = round(planted * n)
                test = shipped(pools, duplicated(pools, times, copies, share, across), copies, n)
                yield (
                    f"| {name} | {split} | {n} | {copies} | {'yes' if test['warned'] else 'no'} | {test['p']:.2g} | "
                    f"{test['copies']} | {test['train']}, {test['held_out']} |"
                )


def say(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path("copies-study"))
    parser.add_argument("--judge", help="a classifier in the store, whose features are another space")
    given = parser.parse_args()
    store, started = Store(given.store), time.monotonic()
    view = Images(make(Ingest(source=str(given.images), size=64), store))
    pools = Pools(view.array.read())
    everything = {"real": pools.real, **pools.samples}
    array: Any = Memory(pools.real)
    space = PixelSpace(ImageRows(array, np.arange(1), pools.real.shape[1:3]), data_set(pools.real))
    tables = {"pixels": {kind: pixel_table(space, x, kind == "real") for kind, x in everything.items()}}
    print(
        f"pixels: {sum(map(len, everything.values()))} images looked up in {time.monotonic() - started:.0f} s\n",
        flush=True,
    )
    if given.judge:
        chosen = store.lookup(given.judge)
        assert chosen is not None
        judge = load_judge(chosen)
        seen = {
            k: torch.cat([judge(x[b], "cpu").features for b in blocks(np.arange(len(x)), 128)])
            for k, x in everything.items()
        }
        tables["judge"] = {kind: feature_table(x, seen["real"], kind == "real") for kind, x in seen.items()}
    for name, table in tables.items():
        print(f"## {name}: copies found / planted + false ones; {REAL} real images\n")
        say(copies_by_kind(pools, table))
        say(false_warnings(pools, table))
    print("## duplicates\n")
    say(with_duplicates(pools))
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
