"""Metrics on real images whose answer is known: copies, blur, noise, dropped and swapped classes. Run by hand.

    python tests/studies/known_answers.py --images imagenette64.zip [--store DIR] [--judge A] [--count 2000]

Without --judge the data set's classifier is trained first, as `evaluate` would. Prints a line for each known answer, with its
figures and whether it came out; exits 1 if one did not.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from embprobe.evaluation.copies import PIXELS
from embprobe.evaluation.figures import figures, swapped
from embprobe.evaluation.judges import Judge, load_judge
from embprobe.evaluation.output import JudgeOutput
from embprobe.making import make
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.memorisation import COPY, K, Memorisation, Near, memorisation
from embprobe.metrics.scores import class_shares, confusion, total_variation
from embprobe.pixels import resized
from embprobe.stages.classify import Classify
from embprobe.stages.ingest import Ingest
from embprobe.store import Store
from embprobe.views import Images

FAILED = []


def told(name: str, right: bool, **found: object) -> None:
    """Prints a known answer."""
    print(json.dumps({"answer": name, "right": bool(right), **found}, default=float), flush=True)
    if not right:
        FAILED.append(name)


class Data:
    """Images in memory, what the judge sees in them, and rows by split."""

    def __init__(self, store: Store, source: Path, judge: str | None, count: int) -> None:
        artefact = make(Ingest(source=str(source), size=64), store)
        chosen = store.lookup(judge) if judge else make(Classify(images=artefact), store)
        assert chosen is not None
        self.judge: Judge = load_judge(chosen)
        images = Images(artefact)
        self.images = images.array.read()
        self.label = torch.from_numpy(images.labels).long()
        rng = np.random.default_rng(0)
        self.train, self.held = rng.permutation(images.train), rng.permutation(images.held_out)
        self.seen = self.look(self.images)
        self.count = min(count, len(self.train), len(self.held))

    def look(self, images: np.ndarray) -> JudgeOutput:
        seen = [self.judge(images[i : i + 128], "cpu") for i in range(0, len(images), 128)]
        return JudgeOutput(*(torch.cat(parts) for parts in zip(*seen, strict=True)))

    def of(self, rows: np.ndarray) -> JudgeOutput:
        features, probabilities = self.seen
        assert probabilities is not None
        return JudgeOutput(features[rows], probabilities[rows])


def brief(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {k: round(v.value, 4) for k, v in estimates.items()}


def against_itself(data: Data) -> None:
    x = data.of(data.held[: data.count])
    found = brief(figures(x, x, 3, errors=False))
    exact = all(found[k] == 1 for k in ("precision", "recall", "coverage")) and found["tv"] == 0
    told("a set against itself", exact and abs(found["fd"]) < 1e-3 and found["kid"] <= 0, n=data.count, **found)


def dropped_classes(data: Data) -> None:
    """Half of the training images tells the judge's confusion, which foretells the shares of the others' first classes."""
    total = int(data.label.max()) + 1
    half = len(data.train) // 2
    judged = {key: data.of(rows)[1].argmax(1) for key, rows in (("told", data.train[:half]), ("held", data.held))}
    matrix = confusion(data.label[data.train[:half]], judged["told"], total).double()
    matrix /= matrix.sum(1, keepdim=True)
    rows = data.train[half:]
    rows = rows[(data.label[rows] < total // 2).numpy()][: data.count]
    kept = class_shares(data.label[rows], total)
    foretold = total_variation(kept @ matrix, class_shares(judged["held"], total))
    tv = figures(data.of(rows), data.of(data.held[: len(rows)]), 3)["tv"]
    right = tv.low <= foretold <= tv.high
    told(
        "half of the classes dropped",
        right,
        n=len(rows),
        foretold=foretold,
        **{k: getattr(tv, k) for k in ("value", "low", "high")},
    )


def swapped_labels(data: Data, pair: tuple[int, int] = (2, 5)) -> None:
    rows = data.held[: data.count]
    asked, judged = data.label[rows].clone(), data.of(rows)[1].argmax(1)
    total = int(data.label.max()) + 1
    plain = swapped(confusion(asked, judged, total).tolist())
    first, second = asked == pair[0], asked == pair[1]
    asked[first], asked[second] = pair[1], pair[0]
    found = swapped(confusion(asked, judged, total).tolist())
    told("labels of two classes swapped", found == [pair] and not plain, n=len(rows), flagged=found, unswapped=plain)


class Distances:
    """All distances of held-out images, perhaps altered, to all images, in one space; neighbours among any rows at once."""

    def __init__(self, queries: Tensor, points: Tensor) -> None:
        self.queries, self.points = queries, points
        x, y = queries - points.mean(0), points - points.mean(0)
        self.squared = (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).float()

    def near(self, places: np.ndarray, rows: np.ndarray) -> Near:
        found = self.squared[torch.from_numpy(places)][:, torch.from_numpy(rows)].topk(K, dim=1, largest=False).indices
        chosen = torch.from_numpy(rows)[found]
        exact = [
            (self.points[c].double() - self.queries[q].double()).square().sum(1).sqrt()
            for q, c in zip(places.tolist(), chosen, strict=True)
        ]
        distance, order = torch.stack(exact).sort(dim=1)
        return Near(distance, found.gather(1, order))

    def judged(self, places: np.ndarray, train: np.ndarray, held: np.ndarray) -> Memorisation:
        return memorisation(self.near(places, train), self.near(places, held), len(train), len(held))


def pixel_vectors(images: np.ndarray) -> Tensor:
    return torch.from_numpy(resized(images, (PIXELS, PIXELS))).flatten(1).float() / 255


def copying(data: Data) -> None:
    """Held-out images as samples, among them copies; rows of the matrices are all images."""
    everything = {"pixels": pixel_vectors(data.images), "judge": data.seen[0]}
    fresh, copied = round(0.95 * data.count), data.count - round(0.95 * data.count)
    for space, vectors in everything.items():
        distances = Distances(vectors, vectors)
        mixed = distances.judged(
            np.concatenate([data.held[:fresh], data.train[:copied]]), data.train, data.held[fresh:]
        )
        called = mixed.ratio <= COPY
        hits, calls = int(called[fresh:].sum()), int(called.sum())
        right = mixed.p < 0.01 and hits >= 0.95 * copied and hits >= 0.95 * calls
        told(
            f"5 % copies, {space}", right, n=data.count, p=mixed.p, recall=hits / copied, precision=hits / max(1, calls)
        )
        values = []
        for seed in range(100):
            held = np.random.default_rng(seed).permutation(data.held)
            values.append(distances.judged(held[:fresh], data.train, held[fresh:]).p)
        above = sum(p > 0.05 for p in values)
        told(f"held-out images, {space}", above >= 90, n=fresh, seeds_above=above, least=min(values))


def altered(data: Data) -> None:
    """Blur and noise of growing strength: distances grow, and nothing looks copied."""
    rows, rest = data.held[: data.count], data.held[data.count :]
    real = data.images[rows].astype(np.float32)
    rng = np.random.default_rng(0)
    grown: dict[str, list[dict[str, float]]] = {"blur": [], "noise": []}
    for strength in (0.5, 1.0, 2.0, 4.0):
        noisy = real + rng.normal(0, 8 * strength, real.shape)
        for kind, changed in (("blur", gaussian_filter(real, (0, strength, strength, 0))), ("noise", noisy)):
            images = changed.round().clip(0, 255).astype(np.uint8)
            seen = data.look(images)
            grown[kind].append(brief(figures(seen, data.of(data.train[: data.count]), 3, errors=False)))
            for space, ours, theirs in (
                ("pixels", pixel_vectors(images), pixel_vectors(data.images)),
                ("judge", seen[0], data.seen[0]),
            ):
                found = Distances(ours, theirs).judged(np.arange(len(rows)), data.train, rest)
                right = found.p > 0.05 and found.share[0] < 0.01
                told(f"{kind} {strength:g}, {space}: no copies", right, n=len(rows), p=found.p, copies=found.copies)
    for kind, found in grown.items():
        for metric in ("fd", "kid"):
            values = [f[metric] for f in found]
            told(f"{metric} grows with {kind}", values == sorted(values), values=values)
        print(json.dumps({kind: [{k: f[k] for k in ("precision", "recall", "density", "coverage")} for f in found]}))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--store", type=Path, default=Path("known-answers"))
    parser.add_argument("--judge")
    parser.add_argument("--count", type=int, default=2000)
    given = parser.parse_args()
    data = Data(Store(given.store), given.images, given.judge, given.count)
    print(json.dumps({"judge": data.judge.name, "accuracy": data.judge.accuracy, "images": len(data.images)}))
    for answer in (against_itself, dropped_classes, swapped_labels, copying, altered):
        answer(data)
    print(f"{len(FAILED)} wrong" + (": " + "; ".join(FAILED) if FAILED else ""))
    return 1 if FAILED else 0


if __name__ == "__main__":
    raise SystemExit(main())
