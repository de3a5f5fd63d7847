"""The one table of metrics: keys are told apart, numbers are written the same everywhere."""

import pytest

from embprobe.metrics.table import METRIC, METRICS, Metric


def test_keys_and_names_are_told_apart() -> None:
    assert len(METRIC) == len(METRICS) == len({metric.name for metric in METRICS})
    assert all(METRIC[metric.key] is metric for metric in METRICS)


@pytest.mark.parametrize(
    ("digits", "value", "text"),
    [(1, 12.34, "12.3"), (2, -1.5, "−1.50"), (2, -0.001, "−0.0010"), (4, 0.00006, "0.0001"), (0, -2.4, "−2")],
)
def test_numbers_have_a_true_minus_and_no_minus_zero(digits: int, value: float, text: str) -> None:
    assert Metric("kid", "KID", digits, False).text(value) == text


def test_a_header_says_which_way_is_better() -> None:
    assert [METRIC[key].header for key in ("fd", "recall", "authenticity")] == ["FD ↓", "recall ↑", "authenticity"]


def test_in_a_sentence_a_reader_has_its_accuracy() -> None:
    assert METRIC["linear"].in_a_sentence == "linear accuracy" and METRIC["fd"].in_a_sentence == "FD"


def test_what_is_read_from_embeddings_depends_on_no_number_of_samples() -> None:
    assert all(metric.any_count for metric in METRICS if metric.of_embeddings)
    assert {m.key for m in METRICS if m.any_count and not m.of_embeddings} == {"kid", "asked_class", "agreement"}
