"""Metrics on real images whose answer is known: copies, blur, noise, dropped and swapped classes. Run by hand.

    python tests/studies/known_answers.py --images imagenette64.zip [--store DIR] [--judge A] [--count 2000]

Without --judge the data set's classifier is trained first, as `evaluate` would. Prints a line for each known answer, with its
figures and whether it came out; exits 1 if one did not.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from embprobe.evaluation.alignment import PixelSpace
from embprobe.evaluation.copies import Space, distinct, search_copies
from embprobe.evaluation.features import ImageRows
from embprobe.evaluation.figures import figures
from embprobe.evaluation.judges import Judge, load_judge
from embprobe.evaluation.output import JudgeOutput
from embprobe.evaluation.reports import swapped
from embprobe.making import make
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.scores import class_shares, confusion, total_variation
from embprobe.stages.classify import Classify
from embprobe.stages.ingest import Ingest
from embprobe.store import Json, Store
from embprobe.views import Images, blocks

FAILED: list[str] = []


def check(name: str, right: bool, **values: object) -> None:
    """Prints a known answer."""
    print(json.dumps({"answer": name, "right": bool(right), **values}, default=float), flush=True)
    if not right:
        FAILED.append(name)


class Data:
    """Images in memory, what the judge sees in them, and rows by split."""

    def __init__(self, store: Store, source: Path, judge: str | None, count: int) -> None:
        artefact = make(Ingest(source=str(source), size=64), store)
        chosen = store.lookup(judge) if judge else make(Classify(images=artefact), store)
        assert chosen is not None
        self.judge: Judge = load_judge(chosen)
        self.view = view = Images(artefact)
        self.images, labels = view.array.read(), view.labels
        assert labels is not None
        self.label = torch.from_numpy(labels).long()
        rng = np.random.default_rng(0)
        self.train, self.held = (rng.permutation(rows) for rows in (view.train, view.held_out))
        self.output = self.judged(self.images)
        self.count = min(count, len(self.train), len(self.held))

    def judged(self, images: np.ndarray) -> JudgeOutput:
        """What the judge sees in images, a batch after the other."""
        outputs = [self.judge(images[rows], "cpu") for rows in blocks(np.arange(len(images)), 128)]
        probabilities = [output.probabilities for output in outputs if output.probabilities is not None]
        return JudgeOutput(torch.cat([output.features for output in outputs]), torch.cat(probabilities))

    def of(self, rows: np.ndarray) -> JudgeOutput:
        return JudgeOutput(self.output.features[rows], self.probabilities(rows))

    def probabilities(self, rows: np.ndarray) -> Tensor:
        assert self.output.probabilities is not None
        return self.output.probabilities[rows]


def brief(estimates: dict[str, Estimate]) -> dict[str, float]:
    return {key: round(estimate.value, 4) for key, estimate in estimates.items()}


def against_itself(data: Data) -> None:
    x = data.of(data.held[: data.count])
    values = brief(figures(x, x, 3, errors=False))
    exact = all(values[k] == 1 for k in ("precision", "recall", "coverage")) and values["tv"] == 0
    check("a set against itself", exact and abs(values["fd"]) < 1e-3 and values["kid"] <= 0, n=data.count, **values)


def dropped_classes(data: Data) -> None:
    """Half of the training images tells the judge's confusion, which foretells the shares of the others' first classes."""
    total = int(data.label.max()) + 1
    half = len(data.train) // 2
    known, held = (data.probabilities(rows).argmax(1) for rows in (data.train[:half], data.held))
    matrix = confusion(data.label[data.train[:half]], known, total).double()
    matrix /= matrix.sum(1, keepdim=True)
    rows = data.train[half:]
    rows = rows[(data.label[rows] < total // 2).numpy()][: data.count]
    kept = class_shares(data.label[rows], total)
    foretold = total_variation(kept @ matrix, class_shares(held, total))
    tv = figures(data.of(rows), data.of(data.held[: len(rows)]), 3)["tv"]
    assert tv.ends is not None
    right, values = tv.ends[0] <= foretold <= tv.ends[1], {"value": tv.value, "low": tv.low, "high": tv.high}
    check("half of the classes dropped", right, n=len(rows), foretold=foretold, **values)


def swapped_labels(data: Data, pair: tuple[int, int] = (2, 5)) -> None:
    rows = data.held[: data.count]
    asked, judged = data.label[rows].clone(), data.probabilities(rows).argmax(1)
    total = int(data.label.max()) + 1
    plain = swapped(confusion(asked, judged, total).tolist())
    first, second = asked == pair[0], asked == pair[1]
    asked[first], asked[second] = pair[1], pair[0]
    flagged = swapped(confusion(asked, judged, total).tolist())
    check(
        "labels of two classes swapped", flagged == [pair] and not plain, n=len(rows), flagged=flagged, unswapped=plain
    )


class Memory:
    """Stands for a store's array of images."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape = values, values.shape

    def take(self, rows: np.ndarray) -> np.ndarray:
        return self.values[rows]


def searched(data: Data, images: np.ndarray, output: JudgeOutput, held: np.ndarray) -> dict[str, Json]:
    """What the search for copies says of images in the samples' place, in pixels and in the judge's features."""
    array: Any = Memory(images)
    spaces = {
        "pixels": PixelSpace(ImageRows(array, np.arange(len(images)), images.shape[1:3]), data.view),
        "judge": Space(output.features, lambda rows: data.output.features[rows], of_judge=True),
    }
    real = distinct(data.view, np.sort(data.train), np.sort(held), data.train)
    return {name: search_copies(space, np.arange(len(images)), *real, spaces=2) for name, space in spaces.items()}


def copying(data: Data) -> None:
    """Held-out images as samples, among them copies or none."""
    fresh, copied = round(0.95 * data.count), data.count - round(0.95 * data.count)
    for planted in (copied, 0):
        rows = np.concatenate([data.held[:fresh], data.train[:planted]])
        for space, test in searched(data, data.images[rows], data.of(rows), data.held[fresh:]).items():
            right = test["warned"] == bool(planted) and abs(test["copies"] - planted) <= 0.005 * len(rows)
            told = {key: test[key] for key in ("p", "copies", "low", "inauthentic", "inauthentic_floor") if key in test}
            check(f"{planted} copies among {len(rows)}, {space}", right, n=len(rows), **told)


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
            output = data.judged(images)
            grown[kind].append(brief(figures(output, data.of(data.train[: data.count]), 3, errors=False)))
            for space, test in searched(data, images, output, rest).items():
                right = not test["warned"] and test["share"] < 0.01
                told = {"p": test["p"], "copies": test["copies"]}
                check(f"{kind} {strength:g}, {space}: no copies", right, n=len(rows), **told)
    for kind, steps in grown.items():
        for metric in ("fd", "kid"):
            values = [step[metric] for step in steps]
            check(f"{metric} grows with {kind}", values == sorted(values), values=values)
        print(
            json.dumps({kind: [{k: step[k] for k in ("precision", "recall", "density", "coverage")} for step in steps]})
        )


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
