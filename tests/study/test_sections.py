"""The page's parts on evaluations and probes that lack something."""

from types import SimpleNamespace
from typing import Any

import pytest

from embprobe.page.figures import Figures
from embprobe.study import sections
from embprobe.study.judging import JudgeReport
from tests.fake_study import figure


class Out:
    """Takes files and keeps their names."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def write_bytes(self, name: str, data: bytes) -> None:
        self.names.append(name)


def studied(factors: dict[str, Any]) -> Any:  # Any: stands for a Study
    probing = SimpleNamespace(embeddings="mae", results={"factors": factors} if factors else {})
    return SimpleNamespace(probings=[probing], label=str)


def test_a_factor_that_does_not_vary_has_no_bar() -> None:
    still = {"value": None, "low": None, "high": None}
    known = {"value": 0.5, "low": 0.4, "high": 0.6}
    out = Out()
    page = sections.factors(
        studied(
            {
                "hue": {"kind": "scalar", "grid": known, "pooled": known},
                "size": {"kind": "scalar", "grid": still, "pooled": still},
            }
        ),
        Figures(out),
    )
    assert "hue (R²), mae" in page and "size" not in page
    assert out.names == ["figures/factors-grid.svg", "figures/factors-pooled.svg"]
    out = Out()
    assert sections.factors(studied({}), Figures(out)) == "" and out.names == []


@pytest.mark.parametrize("floor", [None, 4.0])
def test_a_class_has_its_figures_beside_their_floors_and_a_dash_where_it_has_too_few_images(
    floor: float | None,
) -> None:
    estimate = figure(30.0, 1.0, 0.0) | {"floor": floor and {"value": floor}}
    report = {"per_class": {"cat": {"count": 16, "fd": estimate}, "dog": {"count": 2}}}
    judge = JudgeReport("classifier", None, (), ("mae",), (report,), (), {})
    page = sections.classes([judge])
    assert ("(4.000)" in page) == (floor is not None) and "±2.0" in page
    assert page.count(">–<") == 1 and "FD ↓" in page and "KID" not in page
