"""The table of the search for copies says what it can't know."""

from embprobe.store import Store
from embprobe.study import Study, copying, judging
from tests import fake_study


def test_the_share_of_copies_is_told_as_a_lower_bound(place: Store) -> None:
    study = Study(fake_study.artefacts(place, curve=False))
    table = copying.copies_table(study, judging.compared(study)[0][0])
    assert "share, at least" in table and "≥ " in table and "lower bound" in table
    assert "95 % interval" not in table
