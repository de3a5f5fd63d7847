"""A judge's report: counts are matched, floors are real images at the samples' number, classes stand for themselves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.evaluation.features import FeatureSet
from embprobe.evaluation.output import JudgeOutput
from embprobe.evaluation.reports import Terms, counts, judge_report, sound, swapped
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


KNOWS = Terms(3, CLASSES, knows=True, accuracy=0.9)
STRANGER = Terms(3, CLASSES)  # knows none of the data set's classes


# ---- before anything is compared


def test_too_few_images_for_a_manifold_are_refused_and_a_floor_of_too_few_left_out() -> None:
    with pytest.raises(UserError, match="3 samples and 90 training images; both must be more than --k 3"):
        sound(sets(samples=3), 3)
    assert list(sound(sets(held_out=3), 3)) == ["samples", "train"]
    assert list(sound(sets(held_out=4), 3)) == ["samples", "train", "held_out"]
    assert counts(sets(), "test") == "60 samples against 60 training images; held out: 45 of test"
    assert counts(sets(held_out=0), "auto") == "60 samples against 60 training images; nothing is held out"


def test_features_that_are_no_numbers_are_the_judges_fault_and_said_so() -> None:
    parts = sets()
    parts["samples"].output.features[3, 1] = torch.nan
    with pytest.raises(UserError, match="the judge's features of 1 of 60 samples are not finite numbers"):
        sound(parts, 3)
    parts = sets()
    assert parts["held_out"].output.probabilities is not None
    parts["held_out"].output.probabilities[:2] = torch.inf
    with pytest.raises(UserError, match="class probabilities of 2 of 45 held-out images"):
        sound(parts, 3)


def test_a_judge_that_sees_all_images_alike_judges_nothing() -> None:
    parts = sets()
    parts["train"].output.features[:] = 1.0
    with pytest.raises(UserError, match="the judge sees no difference among the training images"):
        sound(parts, 3)


@pytest.mark.parametrize("features", [torch.zeros(60, 6), torch.ones(60, 6) * 1e6])
def test_samples_that_are_all_alike_have_figures(features: torch.Tensor) -> None:
    parts = sets(knows=False, labelled=False)
    parts["samples"] = FeatureSet(JudgeOutput(features, None), np.arange(60), None)
    metrics = judge_report(sound(parts, 3), STRANGER)["metrics"]
    assert all(np.isfinite(m["value"]) for m in metrics.values())
    assert metrics["coverage"]["value"] <= 0.1 and metrics["fd"]["value"] > 10


# ---- the report


def test_a_report_has_every_metric_of_a_judge_and_each_class_those_of_the_table() -> None:
    report = judge_report(sets(), KNOWS)
    assert report["metrics"].keys() == OF_A_JUDGE | {"score", "tv", "asked_class"}
    by_table = {metric.key for metric in METRICS if metric.per_class} - {"fd_all"}
    for facts in report["per_class"].values():
        assert by_table <= facts.keys() <= {"count", "floor"} | OF_A_JUDGE | {"score", "fd_all"}
        assert facts["count"] == 20 and "spread" not in facts["fd"]
    assert (report["count"], report["features"]) == (60, 6)
    assert report["floor"] == {"images": 60, "held_out": 45, "training": 15, "at": 60, "extrapolated": False}


def test_a_metric_lies_within_its_interval_and_its_interval_within_its_bounds() -> None:
    for key, json in judge_report(sets(), KNOWS)["metrics"].items():
        value = Estimate.of(json)
        assert value.ends is not None and value.ends[0] <= value.value <= value.ends[1], key
        assert value.floor is not None and value.spread is not None and value.spread.samples > 0
        least, most = METRIC[key].least, METRIC[key].most
        assert least is None or least <= value.ends[0]
        assert most is None or value.ends[1] <= most


def test_the_floor_is_what_held_out_images_get_in_the_samples_place() -> None:
    parts = sets(samples=45)
    floor = judge_report(parts, KNOWS)["metrics"]["fd"]["floor"]
    train = parts["train"].cut(45).output.features
    assert floor["value"] == frechet_distance(parts["held_out"].output.features, train)
    assert floor["low"] <= floor["value"] <= floor["high"]
    itself = judge_report(parts | {"samples": parts["held_out"]}, KNOWS)["metrics"]
    assert itself["fd"]["value"] == floor["value"]
    assert itself["precision"]["value"] == itself["precision"]["floor"]["value"]
    assert all(m["floor"] is None for m in judge_report(sets(held_out=0), STRANGER)["metrics"].values())


def test_a_judge_that_knows_no_classes_says_nothing_of_them() -> None:
    encoder = judge_report(sets(knows=False), STRANGER)
    assert encoder["metrics"].keys() == OF_A_JUDGE and "confusion" not in encoder
    inception = judge_report(sets(), STRANGER)
    assert inception["metrics"].keys() == OF_A_JUDGE | {"score"} and "shares" not in inception
    for judge in (encoder, inception):  # figures per class need the samples' and the images' classes, not the judge's
        assert {"fd", "precision"} <= judge["per_class"]["cat"].keys() and "tv" not in judge["per_class"]["cat"]
    assert "score" in inception["per_class"]["cat"]
    assert "per_class" not in judge_report(sets(), Terms(3))
    unasked = judge_report(sets(labelled=False), KNOWS)
    assert "asked_class" not in unasked["metrics"] and "tv" in unasked["metrics"] and "confusion" not in unasked


def test_the_class_asked_for_has_the_judges_accuracy_as_its_floor() -> None:
    parts = sets()
    asked = parts["samples"]
    assert asked.label is not None
    exchanged = FeatureSet(asked.output, asked.rows, np.array([1, 0, 2])[asked.label])
    report = judge_report(parts | {"samples": exchanged}, replace(KNOWS, accuracy=0.8))
    assert report["metrics"]["asked_class"]["value"] == pytest.approx(1 / 3)
    assert report["metrics"]["asked_class"]["floor"]["value"] == 0.8
    assert report["confusion"] == [[0, 20, 0], [20, 0, 0], [0, 0, 20]] and report["swapped"] == [(0, 1)]


def test_class_shares_are_compared_with_those_of_all_training_images() -> None:
    parts = sets(samples=30)
    metrics = judge_report(parts, KNOWS)["metrics"]
    shares = [np.bincount(parts[name].label, minlength=3) / len(parts[name]) for name in ("samples", "train")]  # type: ignore[arg-type]
    assert metrics["tv"]["value"] == pytest.approx(np.abs(shares[0] - shares[1]).sum() / 2)
    few = judge_report(sets(held_out=15), KNOWS)["metrics"]["tv"]["floor"]
    assert few["low"] <= few["value"] <= few["high"]


def test_a_class_with_few_samples_has_its_count_alone() -> None:
    parts = sets(samples=21)
    assert judge_report(parts, KNOWS)["per_class"] == {name: {"count": 7} for name in CLASSES}


def test_the_extrapolated_distance_is_reliable_from_four_samples_a_dimension() -> None:
    for count, reliable in ((23, False), (24, True)):
        report = judge_report(sets(samples=count, train=count), STRANGER)
        assert Estimate.of(report["metrics"]["fd_infinity"]).reliable is reliable


def test_the_whole_reference_stands_beside_the_matched_one() -> None:
    parts = sets(samples=30)
    report = judge_report(parts, replace(KNOWS, whole_reference=True))
    x, y = (parts[name].output.features for name in ("samples", "train"))
    assert report["metrics"]["fd_all"]["value"] == frechet_distance(x, y)
    assert report["metrics"]["fd"]["value"] == frechet_distance(x, parts["train"].cut(30).output.features)
    assert report["whole"] == {"samples": 30, "training": 90}
    held = parts["held_out"].output.features
    assert report["metrics"]["fd_all"]["floor"]["value"] == frechet_distance(held, y)
    assert "fd_all" in judge_report(sets(), replace(KNOWS, whole_reference=True))["per_class"]["dog"]


def test_classes_look_swapped_only_beyond_chance() -> None:
    assert swapped([[1, 15, 0], [14, 2, 0], [0, 1, 15]]) == [(0, 1)]
    assert swapped([[1, 15, 0], [12, 4, 0], [0, 1, 15]]) == []  # 12 of 16 is chance over three pairs
    assert swapped([[8, 8, 0], [8, 8, 0], [0, 0, 16]]) == []
    assert swapped([[0, 16], [16, 0]]) == [(0, 1)]
    assert swapped([[0, 16, 0], [0, 16, 0], [0, 0, 16]]) == []  # all of one class judged another: no exchange
