"""A judge's report: every figure of samples against real images beside its floor, over all classes and for each."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import torch

from embprobe.errors import UserError
from embprobe.evaluation.features import FeatureSet
from embprobe.evaluation.figures import Estimates, figures, frechet_estimate, halved, score_figures, share
from embprobe.evaluation.floors import Floor, floor_of, foretold
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.scores import class_shares, confusion
from embprobe.store import Json

Sets = dict[str, FeatureSet]
"""`samples`, `train`, and `held_out` where there are some."""
SWAP = 0.01  # chance at which a pair of classes would look swapped, over all pairs
LEAST = 8  # samples a class needs for its own figures
LABELS = ("tv", "asked_class")  # what only a judge that knows the data set's classes can tell


@dataclass(frozen=True)
class Terms:
    """How a judge reports: the classes of the data set, its own where they are those, and what is asked for."""

    k: int
    classes: Sequence[str] = ()
    knows: bool = False  # the judge's classes are the data set's
    accuracy: float | None = None
    learned: bool = False  # from the training images
    whole_reference: bool = False  # FD against all training images too
    common_scale: bool = True  # of features, before KID


def judge_report(sets: Sets, terms: Terms) -> dict[str, Json]:
    """Every metric with its interval and floor, class shares, confusion, and the same metrics per class.

    Samples are measured against as many training images; where these are fewer, so are the samples.
    """
    count = min(len(sets["samples"]), len(sets["train"]))
    samples, reference = (sets[name].cut(count) for name in ("samples", "train"))
    metrics = _figures(samples, reference, terms, extrapolated=True)
    report: dict[str, Json] = {"count": count, "features": int(reference.output.features.shape[1])}
    floors: Estimates = {}
    if "held_out" in sets:
        floor = floor_of(sets["train"], sets["held_out"], reference, learned=terms.learned)
        floors = floor_figures(floor, terms)
        report["floor"] = floor.json()
    if terms.whole_reference:
        metrics["fd_all"] = whole(sets["samples"], sets["train"])
        if "held_out" in sets:
            floors["fd_all"] = whole(sets["held_out"], sets["train"])
        report["whole"] = {"samples": len(sets["samples"]), "training": len(sets["train"])}
    if terms.knows:
        report |= class_figures(sets, terms)
        metrics["tv"] = of_shares(samples, sets["train"])
        if "held_out" in sets:
            held = sets["held_out"].cut(count)
            shares = Floor(held, sets["train"], count, len(held))
            found = {"tv": of_shares(held, sets["train"])}
            floors |= foretold(found, halved(held.output, sets["train"].output, {}), shares)
        if sets["samples"].label is not None:
            metrics["asked_class"] = asked_class(sets["samples"])
            floors |= {} if terms.accuracy is None else {"asked_class": Estimate(terms.accuracy)}
    if sets["samples"].label is not None and terms.classes:
        report["per_class"] = per_class(sets, terms)
    metrics = {key: replace(value, floor=floors.get(key)) for key, value in metrics.items()}
    return report | {"metrics": {key: value.json() for key, value in metrics.items()}}


def _figures(
    samples: FeatureSet, real: FeatureSet, terms: Terms, *, extrapolated: bool = False, errors: bool = True
) -> Estimates:
    found = figures(
        samples.output,
        real.output,
        terms.k,
        errors=errors,
        extrapolated=extrapolated,
        common_scale=terms.common_scale,
    )
    return found if terms.knows else {key: value for key, value in found.items() if key not in LABELS}


def whole(samples: FeatureSet, train: FeatureSet) -> Estimate:
    """FD against all training images, as the literature takes it."""
    return frechet_estimate("fd_all", samples.output.features, train.output.features, errors=True)


def of_shares(samples: FeatureSet, train: FeatureSet) -> Estimate:
    """Total variation of judged class shares from those of all training images."""
    assert samples.output.probabilities is not None and train.output.probabilities is not None
    return score_figures(samples.output.probabilities, train.output.probabilities, errors=True)["tv"]


# ---- before and beside


def sound(sets: Sets, k: int) -> Sets:
    """Raises UserError where a manifold can't be spanned or nothing can be told apart; leaves out a floor that can't."""
    samples, train = len(sets["samples"]), len(sets["train"])
    if min(samples, train) <= k:
        raise UserError(f"{samples} samples and {train} training images; both must be more than --k {k}")
    for name, part in sets.items():
        told = name.replace("_", "-").replace("train", "training images").replace("held-out", "held-out images")
        for what, values in (("features", part.output.features), ("class probabilities", part.output.probabilities)):
            if values is not None and not bool(torch.isfinite(values).all()):
                bad = int((~torch.isfinite(values).all(1)).sum())
                raise UserError(
                    f"the judge's {what} of {bad} of {len(part)} {told} are not finite numbers: the judge's weights are "
                    "damaged or it cannot judge such images; give another with --judges"
                )
    reference = sets["train"].output.features
    if bool((reference == reference[:1]).all()):
        raise UserError(
            "the judge sees no difference among the training images: they are all alike or the judge is untrained; "
            "nothing can be measured against them"
        )
    return {name: part for name, part in sets.items() if name != "held_out" or len(part) > k}


def counts(sets: Sets, split: str) -> str:
    """How many images are compared."""
    count = min(len(sets["samples"]), len(sets["train"]))
    floor = f"; held out: {len(sets['held_out'])} of {split}" if "held_out" in sets else "; nothing is held out"
    return f"{count} samples against {count} training images{floor}"


def floor_figures(floor: Floor, terms: Terms, *, errors: bool = True) -> Estimates:
    """What real images get in the samples' place, at the samples' number."""
    found = _figures(floor.images, floor.reference, terms, extrapolated=True, errors=errors)
    if not floor.extrapolated:
        return found
    moved = foretold(found, halved(floor.images.output, floor.reference.output, found), floor)
    reliable = found["fd_infinity"].reliable
    return moved | {"fd": replace(moved["fd"], reliable=reliable)}


# ---- classes


def class_figures(sets: Sets, terms: Terms) -> dict[str, Json]:
    """Shares of the judged classes, and where classes were asked for how often each was judged as which."""
    probabilities, train = sets["samples"].output.probabilities, sets["train"].output.probabilities
    if probabilities is None or train is None:
        return {}
    judged, total, label = probabilities.argmax(1), len(terms.classes), sets["samples"].label
    found: dict[str, Json] = {"classes": list(terms.classes), "shares": class_shares(judged, total).tolist()}
    found |= {"real_shares": class_shares(train.argmax(1), total).tolist()}
    if label is None:
        return found
    table = confusion(torch.from_numpy(label), judged, total).tolist()
    return found | {"confusion": table, "swapped": swapped(table)}


def asked_class(samples: FeatureSet) -> Estimate:
    """Share of samples judged as the class that was asked for."""
    assert samples.label is not None and samples.output.probabilities is not None
    hits = torch.from_numpy(samples.label) == samples.output.probabilities.argmax(1)
    return share("asked_class", hits, None, by_sample=True)


def per_class(sets: Sets, terms: Terms) -> dict[str, Json]:
    """Each class's samples against that class's real images."""
    reports: dict[str, Json] = {}
    for index, name in enumerate(terms.classes):
        part = {
            key: whole.where(np.asarray(whole.label) == index) for key, whole in sets.items() if whole.label is not None
        }
        count = min(len(part["samples"]), len(part["train"]))
        reports[name] = {"count": count}
        if count < max(LEAST, terms.k + 1):
            continue
        samples, reference = part["samples"].cut(count), part["train"].cut(count)
        found = _figures(samples, reference, terms)
        floors: Estimates = {}
        if "held_out" in part and len(part["held_out"]) > terms.k:
            floor = floor_of(part["train"], part["held_out"], reference, learned=terms.learned)
            floors = floor_figures(floor, terms, errors=False)
            reports[name]["floor"] = floor.json()
        if terms.whole_reference:
            found["fd_all"] = whole(part["samples"], part["train"])
        found.pop("tv", None)
        reports[name] |= {k: replace(v, floor=floors.get(k)).json(spread=False) for k, v in found.items()}
    return reports


def swapped(table: list[list[int]]) -> list[tuple[int, int]]:
    """Pairs of classes that look exchanged: of each, more samples are judged the other than itself, beyond chance.

    Both one-sided sign tests at 0.01 over the number of pairs.
    """
    from scipy.stats import binom

    pairs = list(combinations(range(len(table)), 2))

    def beyond_chance(a: int, b: int) -> bool:
        other, own = table[a][b], table[a][a]
        return bool(binom.sf(other - 1, other + own, 0.5) < SWAP / len(pairs))

    return [(a, b) for a, b in pairs if beyond_chance(a, b) and beyond_chance(b, a)]
