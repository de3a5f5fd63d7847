"""Agreement of samples with their prompts: what a judge of factors sees against the words that were asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from embprobe.data.captions import named_in
from embprobe.evaluation.features import FeatureSet
from embprobe.evaluation.figures import share
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.scores import agreeing, class_shares, judged_words, total_variation
from embprobe.store import Artefact, Json
from embprobe.views import Decoder, Features, Images, Samples

DRAWS = 1000  # of the training shares, for what chance alone would give
LEAST = 8  # samples of the null caption whose shares are told


def prompts_of(artefact: Artefact) -> list[str | None] | None:
    """What samples were asked for, or what the captions of images say; None without any."""
    if artefact.stage == "sample":
        return Samples(artefact).prompts
    if artefact.stage == "ingest":
        return Images(artefact).captions
    decoder = Decoder(artefact)
    captions = decoder.images.captions
    return None if captions is None else [captions[row] for row in decoder.rows]


@dataclass(frozen=True)
class Factors:
    """A judge of factors: their words, and how often it is right on real images, by factor and in all."""

    words: Mapping[str, Sequence[str]]
    accuracy: Mapping[str, float]
    whole: float

    @staticmethod
    def of(features: Features) -> "Factors | None":
        """The judge of a features artefact; None for one that judges no factors."""
        words = features.judge.get("factors")
        if not words:
            return None
        told = features.judge["facts"]["factors"]
        return Factors(words, {name: told[name]["accuracy"] for name in words}, features.judge["accuracy"])

    def judged(self, seen: FeatureSet) -> np.ndarray:
        """The place of the word that it sees of each factor (n,factors)."""
        assert seen.output.probabilities is not None
        judged: np.ndarray = judged_words(seen.output.probabilities, [len(w) for w in self.words.values()]).numpy()
        return judged


def without_probabilities(sets: Mapping[str, FeatureSet]) -> dict[str, FeatureSet]:
    """The same sets as of a judge that knows no classes, whose score and shares a judge of factors does not have."""
    return {k: replace(part, output=part.output._replace(probabilities=None)) for k, part in sets.items()}


def agreement(
    factors: Factors, sets: Mapping[str, FeatureSet], prompts: Sequence[str | None], captions: Sequence[str | None]
) -> dict[str, Json]:
    """Shares of samples that agree with their prompts, by factor, jointly, and for words seen together or never.

    `prompts` are those of the samples, `captions` those of the training images. Each stands between what training
    images in the samples' place would give (`chance`) and what the judge gets on real ones (`ceiling`).
    """
    asked, judged = named_in(prompts, factors.words), factors.judged(sets["samples"])
    real = factors.judged(sets["train"])
    found: dict[str, Json] = {}
    for column, name in enumerate(factors.words):
        here = slice(column, column + 1)
        found[name] = told(judged[:, here], asked[:, here], real[:, here], factors.accuracy[name])
    report: dict[str, Json] = {"factors": found, "joint": told(judged, asked, real, factors.whole)}
    known, several = {tuple(row) for row in named_in(captions, factors.words).tolist()}, (asked >= 0).sum(1) > 1
    together = np.array([seen_in(row, known) for row in asked.tolist()], bool)
    for name, kept in (("seen", several & together), ("unseen", several & ~together)):
        report[name] = told(judged[kept], asked[kept], real, factors.whole)
    null = np.array([prompt is None for prompt in prompts], bool)
    if null.sum() >= LEAST:
        report["null"] = null_shares(factors, judged[null], real)
    return report


def seen_in(row: Sequence[int], known: set[tuple[int, ...]]) -> bool:
    """Whether some caption names all the words that this one does."""
    return any(all(w in (-1, k) for w, k in zip(row, other, strict=True)) for other in known)


def told(judged_nH: np.ndarray, asked_nH: np.ndarray, real_MH: np.ndarray, ceiling: float) -> Json:
    """The share that agrees, with Wilson's interval, of those that ask for anything; None where none does."""
    right = agreeing(judged_nH, asked_nH)
    if not len(right):
        return None
    rows, times = np.unique(asked_nH[(asked_nH >= 0).any(1)], axis=0, return_counts=True)
    alike = [((real_MH == row) | (row < 0)).all(1).mean() for row in rows]
    estimate = share("agreement", torch.from_numpy(right), None, by_sample=True)
    chance = float(np.average(alike, weights=times))
    return {**replace(estimate, floor=Estimate(ceiling)).json(), "count": len(right), "chance": chance}


def null_shares(factors: Factors, judged_nH: np.ndarray, real_MH: np.ndarray) -> dict[str, Json]:
    """Judged shares of samples without a caption beside those of training images, and how far chance would move them.

    `chance` is what total variation stays below in 95 of 100 draws of as many from the training shares.
    """
    rng, count, found = np.random.default_rng(0), len(judged_nH), {}
    for column, (name, words) in enumerate(factors.words.items()):
        mine, theirs = (class_shares(torch.from_numpy(j[:, column]), len(words)) for j in (judged_nH, real_MH))
        drawn = rng.multinomial(count, theirs.numpy(), DRAWS) / count
        apart = np.abs(drawn - theirs.numpy()).sum(1) / 2
        tv: dict[str, Json] = {"tv": total_variation(mine, theirs), "chance": float(np.quantile(apart, 0.95))}
        tv |= {"words": list(words), "samples": mine.tolist(), "training": theirs.tolist()}
        found[name] = tv
    return {"count": count, "factors": found}
