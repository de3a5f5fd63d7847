"""Every metric equals the public packages' on identical features, and Inception sees and gives what theirs does."""

from pathlib import Path

import cleanfid.inception_pytorch
import numpy as np
import prdc
import pytest
import torch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import make_resizer
from PIL import Image
from scipy import linalg
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import calculate_precision_recall_full

from embprobe.errors import UserError
from embprobe.evaluation.judges import inception_features
from embprobe.metrics.frechet import frechet_distance, moments
from embprobe.metrics.kernel import kernel_distance
from embprobe.metrics.manifold import compare_clouds, precision_recall
from embprobe.metrics.scores import inception_score


def features(count: int, width: int, seed: int, shift: float = 0.0) -> Tensor:
    """Positive, skewed and correlated, as a network's pooled features are; f64."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(width, width, generator=torch.Generator().manual_seed(7)).double() / width**0.5
    return (torch.randn(count, width, generator=generator).double() @ mix + shift).clamp_min(0) + 0.01


# ---- Fréchet distance


@pytest.mark.parametrize(("n", "m"), [(256, 300), (1000, 400)])
def test_frechet_at_twice_the_width_equals_torch_fidelity_and_scipy(n: int, m: int):
    x, y = features(n, 128, 0), features(m, 128, 1, 0.1)
    theirs = fid_statistics_to_metric(fid_features_to_statistics(x), fid_features_to_statistics(y), False)
    found = frechet_distance(x, y)
    assert found == pytest.approx(theirs["frechet_inception_distance"], rel=1e-6)
    (m1, c1), (m2, c2) = moments(x), moments(y)
    root = linalg.sqrtm((c1 @ c2).numpy())
    by_root = float((m1 - m2).square().sum() + c1.trace() + c2.trace()) - 2 * np.trace(root).real
    assert found == pytest.approx(by_root, rel=1e-6)


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 300), (130, 129)])
def test_frechet_of_few_samples_equals_torch_fidelity(n: int, m: int):
    x, y = features(n, 128, 0), features(m, 128, 1, 0.1)
    first, second = fid_features_to_statistics(x), fid_features_to_statistics(y)
    theirs = fid_statistics_to_metric(first, second, False)["frechet_inception_distance"]
    reach = 1e-6 * float(np.trace(first["sigma"]) + np.trace(second["sigma"]))
    assert frechet_distance(x, y) == pytest.approx(theirs, abs=reach)


# ---- kernel distance and score


def test_kernel_distance_on_the_same_subsets_equals_torch_fidelity():
    x, y = features(150, 48, 0), features(130, 48, 1, 0.3)
    settings = {"kid_subsets": 6, "kid_subset_size": 70, "rng_seed": 11, "verbose": False}
    poly = {
        "kid_kernel": "poly",
        "kid_kernel_poly_degree": 3,
        "kid_kernel_poly_gamma": None,
        "kid_kernel_poly_coef0": 1,
    }
    theirs = kid_features_to_metric(x, y, **settings, **poly)
    draw, values = np.random.RandomState(11), []
    for _ in range(6):
        rows, others = (torch.from_numpy(draw.choice(len(v), 70, replace=False)) for v in (x, y))
        values.append(kernel_distance(x[rows], y[others]))
    assert np.mean(values) == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-6)
    assert np.std(values) == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-6)


@pytest.mark.parametrize("scale", [0.1, 3.0, 300.0])
def test_the_score_equals_torch_fidelity(scale: float):
    logits = torch.randn(200, 30, generator=torch.Generator().manual_seed(0)) * scale
    theirs = isc_features_to_metric(logits, splits=1, shuffle=False)["inception_score_mean"]
    assert inception_score(logits.double().softmax(1)) == pytest.approx(theirs, rel=1e-6)


# ---- neighbourhoods


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("k", [3, 5])
def test_neighbourhoods_equal_torch_fidelity_and_prdc(k: int, ties: bool):
    """Counts are equal; a distance equal to a radius is inside for precision and recall, outside for density and coverage."""
    real, made = features(400, 6, 0), features(300, 6, 1, 0.1)
    if ties:
        real, made = (real * 2).round(), torch.cat([(made * 2).round()[:200], (real * 2).round()[:100]])
    found = compare_clouds(real, made, k)
    precision, recall = calculate_precision_recall_full(made, real, k)
    assert int(found.precise.sum()) == round(precision * len(made))
    assert int(found.recalled.sum()) == round(recall * len(real))
    theirs = prdc.compute_prdc(real.numpy(), made.numpy(), k)
    assert round(float(found.density.sum()) * k) == round(theirs["density"] * k * len(made))
    assert int(found.covered.sum()) == round(theirs["coverage"] * len(real))
    if ties:
        assert precision > theirs["precision"] + 0.05  # the conventions do differ here


def test_as_many_neighbours_as_samples_are_the_users_error():
    with pytest.raises(UserError, match="3 samples are too few for neighbourhoods of k = 3"):
        precision_recall(features(30, 4, 0), features(3, 4, 1), 3)


# ---- Inception, as clean-fid has it


class Seen(nn.Module):
    """Keeps what a network is given."""

    def forward(self, x: Tensor) -> Tensor:
        self.x = x
        return x.mean((2, 3))


@pytest.mark.parametrize("size", [(32, 32), (299, 299), (512, 400)])
def test_inception_is_given_the_pixels_of_clean_fids_resize(size: tuple[int, int]):
    images = np.random.default_rng(0).integers(0, 256, (2, *size, 3), np.uint8)
    network = Seen()
    inception_features(network, torch.from_numpy(images))
    resize = make_resizer("PIL", False, "bicubic", (299, 299))
    assert np.array_equal(network.x.permute(0, 2, 3, 1).numpy(), np.stack([resize(image) for image in images]))
    by_pillow = np.asarray(Image.fromarray(images[0, ..., 1].astype(np.float32), "F").resize((299, 299), Image.BICUBIC))
    assert np.array_equal(network.x[0, 1].numpy(), by_pillow.clip(0, 255))


def official_weights() -> dict[str, Tensor]:
    """Random weights under the names and in the shapes of the official file, so scaled that signals neither die nor grow."""
    torch.manual_seed(0)
    network = FeatureExtractorInceptionV3.__new__(FeatureExtractorInceptionV3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda self, state: None)
        patch.setattr(torch, "load", lambda *a, **k: {})
        network.__init__("random", ["2048"], feature_extractor_weights_path="none")  # type: ignore[misc]
    state = network.state_dict()
    for name, value in state.items():
        if value.ndim == 4:
            nn.init.kaiming_normal_(value, nonlinearity="relu")
        elif name.endswith("running_var"):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("running_mean", "bn.bias", "fc.bias")):
            value.normal_(0, 0.1)
    return state


class Official(nn.Module):
    """What clean-fid finds in the official TorchScript file: layers up to the pooled features, and the output's weights."""

    def __init__(self, inception: nn.Module) -> None:
        super().__init__()
        blocks = cleanfid.inception_pytorch.InceptionV3(resize_input=False, normalize_input=False)
        self.layers = nn.Sequential(*(layer for block in blocks.blocks for layer in block))
        self.output = inception.fc


@pytest.mark.filterwarnings("ignore::UserWarning:torchvision")
def test_inceptions_features_and_classes_equal_torch_fidelitys(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Random weights in the official key layout, images of Inception's own size, which neither package then resizes."""
    state = official_weights()
    torch.save(state, tmp_path / "official.pth")
    theirs = FeatureExtractorInceptionV3(
        "random", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(tmp_path / "official.pth")
    )
    monkeypatch.setattr(cleanfid.inception_pytorch, "load_state_dict_from_url", lambda *a, **k: state)
    monkeypatch.setattr(torch.jit, "load", lambda path: Official(theirs))
    network = InceptionV3W(str(tmp_path), download=False, resize_inside=False).eval()

    images = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 299, 299, 3), np.uint8))
    with torch.no_grad():
        expected, logits = theirs(images.permute(0, 3, 1, 2))
        found, probabilities = inception_features(network, images)
    assert found.shape == (2, 2048) and float(found.std()) > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
    assert probabilities is not None and probabilities.shape == (2, 1008)
    torch.testing.assert_close(probabilities, logits.softmax(1), rtol=1e-3, atol=1e-7)
