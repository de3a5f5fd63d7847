"""The one sentence is as true as the conclusions, and says no more."""

from dataclasses import replace

import pytest

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRIC
from embprobe.study import usable
from embprobe.study.chance import corrected
from embprobe.study.headline import headline
from embprobe.study.judging import READERS, JudgeReport
from embprobe.study.rows import Row
from embprobe.study.verdict import differences
from tests.fake_study import spread

FIGURES = ("fd", "kid", "precision", "recall")
NOBODY = JudgeReport(READERS, None, (), (), (), (), {})


def row(name: str, *values: float, **facts: object) -> Row:
    """A row of these figures, each with a standard error of 1."""
    told = {key: Estimate(v, v - 2, v + 2, spread=spread(1.0)) for key, v in zip(FIGURES, values, strict=False)}
    return Row(name, told, count=100, reference="one", **facts)  # type: ignore[arg-type]


def judge(*rows: Row, name: str = "net", accuracy: float | None = 0.99) -> JudgeReport:
    bare = JudgeReport(name, accuracy, rows, (), ({"classes": ["a", "b"]},), (), {})
    found = {how: corrected(differences(group)) for how, group in bare.groups.items()}
    return replace(bare, differences=found)


def said(*rows: Row) -> str:
    told = headline([judge(*rows)], NOBODY)
    assert told is not None and len(told.sentence.split()) <= 42, told
    return told.sentence


def test_who_is_ahead_in_most_and_behind_in_none_generates_better_images() -> None:
    assert said(row("mae", 10, 10, 90, 50), row("ijepa", 30, 30, 50, 50)) == (
        "mae's latents generate better images than ijepa's here: ahead in 3 of 4 figures, FD 10.0 against 30.0."
    )
    assert said(row("a", 10, 10, 90), row("b", 30, 30, 50), row("c", 40, 40, 40)) == (
        "a's latents generate the best images here: ahead of all 2 others in all 3 figures, FD 10.0 against 30.0 of b, the next."
    )


def test_ahead_in_few_figures_is_no_win() -> None:
    assert said(row("mae", 10, 30, 50, 50), row("ijepa", 30, 30, 50, 50)) == (
        "No clear winner: mae is ahead of ijepa in 1 of 4 figures (FD)."
    )


def test_each_ahead_in_some_is_no_win_unless_one_is_in_most() -> None:
    assert said(row("mae", 10, 10, 50, 50), row("ijepa", 30, 30, 90, 50)) == (
        "No clear winner: of 4 figures mae is ahead in 2, ijepa is ahead in 1, and 1 can't be told."
    )
    assert said(row("mae", 10, 10, 90, 50), row("ijepa", 30, 30, 50, 90)) == (
        "mae's latents generate better images than ijepa's here in most respects: ahead in 3 of 4 figures and behind in 1, FD "
        "10.0 against 30.0."
    )


def test_nothing_but_chance_is_no_win() -> None:
    assert said(row("a", 10, 10), row("b", 11, 10)) == (
        "Nobody wins: chance alone explains who is best in any of 2 figures."
    )
    assert said(row("a", 10, 10), row("b", 11, 10), row("c", 50, 50)) == (
        "Nobody wins alone: a and b share the lead in both figures."
    )


def test_a_control_that_is_ahead_of_the_winner_is_told() -> None:
    rows = row("mae", 20, 20), row("ijepa", 40, 40), row("pixels", 2, 2, control=True)
    assert said(*rows).endswith(" But pixels, which learned nothing, is ahead of both in 2.")
    assert "pixels" not in said(*rows[:2], row("pixels", 60, 60, control=True))


def test_a_lone_encoder_wins_nothing() -> None:
    assert said(row("mae", 20, 20), row("pixels", 60, 60, control=True)) == (
        "Nobody wins: mae has no other to be compared with."
    )


