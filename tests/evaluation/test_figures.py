"""A judge's report: counts are matched, floors are held-out images, classes stand for themselves, bounds hold."""

import numpy as np
import pytest
import torch
from torch import Tensor

from embprobe.errors import UserError
from embprobe.evaluation import figures
from embprobe.evaluation.features import FeatureSet
from embprobe.evaluation.figures import enough, estimate, judge_report, match_counts, share, swapped
from embprobe.evaluation.output import JudgeOutput
from embprobe.metrics.estimate import Estimate
from embprobe.metrics.frechet import frechet_distance
from embprobe.metrics.table import METRIC, METRICS

CLASSES = ["cat", "dog", "wild"]
OF_A_JUDGE = {"fd", "fd_infinity", "kid", "precision", "recall", "density", "coverage", "authenticity"}


def seen(count: int, seed: int, *, shift: float = 0.0, knows: bool = True, labelled: bool = True) -> FeatureSet:
    """Features (count,6) about their class's mean, and probabilities that are right."""
    generator, label = torch.Generator().manual_seed(seed), torch.arange(count) % 3
    features = torch.randn(count, 6, generator=generator) + 4 * torch.nn.functional.one_hot(label, 6) + shift
    probabilities = torch.nn.functional.one_hot(label, 3) * 0.97 + 0.01 if knows else None
    return FeatureSet(JudgeOutput(features, probabilities), np.arange(count), label.numpy() if labelled else None)


def sets(samples: int = 60, train: int = 90, held_out: int = 45, **facts: bool) -> dict[str, FeatureSet]:
    counts = {"samples": samples, "train": train, "held_out": held_out}
    return {name: seen(count, seed, **facts) for seed, (name, count) in enumerate(counts.items()) if count}


# ---- counts


def test_samples_and_training_images_are_as_many_and_held_out_ones_at_most() -> None:
    count, floor_count, matched = match_counts(sets())
    assert (count, floor_count) == (60, 45)
    assert {name: len(part) for name, part in matched.items()} == {"samples": 60, "train": 60, "held_out": 45}
    assert match_counts(sets(samples=20))[:2] == (20, 20)
    assert match_counts(sets(held_out=0))[:2] == (60, 60)


def test_too_few_images_for_a_manifold_are_refused_and_a_floor_of_too_few_left_out() -> None:
    with pytest.raises(UserError, match="3 samples and 90 training images; both must be more than --k 3"):
        enough(sets(samples=3), 3)
    assert list(enough(sets(held_out=3), 3)) == ["samples", "train"]
    assert list(enough(sets(held_out=4), 3)) == ["samples", "train", "held_out"]
    assert figures.counts(sets()) == "60 samples against 60 training images, floor from 45 held-out images"


# ---- the report


def test_a_report_has_every_metric_of_a_judge_and_each_class_those_of_the_table() -> None:
    report = judge_report(CLASSES, 0.9, sets(), 3)
    assert report["metrics"].keys() == OF_A_JUDGE | {"score", "tv", "asked_class"}
    by_table = {metric.key for metric in METRICS if metric.per_class}
    for facts in report["per_class"].values():
        assert by_table <= facts.keys() <= {"count", "floor_count"} | OF_A_JUDGE | {"score", "tv"}
        assert facts["count"] == 20 and "jackknife" not in facts["fd"]
    assert (report["count"], report["floor_count"], report["features"]) == (60, 45, 6)


def test_a_metric_lies_within_its_interval_and_its_interval_within_its_bounds() -> None:
    for key, json in judge_report(CLASSES, 0.9, sets(), 3)["metrics"].items():
        value = Estimate.of(json)
        assert value.ends is not None and value.ends[0] <= value.value <= value.ends[1], key
        assert value.floor is not None and set(value.jackknife or {}) <= {"samples", "reference"} != set()
        least, most = METRIC[key].least, METRIC[key].most
        assert least is None or least <= value.ends[0]
        assert most is None or value.ends[1] <= most


