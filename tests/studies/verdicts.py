"""How often a report claims a difference where there is none, and how small a true one it finds. Run by hand.

    python tests/studies/verdicts.py --store DIR --samples A --reference A --judge A [--worse A] [--counts 500,1000]

Encoders that are one: disjoint parts of the samples of one denoiser stand for those of two and of four encoders, with one and
with three training seeds, against the same training images, many times over. A claim is any difference that the page would call
significant, after its correction. Beside it how often the uncorrected 95 % interval of each figure's difference holds 0, and
that of the figure itself the mean of all --draws. Then the power: the same denoiser with a growing share of samples of another
(--worse; without it of training images with their colours averaged by the judge's mean features) and the smallest true
difference that is claimed in 80 % of the pages.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from embprobe.evaluation.features import FeatureSet, feature_set
from embprobe.evaluation.figures import RELIABLE, Estimates, figures, share
from embprobe.making import make
from embprobe.metrics.table import METRIC
from embprobe.stages.features import Featurize
from embprobe.store import Artefact, Store
from embprobe.study.chance import corrected
from embprobe.study.rows import Row
from embprobe.study.verdict import answer, differences
from embprobe.views import Features, Images, image_size

PAGES = 24  # made of the same draws at least


@dataclass(frozen=True)
class Pool:
    """What a judge sees of many samples, and of the training images."""

    samples: FeatureSet
    worse: FeatureSet | None
    train: FeatureSet

    def partitions(self, count: int, parts: int, seed: int) -> tuple[list[FeatureSet], FeatureSet]:
        """Disjoint sets of samples, and a reference of as many training images."""
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(self.samples))
        sets = [self.samples.where(np.sort(order[i * count : (i + 1) * count])) for i in range(parts)]
        return sets, self.train.where(np.sort(rng.permutation(len(self.train))[:count]))


def pool(store: Store, given: argparse.Namespace) -> Pool:
    """The features, made where they are not there yet."""
    names = (given.samples, given.reference, given.judge, given.worse)
    samples, reference, judge, worse = (store.lookup(name) if name else None for name in names)
    assert samples is not None and reference is not None
    look = Featurize(images=reference, judge=judge or given.judge, size=image_size(samples), device="cpu")

    def seen(artefact: Artefact, whole: bool, name: str, labels: np.ndarray | None) -> FeatureSet:
        from dataclasses import replace

        made = make(replace(look, images=artefact, whole=whole, held_out="auto"), store)
        return feature_set(Features(made), name, labels)

    from embprobe.views import Samples

    return Pool(
        seen(samples, True, "samples", Samples(samples).labels),
        None if worse is None else seen(worse, True, "samples", Samples(worse).labels),
        seen(reference, False, "train", Images(reference).labels),
    )


def taken(samples: FeatureSet, reference: FeatureSet, k: int) -> Estimates:
    """The figures of one row, as a judge's report takes them."""
    wide = samples.output.features.shape[1] * RELIABLE > len(samples)  # FD∞ would not be compared
    found = figures(samples.output, reference.output, k, extrapolated=not wide, common_scale=True)
    if samples.label is not None and samples.output.probabilities is not None:
        hits = torch.from_numpy(samples.label) == samples.output.probabilities.argmax(1)
        found["asked_class"] = share("asked_class", hits, None, by_sample=True)
    return found


def page(rows: dict[str, list[Estimates]], count: int) -> tuple[list, list[str]]:  # type: ignore[type-arg]
    """The differences and the answer of a page of these encoders, each with its trainings' figures."""
    contenders = {
        name: [Row(name, values, training=str(t), count=count, reference="one") for t, values in enumerate(each)]
        for name, each in rows.items()
    }
    found = corrected(differences(contenders))
    return found, [str(s) for s in answer(contenders, found)]


