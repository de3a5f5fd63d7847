"""A judge's report: matched counts, floors, classes, and what is left out where there are none."""

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.evaluation.features import FeatureSet
from embprobe.evaluation.figures import DISTANCES, counts, enough, estimate, judge_report, match_counts, swapped
from embprobe.evaluation.output import JudgeOutput
from embprobe.metrics.table import METRIC

CLASSES = ["a", "b", "c"]


def features(count: int, seed: int, *, classes: bool = True, shift: float = 0.0) -> FeatureSet:
    generator = torch.Generator().manual_seed(seed)
    label = np.arange(count) % 3
    x = torch.randn(count, 5, generator=generator) + shift
    probabilities = torch.eye(3)[torch.from_numpy(label)] * 0.8 + 0.1 if classes else None
    return FeatureSet(JudgeOutput(x, probabilities), np.arange(count), label)


def sets(**more: FeatureSet) -> dict[str, FeatureSet]:
    return {"samples": features(40, 0, shift=0.3), "train": features(60, 1), "held_out": features(20, 2)} | more


def test_every_metric_of_the_table_that_a_judge_takes_is_in_its_report() -> None:
    report = judge_report(CLASSES, 0.9, sets(), 3)
    assert report["count"] == 40 and report["floor_count"] == 20 and report["features"] == 5
    assert report["metrics"].keys() <= METRIC.keys()
    assert set(DISTANCES) | {"precision", "recall", "density", "coverage", "authenticity", "score", "tv"} < set(
        report["metrics"]
    )
    assert report["metrics"]["asked_class"]["value"] == 1 and report["metrics"]["asked_class"]["floor"] == 0.9
    for name in ("fd", "kid", "precision"):
        figure = report["metrics"][name]
        assert figure["low"] <= figure["value"] <= figure["high"] and figure["floor"] is not None
        assert "jackknife" in figure
    assert report["per_class"].keys() == set(CLASSES) and "jackknife" not in report["per_class"]["a"]["fd"]


def test_without_classes_the_figures_that_need_them_are_absent() -> None:
    bare = {name: features(len(part), 3, classes=False) for name, part in sets().items()}
    report = judge_report(None, None, bare, 3)
    assert not {"tv", "score", "asked_class"} & report["metrics"].keys() and "confusion" not in report
    judged_elsewhere = judge_report(None, None, sets(), 3)  # a classifier of other classes has a score, no shares
    assert "score" in judged_elsewhere["metrics"] and "tv" not in judged_elsewhere["metrics"]


def test_counts_are_matched_and_said() -> None:
    count, floor_count, matched = match_counts(sets())
    assert (count, floor_count) == (40, 20) and {k: len(v) for k, v in matched.items()} == {
        "samples": 40, "train": 40, "held_out": 20,
    }  # fmt: skip
    assert counts(sets()) == "40 samples against 40 training images, floor from 20 held-out images"


def test_manifolds_need_more_images_than_neighbours() -> None:
    with pytest.raises(UserError, match="both must be more than --k 3"):
        enough(sets(samples=features(3, 0)), 3)
    assert "held_out" not in enough(sets(held_out=features(3, 0)), 3)


def test_an_interval_stays_within_what_the_metric_can_be() -> None:
    jackknife = {"samples": [0.1, -0.3, 0.4, 0.2]}
    assert estimate("fd", 0.1, jackknife).low == 0 and estimate("tv", 0.9, jackknife).high == 1
    assert estimate("kid", 0.0, jackknife).low < 0 and estimate("fd", 1.0, None).ends is None


def test_two_classes_look_swapped_only_beyond_chance() -> None:
    assert swapped([[1, 19, 0], [18, 2, 0], [0, 0, 20]]) == [(0, 1)]
    assert swapped([[9, 11, 0], [11, 9, 0], [0, 0, 20]]) == []
