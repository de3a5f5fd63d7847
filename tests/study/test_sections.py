"""The page's parts on evaluations and probes that lack something."""

from types import SimpleNamespace
from typing import Any

import pytest

from embprobe.page.figures import Figures
from embprobe.page.forest import Forest, ForestRow
from embprobe.study import sections
from embprobe.study.judging import JudgeReport
from embprobe.study.overview import GAUSSIAN
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


def test_the_page_opens_with_the_data_that_rows_were_measured_against_and_no_other() -> None:
    def measured(name: str, count: int) -> Any:  # Any: stands for an Evaluation
        facts = SimpleNamespace(
            metrics={"size": 64, "count": count, "splits": {"val": 7}},
            fingerprint=name,
            short=name,
            options={"source": f"/data/{name}"},
        )
        return SimpleNamespace(reference=SimpleNamespace(artefact=Hashed(vars(facts))), held_out="val")

    class Hashed(SimpleNamespace):
        def __init__(self, facts: dict[str, Any]) -> None:
            super().__init__(**facts)

        def __hash__(self) -> int:  # type: ignore[override]
            return hash(self.fingerprint)

    study: Any = SimpleNamespace(
        final=[measured("cats", 9)], foreign=[], of_decoders=[measured("faces", 5)], aliases={}
    )
    assert sections.lead(study) == '<p class="soft">cats: 9 images of 64 px, held out: the 7 of val.</p>'
    study.aliases = {"cats": "my cats"}
    assert "my cats: 9 images" in sections.lead(study)
    study.final = []
    assert "faces: 5 images" in sections.lead(study)


def test_the_left_end_of_the_picture_says_whose_noise_it_is() -> None:
    """An encoder may look half-way to real images there and yet be no better than its own decoder's noise."""
    rows = [ForestRow("FD", 100.0, 1.0, {}, "", "", False)]
    alone, several = (sections.legend(Forest(names, frozenset(), rows, GAUSSIAN)) for names in (["a"], ["a", "b"]))
    assert "each one's own are in the table" in several and "each one's own" not in alone
