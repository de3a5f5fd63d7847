"""What evaluations and probes found, and what they were made from."""

import pytest

from embprobe.errors import UserError
from embprobe.store import Artefact, Store
from embprobe.views import Evaluation, Probing
from tests import fake_study


@pytest.fixture
def study(place: Store) -> tuple[Artefact, ...]:
    return fake_study.artefacts(place, curve=False, second=True)


def evaluations(study: tuple[Artefact, ...], stage: str) -> list[Evaluation]:
    """Those of samples or of decoders."""
    return [e for e in (Evaluation(a) for a in study if a.stage == "evaluate") if e.source.stage == stage]


def test_an_evaluation_knows_its_samples_and_its_reference(study: tuple[Artefact, ...]) -> None:
    evaluation = evaluations(study, "sample")[0]
    assert evaluation.samples.artefact == evaluation.source
    assert evaluation.reference == evaluation.samples.denoiser.latents.images
    with pytest.raises(UserError, match="Decoder wants what decode makes"):
        _ = evaluation.decoder


def test_an_evaluation_of_reconstructions_knows_its_decoder(study: tuple[Artefact, ...]) -> None:
    evaluation = evaluations(study, "decode")[0]
    assert evaluation.decoder.artefact == evaluation.source
    with pytest.raises(UserError, match="Samples wants what sample makes"):
        _ = evaluation.samples
    assert evaluation.copies == {} and evaluation.latents == {}


def test_reports_stand_in_the_order_of_the_judges(study: tuple[Artefact, ...]) -> None:
    evaluation = evaluations(study, "sample")[0]
    assert [r["name"] for r in evaluation.reports] == ["classifier", "inception"]
    assert [r["probed"] for r in evaluation.reports] == [False, True]


def test_latents_copies_and_protocol_stand_beside_the_judges(study: tuple[Artefact, ...]) -> None:
    evaluation = evaluations(study, "sample")[0]
    assert evaluation.latents["latent_fd"]["value"] == 3.0
    assert list(evaluation.copies) == ["pixels", "judge", "latents"] and evaluation.protocol["k"] == 3


def test_a_probing_knows_its_embeddings(study: tuple[Artefact, ...]) -> None:
    probings = [Probing(artefact) for artefact in study if artefact.stage == "probe"]
    assert [probing.embeddings.encoder for probing in probings] == list(fake_study.ENCODERS)
    assert probings[0].results["linear"]["value"] == 0.5