def test_controls_alone_are_compared_with_each_other() -> None:
    pixels, noise = row("pixels", 10, 10, control=True), row("random", 30, 30, control=True)
    assert said(pixels, noise).startswith(
        "pixels's latents generate better images than random's here: ahead in both figures"
    )
    assert said(pixels) == "Nobody wins: pixels is the only encoder here."
    off = replace(noise, unusable=("it lies off the manifold of real images (…)",))
    assert said(off) == "Not usable yet: the samples of random look like no real images."


def test_what_is_not_usable_is_told_before_anything() -> None:
    off = {"unusable": ("it lies off the manifold of real images (precision 0.010, real ones 0.900)",)}
    still = {"unusable": ("it is still improving (FD fell from 20.0 to 12.0 between 3 and 10 epochs)",)}
    assert said(row("a", 10, **off), row("b", 20, **off)) == (
        "Not usable yet: the samples of a and b look like no real images."
    )
    assert said(row("a", 10, **off), row("b", 20, **still)) == (
        "Not usable yet: the samples of a look like no real images; the samples of b still get better with every epoch."
    )
    assert said(row("a", 10, **still), row("b", 20)) == (
        "Nobody wins: the samples of a still get better with every epoch, so that b has no other to be compared with."
    )
    assert said(row("a", 10, 10), row("b", 30, 30), row("c", 1, 1, **off)).endswith(" c is not usable yet.")


@pytest.mark.parametrize("words", sorted(usable.PLAIN))
def test_every_shortcoming_has_plain_words(words: str) -> None:
    figures = {
        "fd": Estimate(9.0, 8.0, 10.0), "gaussian_fd": Estimate(5.0), "precision": Estimate(0.0, 0.0, 0.01, Estimate(0.9)),
        "coverage": Estimate(0.0, 0.0, 0.01, Estimate(0.9)), "asked_class": Estimate(0.1, 0.0, 0.2),
    }  # fmt: skip
    now = usable.Judged(10.0, 100, figures)
    whys = [*usable.shortcomings(now, (), 3)]
    whys += usable.shortcomings(now, [usable.Judged(5.0, 100, {"fd": Estimate(90.0)})], 0)
    whys.append(usable.copied({"pixels": {"warned": True, "low": 0.1, "share": 0.2}}))
    (why,) = {w for w in whys if words in w}
    assert usable.plainly(why) == usable.PLAIN[words] and "fall short" not in usable.plainly(why)


def test_the_first_judge_that_can_be_trusted_is_heard() -> None:
    rows = [row("a", 10, 10), row("b", 30, 30)]
    weak = judge(*(replace(r, weak=True) for r in rows), name="weak")
    probed = judge(*(replace(r, probed=True) for r in rows), name="probed")
    blind = judge(*rows, name="blind", accuracy=0.5)
    for judged, name in (([weak, probed, judge(*rows)], "net"), ([blind, weak], "weak"), ([blind], "blind")):
        told = headline(judged, NOBODY)
        assert told is not None and told.judge.name == name
    told = headline([blind], NOBODY)
    assert told is not None and told.sentence.startswith(
        "Nobody wins: the judge itself can't tell the classes apart (50 %"
    )


def test_images_from_elsewhere_and_embeddings_are_called_so() -> None:
    assert said(row("a", 10, how="from elsewhere"), row("b", 30, how="from elsewhere")) == (
        "a's images are better than b's here: ahead in the one figure that can be compared, FD 10.0 against 30.0."
    )
    read = [
        Row(name, {"linear": Estimate(v, v - 0.01, v + 0.01, spread=spread(0.005))}, kind="embeddings")
        for name, v in (("a", 0.9), ("b", 0.5))
    ]
    told = headline([JudgeReport("no judge", None, (), (), (), (), {})], replace(judge(*read), accuracy=None))
    assert told is not None and told.sentence == (
        "a's embeddings tell a simple reader more than b's here: ahead in the one figure that can be compared, "
        "linear 0.900 against 0.500."
    )
    assert headline([], NOBODY) is None and METRIC["linear"].in_a_sentence == "linear accuracy"
