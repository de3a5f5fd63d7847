"""Predict: what it writes, that it continues, and that what it concludes is so where the truth is known."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.evaluation.foreseen import prediction_figures
from embprobe.evaluation.truths import Truths
from embprobe.making import make
from embprobe.metrics.energies import whitening
from embprobe.stage import Stage, option
from embprobe.stages.compress import Compress
from embprobe.stages.decode import Decode
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.predict import Predict
from embprobe.stages.pretrain import Pretrain
from embprobe.stages.report import Report
from embprobe.store import Artefact, Store
from embprobe.views import Embeddings, Images
from tests import tiny
from tests.stages.conftest import outputs

Killed = Callable[[Stage, Store, int], Artefact]


def embedded(store: Store, objective: str, **options: object) -> Artefact:
    images = make(Ingest(source="planted", count=48, size=16, val_share=0.5), store)
    encoder = make(Pretrain(images=images, objective=objective, **(tiny.PRETRAIN | {"steps": 12} | options)), store)
    return make(Extract(images=images, encoder=encoder, device="cpu"), store)


def decoded(store: Store, embeddings: Artefact) -> Artefact:
    latents = make(Compress(embeddings=embeddings, **tiny.COMPRESS), store)
    return make(Decode(latents=latents, **tiny.DECODE), store)


@pytest.mark.parametrize("objective", ["ijepa", "mae"])
def test_every_patch_has_its_energy_and_its_picture(place: Store, objective: str) -> None:
    embeddings = embedded(place, objective)
    made = make(Predict(embeddings=embeddings, decoder=decoded(place, embeddings), device="cpu"), place)
    count, grid = len(made.array("rows").read()), Embeddings(embeddings).grid
    energy, said, true = (made.array(n).floats(slice(0, count)) for n in ("energy", "predicted", "true"))
    assert (made.array("asked").read() == 1).all() and energy.shape == (count, *grid)
    np.testing.assert_allclose(energy, np.linalg.norm(said - true, axis=-1), rtol=1e-4)
    found = made.read_json("prediction.json")
    assert {"r2", "auc", "auc_whitened", "gain_db", "psnr", "factors", "spread"} <= found.keys()
    assert found["auc"]["low"] <= found["auc"]["value"] <= found["auc"]["high"]
    for name in ("imagined", "decoded", "blank"):
        assert made.array(name).shape == (count, 16, 16, 3)
    blank = made.array("blank").read()
    assert objective == "mae" or (blank == blank[0]).all(), "the mean predictor says the same of every image"


def test_killed_and_continued_it_equals_one_in_one_go(
    place: Store, killed: Killed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embprobe.stages.predict.CHUNK_BYTES", 1 << 12)
    embeddings = embedded(place, "ijepa")
    options = {"embeddings": embeddings, "masking": "blocks", "forward": 4, "device": "cpu"}
    pieces = killed(Predict(**options), place, 4)  # type: ignore[arg-type]
    whole = make(Predict(**options, seed=0), Store(place.root.parent / "other"))  # type: ignore[arg-type]
    assert outputs(pieces) == outputs(whole)


def test_asked_again_it_computes_nothing(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings = embedded(place, "mae")
    first = make(Predict(embeddings=embeddings), place)
    monkeypatch.setattr(Predict, "run", lambda self, out: pytest.fail("computed again"))
    assert make(Predict(embeddings=embeddings, forward=7), place) == first


def test_a_larger_forward_batch_changes_rounding_alone(place: Store) -> None:
    embeddings = embedded(place, "ijepa")
    one, other = (
        make(Predict(embeddings=embeddings, masking="blocks", forward=f), Store(place.root.parent / str(f)))
        for f in (3, 64)
    )
    a, b = (m.array("predicted").floats(slice(0, 24)) for m in (one, other))
    np.testing.assert_allclose(a, b, atol=4e-3)


def test_the_pixel_target_is_an_encoder_of_its_own_and_predicts_pixels(place: Store) -> None:
    pixels = make(Predict(embeddings=embedded(place, "ijepa", target="pixels")), place)
    usual = make(Predict(embeddings=embedded(place, "ijepa")), place)
    assert pixels.metrics["target"] == "pixels" and usual.metrics["target"] == "embeddings"
    assert pixels.has("imagined") and not usual.has("imagined"), "pixels need no decoder"


def test_requests_that_can_not_be_met_are_told(place: Store) -> None:
    embeddings, other = embedded(place, "ijepa"), embedded(place, "mae")
    with pytest.raises(UserError, match="made from other embeddings"):
        Predict(embeddings=embeddings, decoder=decoded(place, other))
    for masking in ("half", "0,0,4,4", "9,9,1,1"):
        with pytest.raises(UserError, match="--masking"):
            make(Predict(embeddings=embeddings, masking=masking), place)
    assert not [a for a in place.artefacts() if a.stage == "predict"], "it is told before anything is made"
    with pytest.raises(UserError, match="learned no prediction"):
        images = Embeddings(embeddings).images.artefact
        make(Predict(embeddings=make(Extract(images=images, encoder="random:vit-16x1-h2-p4"), place)), place)


def test_the_page_shows_what_was_predicted(place: Store) -> None:
    embeddings = embedded(place, "mae")
    made = make(Predict(embeddings=embeddings), place)
    flat = make(Predict(embeddings=embedded(place, "ijepa", steps=0)), place)
    page = make(Report(artefacts=(made, flat)), place)
    text = page.folder.read("report.html").decode()
    assert "What the predictors foresee" in text and "own pixels" in text
    assert ("is flat" in text) == (flat.metrics["flat"] or made.metrics["flat"])
    worse = [p for p in (made, flat) if p.read_json("prediction.json")["r2"]["high"] < 0]
    assert worse and text.count("predicts worse than the training images") == len(worse)
    assert [row["encoder"] for row in page.read_json("table.json")["predictions"]] == ["mae", "ijepa untrained"]
    assert f"figures/foreseen-{made.short}.png" in page.folder.sums


# ---- conclusions, where the truth is known


@dataclass(frozen=True, kw_only=True)
class Told(Stage):
    """Predictions that are the truth, less a share of it, or those of another image."""

    kind: str = option("")

    def run(self, out: Artefact) -> None:
        rng = np.random.default_rng(0)
        of_image, of_place = rng.normal(size=(60, 1, 1, 8)), rng.normal(size=(1, 3, 3, 8))
        true = of_image + of_place + 0.3 * rng.normal(size=(60, 3, 3, 8))
        if self.kind == "collapsed":
            true = of_place + 0.01 * true
        said = {"another": np.roll(true, 1, 0), "half": of_place + 0.5 * (true - of_place)}.get(self.kind, true)
        for name, values in (("true", true), ("predicted", said)):
            out.create(name, values.shape, "float16").write(values.astype(np.float16))
        out.create("asked", true.shape[:3], "uint8").write(np.ones(true.shape[:3], np.uint8))
        flat = torch.from_numpy((true - of_place).reshape(-1, 8))
        mean = torch.from_numpy(of_place.reshape(9, 8)).float()
        truths = Truths(mean, whitening(flat.mT @ flat / len(flat)).float(), (0.0, 1.0))
        images = Images(make(Ingest(source="planted", count=60, size=16), Store(out.root)))
        out.write_json("found.json", prediction_figures(out, truths, images, np.arange(60), 0))


def test_conclusions_are_those_of_the_truth(place: Store) -> None:
    found = {
        kind: make(Told(kind=kind), place).read_json("found.json") for kind in ("true", "half", "another", "collapsed")
    }
    assert found["true"]["r2"]["value"] == pytest.approx(1) and found["true"]["auc"]["value"] == 1
    assert found["half"]["r2"]["value"] == pytest.approx(0.75, abs=0.01) and found["half"]["auc"]["low"] > 0.8
    assert found["another"]["flat"] and found["another"]["auc"]["low"] <= 0.5 and found["another"]["r2"]["high"] < 0
    assert not found["true"]["flat"] and not found["half"]["flat"]
    assert [found[kind]["collapsed"] for kind in found] == [False, False, False, True]
