"""Tables: the best of what may be compared, and CSV that no spreadsheet runs."""

import csv
import io

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import Metric
from embprobe.study.rows import Row
from embprobe.study.table import Table, csv_text, harmless, merged

ROWS = [
    Row("a", {"fd": Estimate(10.25, 9.0, 11.5), "precision": Estimate(0.5)}, count=100),
    Row("b", {"fd": Estimate(20.0, 19.0, 21.0), "precision": Estimate(0.6)}, count=100),
    Row("a", {"fd": Estimate(5.0)}, how="guidance 3", count=100),
    Row("real", {"fd": Estimate(1.0)}, kind="real", count=100),
]


def test_who_is_ahead_is_marked_and_nobody_else() -> None:
    table = Table(ROWS, {("", "fd"): "a"})
    fd = table.headers.index("FD ↓")
    assert [row[fd].best for row in table.cells] == [True, False, False, False]
    assert table.plain[0][fd] == "10.25 ±1.2" and table.floors == [3]
    assert table.plain[3][table.headers.index("precision ↑")] == "–"
    assert not any(cell.best for row in Table(ROWS).cells for cell in row)


def test_an_unreliable_figure_is_flagged() -> None:
    rows = [Row(n, {"fd_infinity": Estimate(v, reliable=v > 1)}, count=9) for n, v in (("a", 1.0), ("b", 2.0))]
    assert [line[2].small for line in Table(rows).cells] == ["⚠", ""]


def test_csv_tells_what_is_unreliable_where_something_is() -> None:
    rows = [
        Row(n, {"fd_infinity": Estimate(v, reliable=v > 1), "fd": Estimate(v)}) for n, v in (("a", 1.0), ("b", 2.0))
    ]
    found = list(csv.DictReader(io.StringIO(csv_text({"judge": rows}))))
    assert [line["fd_infinity_reliable"] for line in found] == ["False", "True"] and "fd_reliable" not in found[0]


def test_readers_join_the_rows_of_their_encoder() -> None:
    readers = [
        Row("a", {"linear": Estimate(0.7)}, kind="embeddings"),
        Row("c", {"linear": Estimate(0.1)}, kind="embeddings"),
    ]
    found = merged(ROWS, readers)
    assert [r.encoder for r in found] == ["a", "b", "a", "c", "real"]
    assert found[0].values["linear"].value == 0.7 and "linear" not in found[1].values


def test_csv_has_full_precision_and_no_formulas() -> None:
    hostile = Row("=1+1", {"fd": Estimate(-1 / 3, -0.5, 0.1)}, how="+x", count=3)
    (found,) = csv.DictReader(io.StringIO(csv_text({"@judge": [hostile]})))
    assert (found["judge"], found["encoder"], found["drawn"]) == ("'@judge", "'=1+1, +x", "'+x")
    assert float(found["fd"]) == -1 / 3 and float(found["fd_low"]) == -0.5
    assert [harmless(t) for t in ("-x", "\tx", "x=1", "")] == ["'-x", "\\tx", "x=1", ""]


def test_numbers_have_a_true_minus_and_no_minus_zero() -> None:
    column = Metric("kid", "KID", 2, False)
    assert column.text(-0.0) == "0.00" and column.text(-1.5) == "−1.50"
    assert column.text(-0.001) == "−0.0010"  # what is not 0 does not read as 0
    assert column.text(7650289.6235) == "7.650e6"