def test_the_floor_is_what_held_out_images_get_in_the_samples_place() -> None:
    parts = sets(samples=45)
    floor = judge_report(CLASSES, 0.9, parts, 3)["metrics"]["fd"]["floor"]
    train = parts["train"].cut(45).output.features
    assert floor == frechet_distance(parts["held_out"].output.features, train)
    itself = judge_report(CLASSES, 0.9, parts | {"samples": parts["held_out"]}, 3)["metrics"]
    assert itself["fd"]["value"] == floor and itself["precision"]["value"] == itself["precision"]["floor"]
    assert all(m["floor"] is None for m in judge_report(None, None, sets(held_out=0), 3)["metrics"].values())


def test_a_set_against_itself_is_perfect() -> None:
    part = seen(60, 0)
    found = figures.figures(part.output, part.output, 3, errors=False)
    assert found["fd"].value == pytest.approx(0, abs=1e-6) and found["kid"].value <= 0 and found["tv"].value == 0
    assert found["precision"].value == found["recall"].value == found["coverage"].value == 1
    assert found["fd"].ends is None and "fd_infinity" not in found


def test_a_judge_that_knows_no_classes_says_nothing_of_them() -> None:
    encoder = judge_report(None, None, sets(knows=False), 3)
    assert encoder["metrics"].keys() == OF_A_JUDGE and "per_class" not in encoder and "confusion" not in encoder
    inception = judge_report(None, None, sets(), 3)
    assert inception["metrics"].keys() == OF_A_JUDGE | {"score"} and "shares" not in inception
    unasked = judge_report(CLASSES, 0.9, sets(labelled=False), 3)
    assert "asked_class" not in unasked["metrics"] and "tv" in unasked["metrics"] and "confusion" not in unasked


def test_the_class_asked_for_has_the_judges_accuracy_as_its_floor() -> None:
    parts = sets()
    asked = parts["samples"]
    assert asked.label is not None
    exchanged = FeatureSet(asked.output, asked.rows, np.array([1, 0, 2])[asked.label])
    report = judge_report(CLASSES, 0.8, parts | {"samples": exchanged}, 3)
    assert report["metrics"]["asked_class"]["value"] == pytest.approx(1 / 3)
    assert report["metrics"]["asked_class"]["floor"] == 0.8
    assert report["confusion"] == [[0, 20, 0], [20, 0, 0], [0, 0, 20]] and report["swapped"] == [(0, 1)]


def test_a_class_with_few_samples_has_its_count_alone() -> None:
    parts = sets(samples=21)
    assert judge_report(CLASSES, 0.9, parts, 3)["per_class"] == {name: {"count": 7} for name in CLASSES}


def test_the_extrapolated_distance_is_reliable_from_four_samples_a_dimension() -> None:
    for count, reliable in ((23, False), (24, True)):
        report = judge_report(None, None, sets(samples=count, train=count), 3)
        assert Estimate.of(report["metrics"]["fd_infinity"]).reliable is reliable


# ---- estimates


def test_intervals_end_where_the_metric_ends() -> None:
    wide = {"samples": [-5.0, 5.0] * 5}
    assert estimate("tv", 0.5, wide).ends == (0.0, 1.0)
    score = estimate("score", 1.1, wide)
    assert score.low == 1.0 and score.high is not None and score.high > 2
    kid = estimate("kid", 0.0, wide)
    assert kid.low is not None and kid.low < 0
    assert estimate("fd", 1.0, None) == Estimate(1.0)


def hits(*values: int) -> Tensor:
    return torch.tensor(values).bool()


def test_a_share_keeps_which_side_was_asked() -> None:
    found = share(hits(1, 1, 0, 1), "reference")
    assert found.value == 0.75 and found.ends is not None and found.ends[0] < 0.75 < found.ends[1]
    assert found.jackknife is not None and found.jackknife.keys() == {"reference"}
    assert sum(found.jackknife["reference"]) / 2 == pytest.approx(0.75)


def test_classes_look_swapped_only_beyond_chance() -> None:
    assert swapped([[1, 15, 0], [14, 2, 0], [0, 1, 15]]) == [(0, 1)]
    assert swapped([[1, 15, 0], [12, 4, 0], [0, 1, 15]]) == []  # 12 of 16 is chance over three pairs
    assert swapped([[8, 8, 0], [8, 8, 0], [0, 0, 16]]) == []
    assert swapped([[0, 16], [16, 0]]) == [(0, 1)]
    assert swapped([[0, 16, 0], [0, 16, 0], [0, 0, 16]]) == []  # all of one class judged another: no exchange
