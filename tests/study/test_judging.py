"""Who judges, how far they can be trusted, and what can't be concluded."""

from dataclasses import replace

import pytest

from embprobe.metrics.estimate import Estimate
from embprobe.store import Store
from embprobe.study import Row, Study, cautions, judging
from embprobe.study.chance import corrected
from embprobe.study.judging import JudgeReport
from embprobe.study.verdict import differences
from tests import fake_study
from tests.fake_study import spread


def judge(*rows: Row, name: str = "net", accuracy: float | None = None) -> JudgeReport:
    bare = JudgeReport(name, accuracy, rows, (), (), (), {})
    found = {how: corrected(differences(group)) for how, group in bare.groups.items()}
    return replace(bare, differences=found)


@pytest.mark.parametrize(
    ("report", "caption"),
    [
        (judge(), "Judged by net"),
        (judge(accuracy=0.954), "Judged by net, 95.4 % accurate on held-out images"),
        (judge(Row("a", {}, weak=True)), "Judged by net ⚠ weak judge (below 90 %)"),
        (judge(Row("a", {}, probed=True), Row("b", {})), "Judged by net ⚠ the judge is a probed encoder (a)"),
        (judge(name=judging.READERS), "Simple readers of the embeddings, on held-out images"),
    ],
)
def test_a_caption_says_who_judged_and_what_to_doubt(report: JudgeReport, caption: str) -> None:
    assert report.caption == caption


def test_a_caption_tells_the_judges_calibration() -> None:
    told = replace(judge(accuracy=0.9), reports=({"calibration_error": 0.0312},))
    assert told.caption == "Judged by net, 90.0 % accurate on held-out images, calibration error 3.1 %"


def test_without_evaluations_nobody_judges_and_readers_still_do(place: Store) -> None:
    study = Study(tuple(a for a in fake_study.artefacts(place, curve=False) if a.stage == "probe"))
    (nobody,), readers = judging.compared(study)
    assert nobody.name == judging.NOBODY and not nobody.rows
    assert cautions.cautions(study, [nobody]) == []
    assert judging.family_words([nobody], readers).startswith(
        "Who leads and who is behind is corrected by Holm's method"
    )
    assert "1 comparisons of learned encoders and 2 with a control" in judging.family_words([nobody], readers)
    assert [row.encoder for row in readers.rows] == list(fake_study.ENCODERS)
    headings = [heading for heading, _ in judging.answers([nobody], readers)]
    assert set(headings) <= {"Embeddings, by simple readers on held-out images"}


def fd(value: float) -> Estimate:
    return Estimate(value, value - 2, value + 2, spread=spread(1.0, 0.5))


def test_a_lead_that_the_decoders_explain_is_doubted(place: Store) -> None:
    study = Study(fake_study.artefacts(place, curve=False))
    for decoders, doubted in (((2.0, 9.0), True), ((2.0, 3.0), False)):
        rows = [Row(name, {"fd": fd(value)}, count=48) for name, value in (("a", 10.0), ("b", 20.0))]
        rows += [
            Row(name, {"fd": Estimate(value)}, kind="reconstructions", how="reconstructions", count=48)
            for name, value in zip("ab", decoders, strict=True)
        ]
        said = " ".join(cautions.cautions(study, [judge(*rows)]))
        assert f"score FD {decoders[0]} (a) and {decoders[1]} (b)" in said
        assert ("a's lead of 10.0 over b stands against 7.0" in said) is doubted


def test_rows_of_different_counts_are_a_caution(place: Store) -> None:
    study = Study(fake_study.artefacts(place, curve=False))
    for counts, warned in (((48, 48), False), ((48, 20), True)):
        rows = [Row(name, {"fd": fd(1.0)}, count=count) for name, count in zip("ab", counts, strict=True)]
        assert any("different numbers of samples" in s for s in cautions.cautions(study, [judge(*rows)])) is warned


def test_copies_are_a_caution_where_chance_does_not_explain_them(place: Store) -> None:
    study = Study(fake_study.artefacts(place, curve=False, copier="mae"))
    said = [s for s in cautions.cautions(study, judging.compared(study)[0]) if "may copy" in s]
    assert len(said) == 1 and said[0].startswith("mae, by class may copy")
    assert "pixels (p 0.0002), judge (p 0.0002) and latents (p 0.0002)" in said[0]


@pytest.mark.parametrize(
    ("p", "text"), [(0.0, "< 0.0001"), (0.0002, "0.0002"), (0.0123, "0.012"), (0.456, "0.46"), (1.0, "1.00")]
)
def test_a_p_value_has_two_digits(p: float, text: str) -> None:
    assert cautions.pvalue(p) == text
