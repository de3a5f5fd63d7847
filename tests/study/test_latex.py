"""LaTeX that prints what was meant."""

import re
from dataclasses import replace

from embprobe.metrics.estimate import Estimate
from embprobe.study import latex
from embprobe.study.chance import corrected
from embprobe.study.judging import READERS, JudgeReport
from embprobe.study.rows import Row
from embprobe.study.verdict import differences

HOSTILE = r"100%_\x{[&"
ROWS = [
    Row("a", {"fd": Estimate(10.25, 9.0, 11.5), "precision": Estimate(0.5)}, count=100, weak=True),
    Row(HOSTILE, {"fd": Estimate(20.0, 19.0, 21.0), "precision": Estimate(0.6)}, count=100),
    Row("real", {"fd": Estimate(1.0)}, kind="real", count=100),
]


def judge(name: str, accuracy: float | None) -> JudgeReport:
    bare = JudgeReport(name, accuracy, ROWS, (), (), (), {})
    return replace(bare, differences={"": corrected(differences(bare.groups[""]))})


def test_latex_is_escaped_and_says_judge_and_intervals() -> None:
    text = latex.tables([judge("net_1", 0.5)], JudgeReport(READERS, None, (), (), (), (), {}), {}, [])
    assert r"100\%\_\textbackslash{}x\{{[}\&" in text and r"net\_1, 50.0 \% accurate" in text
    assert r"\textbf{10.25} {\small $\pm$1.2}" in text and r"\textit{1.000}" in text and "weak judge" in text
    assert "FD $\\downarrow$" in text and "first $-$ second" in text
    assert text.isascii()


def test_every_line_has_as_many_cells_as_its_table_has_columns() -> None:
    text = latex.tables([judge("net", None)], JudgeReport(READERS, None, (), (), (), (), {}), {}, [])
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == text.count(r"\toprule") == 2
    for columns, body in re.findall(r"\\begin{tabular}{(\w+)}\n(.*?)\\bottomrule", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line.endswith(("\\\\", "midrule")) and " & " in line]
        assert {len(re.findall(r"(?<!\\)&", line)) for line in lines} == {len(columns) - 1}


def test_many_figures_are_cut_into_tables_of_six() -> None:
    keys = ("fd", "kid", "tv", "precision", "recall", "density", "coverage")
    rows = [Row(name, {key: Estimate(0.5) for key in keys}) for name in "ab"]
    found = [latex.floats(JudgeReport("x", None, r, (), (), (), {}), "seven") for r in (rows, [])]
    assert len(found[0]) == 2 and found[1] == []
