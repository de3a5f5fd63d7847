"""Artefacts stand in an order in which they can be made."""

from embprobe.store import Artefact, Store
from embprobe.study import Study
from embprobe.study.provenance import in_order
from tests import fake_study


def test_every_artefact_stands_after_what_it_was_made_from(place: Store) -> None:
    """All of them are finished within a second or two, so that their times alone don't tell."""
    study = Study(fake_study.artefacts(place, curve=False))
    order = in_order(study.all)
    places = {artefact: i for i, artefact in enumerate(order)}
    assert set(order) == set(study.all) and len(order) == len(places)
    for artefact in order:
        assert all(places[source] < places[artefact] for source in artefact.inputs.values())


def test_a_later_artefact_stands_later_where_neither_is_made_from_the_other(place: Store) -> None:
    class Timed(Artefact):
        """An artefact that was finished when a test says."""

        def __init__(self, name: str, finished: str, *sources: "Timed") -> None:
            super().__init__(place.root, "toy", name)
            self.when, self.sources = finished, sources

        @property
        def manifest(self) -> dict[str, str]:  # type: ignore[override]
            return {"finished": self.when}

        @property
        def inputs(self) -> dict[str, Artefact]:
            return {str(i): source for i, source in enumerate(self.sources)}

    late, early = Timed("a", "2026-01-02"), Timed("b", "2026-01-01")
    child = Timed("c", "2026-01-02", late)
    assert in_order([child, late, early]) == [early, late, child]