def identical(
    data: Pool,
    count: int,
    encoders: int,
    seeds: int,
    replicates: int,
    k: int,
    cache: dict[tuple[int, int, int], Estimates],
) -> dict[str, object]:
    """Shares of pages with a false claim, and of intervals that hold the truth."""
    parts = encoders * seeds
    fit = min(len(data.samples) // count, 24)
    groups = fit // parts
    if groups == 0:
        return {}
    claims, behind, held, total = 0, 0, defaultdict(list), 0
    seed = 0
    while total < replicates:
        sets, reference = data.partitions(count, fit, seed)
        values = []
        for i, part in enumerate(sets[: groups * parts]):
            if (count, seed, i) not in cache:
                cache[count, seed, i] = taken(part, reference, k)
            values.append(cache[count, seed, i])
        for order in range(max(4, PAGES // groups)):  # the same sets are other encoders' in another order
            mixed = np.random.default_rng([seed, order]).permutation(groups * parts)
            for g in range(groups):
                mine = [values[i] for i in mixed[g * parts : (g + 1) * parts]]
                rows = {f"e{e}": mine[e * seeds : (e + 1) * seeds] for e in range(encoders)}
                found, said = page(rows, count)
                claims += any(d.significant and d.column.higher is not None for d in found)
                behind += any("behind" in sentence for sentence in said)
                total += 1
                for d in found:
                    if (d.first, d.second) == ("e0", "e1"):
                        held[d.column.key].append(d.low <= 0 <= d.high)
        seed += 1
    return {
        "n": count, "encoders": encoders, "seeds": seeds, "pages": total, "draws of the reference": seed,
        "any claim": round(claims / total, 4), "somebody behind": round(behind / total, 4),
        "difference holds 0": {key: round(float(np.mean(v)), 3) for key, v in held.items()},
    }  # fmt: skip


def values_hold(data: Pool, count: int, draws: int, k: int) -> dict[str, object]:
    """How often the interval of a figure itself holds the mean of all draws, each of samples and reference of its own."""
    mine = []
    for seed in range(draws):
        (part,), reference = data.partitions(count, 1, 10_000 + seed)
        mine.append(taken(part, reference, k))
    held = {}
    for key in mine[0]:
        mean = float(np.mean([values[key].value for values in mine]))
        ends = [values[key].ends for values in mine]
        held[key] = round(float(np.mean([e is not None and e[0] <= mean <= e[1] for e in ends])), 3)
    return {"n": count, "draws": draws, "figure holds its mean": held}


def smallest(cache: dict[tuple[int, int, int], Estimates], count: int, seeds: int) -> dict[str, object]:
    """The true difference of two encoders that 80 % of pages would claim, from how far images alone move it."""
    from scipy.stats import norm

    values = [v for (n, seed, _), v in cache.items() if n == count and seed == 0]
    rows = {f"e{e}": values[e * seeds : (e + 1) * seeds] for e in range(2)}
    found, _ = page(rows, count)
    told = [d for d in found if d.column.higher is not None]
    reach = float(norm.isf(0.025 / len(told)) + norm.isf(0.2))  # of the first that Holm would reject
    least = {d.column.key: float(f"{reach * d.variances['images'] ** 0.5:.3g}") for d in told}
    return {"n": count, "seeds": seeds, "comparisons": len(told), "found in 80 %, seeds agreeing": least}


def power(
    data: Pool, count: int, seeds: int, replicates: int, k: int, shares: list[float]
) -> Iterator[dict[str, object]]:
    """Claims against a denoiser a share of whose samples is another's."""
    assert data.worse is not None
    for worse in shares:
        claimed, apart, any_claim, total, seed = defaultdict(list), defaultdict(list), 0, 0, 1000
        while total < replicates:
            sets, reference = data.partitions(count, 2 * seeds, seed)
            rng, bad = np.random.default_rng(seed), round(worse * count)
            values = []
            for i, part in enumerate(sets):
                if i >= seeds and bad:
                    others = data.worse.where(np.sort(rng.permutation(len(data.worse))[:bad]))
                    part = part.cut(count - bad).joined(others)
                values.append(taken(part, reference, k))
            found, _ = page({"good": values[:seeds], "worse": values[seeds:]}, count)
            any_claim += any(d.significant and d.column.higher is not None for d in found)
            for d in found:
                claimed[d.column.key].append(d.significant)
                apart[d.column.key].append(d.value)
            total, seed = total + 1, seed + 1
        yield {
            "n": count, "seeds": seeds, "worse": worse, "pages": total, "any claim": any_claim / total,
            "claimed": {key: round(float(np.mean(v)), 2) for key, v in claimed.items() if METRIC[key].higher is not None},
            "true difference": {key: float(f"{np.mean(v):.3g}") for key, v in apart.items()},
        }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True)
    for name in ("samples", "reference", "judge"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--worse")
    parser.add_argument("--counts", default="500,1000,2000,5000")
    parser.add_argument("--encoders", default="2,4")
    parser.add_argument("--seeds", default="1,3")
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--shares", default="0.02,0.05,0.1,0.2,0.4")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--power-replicates", type=int, default=25)
    given = parser.parse_args()
    data = pool(Store(given.store), given)
    print(json.dumps({"samples": len(data.samples), "training images": len(data.train)}), flush=True)
    cache: dict[tuple[int, int, int], Estimates] = {}
    for count in map(int, given.counts.split(",")):
        for encoders in map(int, given.encoders.split(",")):
            for seeds in map(int, given.seeds.split(",")):
                print(json.dumps(identical(data, count, encoders, seeds, given.replicates, given.k, cache)), flush=True)
        for seeds in map(int, given.seeds.split(",")):
            print(json.dumps(smallest(cache, count, seeds)), flush=True)
        if given.draws:
            print(json.dumps(values_hold(data, count, given.draws, given.k)), flush=True)
        for seeds in map(int, given.seeds.split(",")) if data.worse is not None else ():
            for line in power(
                data, count, seeds, given.power_replicates, given.k, list(map(float, given.shares.split(",")))
            ):
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
