"""Agreement with the prompt: shares, what chance gives, words never seen together, and no prompt at all."""

import numpy as np
import pytest
import torch

from embprobe.evaluation.agreement import Factors, agreement, without_probabilities
from embprobe.evaluation.features import FeatureSet
from embprobe.evaluation.output import JudgeOutput
from embprobe.metrics.intervals import wilson
from embprobe.study.judging import JudgeReport
from embprobe.study.prompts import prompts_section

WORDS = {"hue": ["red", "green"], "kind": ["cat", "dog", "fish"]}
FACTORS = Factors(WORDS, {"hue": 0.9, "kind": 0.8}, 0.75)


def seen(judged: list[tuple[int, int]]) -> FeatureSet:
    """What a judge gives that is sure of these words."""
    probabilities = torch.zeros(len(judged), 5)
    for row, (hue, kind) in enumerate(judged):
        probabilities[row, hue], probabilities[row, 2 + kind] = 0.9, 0.9
    return FeatureSet(JudgeOutput(torch.zeros(len(judged), 4), probabilities), np.arange(len(judged)), None)


def test_shares_are_counted_by_factor_and_jointly() -> None:
    prompts = ["a red cat", "a red dog", "a green cat", "a fish", "what is this", None]
    samples = seen([(0, 0), (0, 1), (0, 0), (1, 2), (0, 0), (0, 0)])
    train = seen([(0, 0), (1, 0), (1, 1), (0, 2)])
    found = agreement(FACTORS, {"samples": samples, "train": train}, prompts, ["a red cat", "a green dog", "a fish"])
    hue, kind, joint = found["factors"]["hue"], found["factors"]["kind"], found["joint"]
    assert (hue["value"], hue["count"]) == (2 / 3, 3) and (kind["value"], kind["count"]) == (1.0, 4)
    assert (joint["value"], joint["count"]) == (3 / 4, 4)
    assert hue["chance"] == 0.5 and kind["chance"] == pytest.approx((2 + 1 + 2 + 1) / 16)
    assert joint["chance"] == pytest.approx((1 + 0 + 1 + 1) / 16)
    assert [e["floor"]["value"] for e in (hue, kind, joint)] == [0.9, 0.8, 0.75]
    assert (found["seen"]["value"], found["seen"]["count"]) == (1.0, 1)
    unseen = found["unseen"]  # red dog and green cat; a fish names one word alone
    assert (unseen["value"], unseen["count"]) == (0.5, 2) and "null" not in found


def test_the_interval_is_wilsons() -> None:
    sets = {"samples": seen([(0, 0)] * 470 + [(1, 0)] * 30), "train": seen([(0, 0), (1, 1)])}
    joint = agreement(FACTORS, sets, ["a red cat"] * 500, ["a red cat"])["joint"]
    assert (joint["low"], joint["high"]) == pytest.approx(wilson(470, 500), abs=1e-3)


def test_without_words_in_prompts_nothing_is_said() -> None:
    sets = {"samples": seen([(0, 0)] * 3), "train": seen([(0, 0), (1, 1)])}
    found = agreement(FACTORS, sets, ["a thing", None, ""], ["a red cat"])
    assert found["joint"] is None and found["unseen"] is None and found["factors"]["hue"] is None


def test_no_prompt_is_compared_with_the_training_shares_and_chance() -> None:
    rng = np.random.default_rng(0)
    train = seen(
        [(int(h), int(k)) for h, k in zip(rng.integers(2, size=4000), rng.integers(3, size=4000), strict=True)]
    )
    like = seen([(int(h), int(k)) for h, k in zip(rng.integers(2, size=400), rng.integers(3, size=400), strict=True)])
    other = seen([(0, int(k)) for k in rng.integers(3, size=400)])
    for samples, within in ((like, True), (other, False)):
        null = agreement(FACTORS, {"samples": samples, "train": train}, [None] * 400, ["a red cat"])["null"]
        assert null["count"] == 400 and (null["factors"]["hue"]["tv"] <= null["factors"]["hue"]["chance"]) == within
        # |X/n − ½| of a binomial exceeds 1.96 standard errors in 5 of 100 draws
        assert null["factors"]["hue"]["chance"] == pytest.approx(1.96 * 0.5 / 400**0.5, rel=0.1)


def test_a_judge_of_factors_has_no_score() -> None:
    sets = without_probabilities({"samples": seen([(0, 0)])})
    assert sets["samples"].output.probabilities is None and len(sets["samples"].output.features) == 1


def test_the_page_has_a_line_for_each_factor_and_escapes_words() -> None:
    sets = {"samples": seen([(0, 0)] * 8 + [(1, 1)] * 8), "train": seen([(0, 0), (1, 1)])}
    found = agreement(FACTORS, sets, ["a red cat"] * 8 + [None] * 8, ["a red cat"])
    judge = JudgeReport("judge", 0.75, (), ("mine <b>",), ({"agreement": found},), (), {})
    page = prompts_section([judge])
    assert page.count("<tr>") == 2 + 4 + 2 and "mine &lt;b&gt;" in page and "all that is named" in page
    assert prompts_section([JudgeReport("other", 0.9, (), ("mine",), ({},), (), {})]) == ""
