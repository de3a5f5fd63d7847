"""Probe: classes, pixels and planted factors read back, each against what must come out."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.metrics.probes import Normal, explained, kernel_predictions, linear_probe, nearest_votes, tuned_ridge
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.probe import Probe
from embprobe.store import Artefact, Store
from tests.stages.conftest import outputs


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    store = Store(tmp_path_factory.mktemp("probe"))
    return make(Ingest(source="planted", count=240, size=32, val_share=0.25), store)


@pytest.fixture(scope="module")
def embeddings(planted: Artefact) -> Artefact:
    return make(Extract(images=planted, encoder="pixels:8", device="cpu"), Store(planted.root))


@pytest.fixture(scope="module")
def probed(embeddings: Artefact) -> Artefact:
    return make(Probe(embeddings=embeddings, k=5, device="cpu"), Store(embeddings.root))


def test_pixels_are_read_whole_from_pixels(probed: Artefact) -> None:
    found = probed.read_json("probe.json")
    assert found["pixel_r2"]["value"] > 0.9999
    assert set(found["factors"]) >= {"creature", "x", "hue", "texture"}
    assert found["protocol"]["train"] + found["protocol"]["held_out"] == 240


def test_pooling_hides_position(probed: Artefact) -> None:
    factors = probed.read_json("probe.json")["factors"]
    for name in ("ground_hue", "hue"):
        assert factors[name]["kind"] == "circular"
    assert factors["ground_hue"]["grid"]["value"] > 0.5
    assert factors["x"]["grid"]["value"] > factors["x"]["pooled"]["value"] + 0.2
    for fact in factors.values():
        for where in ("pooled", "grid"):
            assert fact[where]["low"] <= fact[where]["value"] <= fact[where]["high"]


def test_the_mean_colour_tells_the_class_of_coloured_images(
    store: Store, planted: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = planted.array("label").read()
    images = planted.array("images").read() // 4
    images[np.arange(240), :, :, label % 3] += 120
    rows = {"images": images, "label": (label % 3).astype(np.int32), "split": planted.array("split").read()}

    def run(self: Ingest, out: Artefact) -> None:
        for name, values in rows.items():
            out.create(name, values.shape, str(values.dtype)).write(values)
        out.write_json("classes.json", ["b", "g", "r"])
        out.note(count=240, size=32, splits=planted.metrics["splits"])

    monkeypatch.setattr(Ingest, "run", run)
    embeddings = make(Extract(images=make(Ingest(source="planted", seed=1), store), encoder="pixels:8"), store)
    found = make(Probe(embeddings=embeddings), store).read_json("probe.json")
    assert found["linear"]["value"] > 0.95 and found["knn"]["value"] > 0.95
    assert 1 / 3 <= found["linear"]["chance"] < 0.6 and "factors" not in found


def test_unlabelled_images_have_no_accuracy(store: Store, tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    (tmp_path / "flat").mkdir()
    for i in range(40):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(tmp_path / "flat" / f"{i}.png")
    images = make(Ingest(source=str(tmp_path / "flat"), size=16, val_share=0.25), store)
    embeddings = make(Extract(images=images, encoder="random:vit-16x1-h2-p8", device="cpu"), store)
    out = make(Probe(embeddings=embeddings), store)
    assert set(out.read_json("probe.json")) == {"protocol", "pixel_r2"} and set(out.metrics) == {"pixel_r2"}


def test_asked_again_costs_nothing_and_a_repeat_is_bit_equal(
    probed: Artefact, embeddings: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Probe(embeddings=embeddings, k=5)
    copy = Store(probed.root.parent / "again")
    assert outputs(make(stage, copy)) == outputs(probed)
    monkeypatch.setattr(Probe, "run", lambda *_: pytest.fail("it ran again"))
    assert make(stage, Store(probed.root)) == probed


def test_stopped_and_continued_equals_whole(embeddings: Artefact, probed: Artefact, killed, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    part = killed(Probe(embeddings=embeddings, k=5), Store(tmp_path / "other"), 1)
    assert outputs(part) == outputs(probed) and part.metrics == probed.metrics


def test_too_few_images_are_the_users_mistake(store: Store) -> None:
    images = make(Ingest(source="planted", count=20, size=16, val_share=0.0), store)
    embeddings = make(Extract(images=images, encoder="pixels:8"), store)
    with pytest.raises(UserError, match="0 held-out images"):
        make(Probe(embeddings=embeddings), store)


# ---- the maths, against closed forms and scikit-learn


def test_streamed_ridge_is_ridge() -> None:
    from sklearn.linear_model import Ridge

    torch.manual_seed(0)
    x, y = torch.randn(200, 6) + 3, torch.randn(200, 2)
    sums = [Normal(6, 2, "cpu"), Normal(6, 2, "cpu")]
    for start in range(0, 180, 60):
        sums[0].add(x[start : start + 60], y[start : start + 60])
    sums[1].add(x[180:], y[180:])
    weight, bias, strength = tuned_ridge(*sums)
    centred = (x - x.mean(0)).double()
    alpha = strength * float(centred.square().sum(0).mean())
    reference = Ridge(alpha=alpha).fit(x.double().numpy(), y.double().numpy())
    np.testing.assert_allclose(weight.T.numpy(), reference.coef_, atol=1e-6)
    np.testing.assert_allclose(bias.numpy(), reference.intercept_, atol=1e-6)
    away = (x[180:].double() @ weight + bias - y[180:]).square().sum()
    assert sums[1].error(weight, bias) == pytest.approx(float(away), rel=1e-9)


def test_kernel_ridge_is_ridge() -> None:
    from sklearn.linear_model import RidgeCV

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(120, 5, generator=generator, dtype=torch.float64) + 1
    y = x @ torch.randn(5, 2, generator=generator, dtype=torch.float64) + 7
    tune = torch.arange(100) % 10 == 9
    found = kernel_predictions(x[:100] @ x[:100].T, x[100:] @ x[:100].T, y[:100], tune, [slice(0, 1), slice(1, 2)])
    reference = RidgeCV(alphas=[1e-5]).fit(x[:100].numpy(), y[:100].numpy()).predict(x[100:].numpy())
    np.testing.assert_allclose(found.numpy(), reference, atol=1e-3)


def test_r2_is_one_less_error_over_spread() -> None:
    from sklearn.metrics import r2_score

    torch.manual_seed(0)
    y = torch.randn(50, 3, dtype=torch.float64)
    read = y + 0.3 * torch.randn(50, 3)
    found = explained((read - y).square().sum(1), y.square().sum(1), y)
    spread = y.var(0, correction=0)
    expected = r2_score(y.numpy(), read.numpy(), multioutput=(spread / spread.sum()).numpy())
    assert found.value == pytest.approx(expected)
    constant = torch.ones(50, 1, dtype=torch.float64)
    assert math.isnan(explained(constant[:, 0], constant[:, 0], constant).value)


def test_the_linear_probe_matches_scikit_learn() -> None:
    from sklearn.linear_model import LogisticRegression

    torch.manual_seed(0)
    label = torch.arange(300) % 3
    x = torch.randn(300, 4) + torch.eye(3, 4)[label]
    probe, l2 = linear_probe(x, label, 3, torch.arange(300) % 10 == 9)
    reference = LogisticRegression(C=1 / (l2 * 300), tol=1e-8, max_iter=1000).fit(x.numpy(), label.numpy())
    assert float((probe(x).numpy() == reference.predict(x.numpy())).mean()) > 0.99


def test_neighbours_vote_by_cosine() -> None:
    x = torch.tensor([[1.0, 0.0], [9.0, 1.0], [0.0, 1.0], [0.1, 5.0], [0.0, -1.0]])
    label = torch.tensor([0, 0, 1, 1, 2])
    assert nearest_votes(x, label, torch.tensor([[100.0, 1.0], [0.01, 0.02]]), 2, 3).tolist() == [0, 1]
