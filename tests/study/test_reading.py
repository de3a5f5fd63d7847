"""Rows of a study: what they are called, which are compared, where floors and controls come from."""

from types import SimpleNamespace
from typing import Any

import pytest

from embprobe.metrics.table import METRIC
from embprobe.store import Store
from embprobe.study import Row, Study, reading
from embprobe.study.readings import reader_rows
from tests import fake_study


def rows(study: Study, kind: str) -> list[Row]:
    return [row for row in study.rows("classifier") if row.kind == kind]


def test_a_judge_has_a_row_for_each_encoder_then_its_floors(place: Store) -> None:
    study = Study(fake_study.artefacts(place))
    assert study.judges == ["classifier"]
    assert [row.encoder for row in rows(study, "samples")] == list(fake_study.ENCODERS)
    assert [row.kind for row in study.rows("classifier")] == ["samples"] * 3 + ["reconstructions"] * 3 + ["real"]
    assert [row.control for row in rows(study, "samples")] == [False, False, True]
    assert all(row.how == "by class" and row.seed == "" and row.weak for row in rows(study, "samples"))


def test_milestones_and_gaussian_draws_have_no_row_of_their_own(place: Store) -> None:
    study = Study(fake_study.artefacts(place))
    assert (len(study.drawn), len(study.final), len(study.gaussian)) == (9, 3, 3)
    for row, (fd, *_) in zip(rows(study, "samples"), fake_study.ENCODERS.values(), strict=True):
        assert row.values["fd"].value == fd and row.values["gaussian_fd"].value == 90.0


def test_every_value_of_a_row_has_its_place_in_the_table(place: Store) -> None:
    study = Study(fake_study.artefacts(place))
    for row in (*study.rows("classifier"), *reader_rows(study)):
        assert row.values.keys() <= METRIC.keys()


def test_distances_of_latents_stand_with_the_first_judge_alone(place: Store) -> None:
    study = Study(fake_study.artefacts(place, second=True, curve=False))
    assert study.judges == ["classifier", "inception"]
    assert all("latent_fd" in row.values for row in rows(study, "samples"))
    second = [row for row in study.rows("inception") if row.kind == "samples"]
    assert all("latent_fd" not in row.values and row.probed for row in second)


def test_the_floor_row_is_what_held_out_images_get(place: Store) -> None:
    (real,) = rows(Study(fake_study.artefacts(place, curve=False)), "real")
    assert real.is_floor and real.count == fake_study.COUNT
    assert real.values["fd"].value == 1.5 and real.values["fd"].ends == (1.5, 1.5)


def test_embeddings_have_what_readers_find_and_what_latents_and_decoder_keep(place: Store) -> None:
    by_encoder = {row.encoder: row.values for row in reader_rows(Study(fake_study.artefacts(place, curve=False)))}
    assert {key: value.value for key, value in by_encoder["mae"].items()} == {"linear": 0.6, "r2": 0.9, "psnr": 20.0}


def test_seeds_are_named_only_where_rows_differ_in_nothing_else(place: Store) -> None:
    study = Study(fake_study.artefacts(place, seeds=(0, 1), curve=False))
    labels = [row.label for row in rows(study, "samples")]
    assert labels[:2] == ["ijepa, by class, seed 0", "ijepa, by class, seed 1"]


def test_without_evaluations_there_is_no_judge(place: Store) -> None:
    probes = tuple(a for a in fake_study.artefacts(place, curve=False) if a.stage == "probe")
    study = Study(probes)
    assert study.judges == [] and study.final == [] and len(reader_rows(study)) == 3


# ---- words


def test_options_that_differ_are_said_in_words() -> None:
    assert (
        reading.worded("sample.steps") == "sampler steps"
        and reading.worded("diffuse.label_dropout") == "diffusion label dropout"
    )
    assert reading.worded("sample.sampler") == "sampler"
    assert [reading.guidance_words(g) for g in (None, 1, 3.0, 1.5)] == ["", "", "guidance 3", "guidance 1.5"]


def test_settings_differ_where_one_is_missing() -> None:
    assert reading.differing([{"a": 1, "b": 2}, {"a": 1}]) == {"b"}
    assert reading.differing([{"a": [1, 2]}, {"a": [1, 2]}]) == set()


@pytest.mark.parametrize(
    ("encoder", "label", "untrained"),
    [
        ("mae", "mae", False),
        ("pixels:8", "pixels:8", True),
        ("random:vit-16x1-h2-p4", "random:vit-16x1-h2-p4", True),
        ({"objective": "ijepa", "steps": 9, "weights": None}, "ijepa", False),
        ({"objective": "ijepa", "steps": 0, "weights": None}, "ijepa untrained", True),
        ({"objective": "mae", "steps": 0, "weights": "x.pth"}, "mae", False),
    ],
)
def test_an_encoder_is_called_after_what_it_learned(encoder: Any, label: str, untrained: bool) -> None:
    mine = SimpleNamespace(fingerprint="mine", options={})
    known = encoder if isinstance(encoder, str) else SimpleNamespace(options=encoder)
    embeddings: Any = SimpleNamespace(encoder=known, artefact=mine)
    assert reading.encoder_label(embeddings, {"mine": "called so"}) == "called so"
    assert reading.encoder_label(embeddings, {}) == label and reading.is_untrained(embeddings) is untrained
