"""Commands stand in an order in which they can be run, with every option that they were given."""

import re
import shlex
from html import unescape

from embprobe.store import Artefact, Store
from embprobe.study import Study
from embprobe.study.provenance import command, in_order, provenance
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


def test_the_page_has_a_command_for_every_artefact_that_can_be_typed(place: Store) -> None:
    study = Study(fake_study.artefacts(place, curve=False))
    page = provenance(study)
    (block,) = re.findall(r"<code>(.*?)</code>", page, re.DOTALL)
    lines = unescape(block).splitlines()
    assert lines == [command(artefact) for artefact in in_order(study.all)]
    for line, artefact in zip(lines, in_order(study.all), strict=True):
        assert shlex.split(line)[:2] == ["embprobe", artefact.stage] and artefact.fingerprint in page
    (plain, *_) = [line for line in lines if line.startswith("embprobe evaluate")]
    assert " --no-plain" in plain and " --second" not in plain and "--device" not in plain
