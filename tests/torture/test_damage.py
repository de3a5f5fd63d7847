"""Slices of the studies of damage and of hostile stores; that there is enough of both."""

import gc
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embprobe.encoders import tokens
from embprobe.stages import features, ingest, sample
from embprobe.training import checkpoints
from tests.torture import damage, hostile
from tests.torture.standing import Standing, standing
from tests.torture.wounds import EVERY

SHRUNK = {
    ingest: ("CHUNK_BYTES",),
    tokens: ("CHUNK_BYTES",),
    sample: ("CHUNK_ROWS",),
    features: ("CHUNK_ROWS", "BATCH"),
    checkpoints: ("LEAST_SECONDS", "SHARE"),
}


@pytest.fixture(scope="module")
def here() -> Iterator[Standing]:
    """In a folder that others may read, unlike pytest's: a part of the study is done as somebody else."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module, names in SHRUNK.items():  # as they are, to be so again for other tests
            for name in names:
                patch.setattr(module, name, getattr(module, name))
        patch.setenv("XDG_CACHE_HOME", str(Path(folder) / "cache"))
        Path(folder).chmod(0o755)
        yield standing(Path(folder))
        gc.unfreeze()


def test_there_are_hundreds_of_damages_of_every_kind(here: Standing) -> None:
    cases = damage.cases(here, 0)
    assert len(cases) >= 500
    wounds = [case[0] for case in cases if len(case) == 1]
    stages = {name for name in here.names if name != "pictures"}
    assert {w.where for w in wounds} >= stages
    assert {w.kind for w in wounds} >= {*EVERY, "deleted", "swapped"}
    assert sum(len(case) == 2 and case[0] != "source" for case in cases) >= 50
    assert {case[1] for case in cases if case[0] == "unfinished"} == stages


def test_there_are_hundreds_of_hostile_stores() -> None:
    cases = hostile.cases(0)
    assert len(cases) >= 200
    assert {case[1] for case in cases if not isinstance(case, str)} == set(hostile.COMMANDS)


def test_damage_is_named_and_mended_or_told(here: Standing) -> None:
    found = damage.study(here.root, 12, seed=1)
    assert found["wrong"] == []
    assert found["counts"]["repaired bit-equal"] >= 1


def test_hostile_stores_harm_nobody(here: Standing) -> None:
    found = hostile.study(here.root, 60, seed=1)
    assert found["wrong"] == []
    assert found["trials"] == 60
