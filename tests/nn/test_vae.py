"""The VAE against the closed form of the linear case."""

import pytest
import torch

from embprobe.nn.vae import VAE, Explained, Kind, components, kl


def correlated(count: int, width: int = 12, side: int = 2) -> torch.Tensor:
    """Patches (count, side, side, width), standardised, with a falling spectrum."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(width, width, generator=generator) * torch.linspace(1, 0.05, width)
    x = torch.randn(count, side, side, width, generator=generator) @ mix.T
    return (x - x.mean((0, 1, 2))) / x.std((0, 1, 2))


def covariance(x: torch.Tensor) -> torch.Tensor:
    rows = x.reshape(-1, x.shape[-1]).double()
    return rows.T @ rows / len(rows)


@torch.no_grad()
def r2(vae: VAE, x: torch.Tensor) -> float:
    mean, _ = vae.encode(x)
    return 1 - ((vae.decode_standardised(mean) - x).square().sum() / x.square().sum()).item()


@pytest.mark.parametrize("kind", ["linear", "attention"])
def test_the_pca_start_is_within_0_02_of_pca(kind: Kind) -> None:
    x = correlated(2000)
    vae = VAE((2, 2), 12, 4, kind, 0.05)
    vae.start_from_pca(covariance(x))
    values = torch.linalg.eigvalsh(covariance(x))
    baseline = float(values[-4:].sum() / values.sum())
    assert baseline - 0.02 < r2(vae, x) <= baseline + 1e-6


def noise_for(x: torch.Tensor, channels: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*x.shape[:-1], channels, generator=torch.Generator().manual_seed(seed))


def test_the_pca_start_is_the_optimum_of_the_linear_vae() -> None:
    x = correlated(2000)
    vae = VAE((2, 2), 12, 4, "linear", 0.5)
    vae.start_from_pca(covariance(x))
    gradients = []
    for draw in range(30):
        vae.zero_grad()
        vae.loss(x, noise_for(x, 4, draw))[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in vae.parameters() if p.grad is not None]))
    mean, error = torch.stack(gradients).mean(0), torch.stack(gradients).std(0) / 30**0.5
    assert (mean.abs() < 6 * error + 5e-2).all()


def test_the_loss_sums_over_the_image() -> None:
    x = correlated(64)
    vae = VAE((2, 2), 12, 4, "linear", 0.5)
    loss, error, divergence = vae.loss(x, noise_for(x, 4))
    torch.testing.assert_close(loss, error + 0.5 * divergence)
    with torch.no_grad():
        vae.to_embedding.weight.zero_()
        vae.to_embedding.bias.zero_()
    _, error, _ = vae.loss(x, noise_for(x, 4))
    torch.testing.assert_close(error, x.square().sum() / 64)


def test_kl_is_that_of_torch() -> None:
    mean, logvar = torch.randn(2, 50)
    posterior = torch.distributions.Normal(mean, (logvar / 2).exp())
    reference = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(kl(mean, logvar), reference, rtol=1e-4, atol=1e-5)


def test_decoding_returns_to_the_encoders_units() -> None:
    x = correlated(500)
    raw = x * 7 + 3
    vae = VAE((2, 2), 12, 12, "linear", 1e-6)
    vae.mean.fill_(3.0)
    vae.std.fill_(7.0)
    vae.start_from_pca(covariance(x))
    torch.testing.assert_close(vae.decode(vae.encode(raw)[0]), raw, atol=1e-2, rtol=1e-2)


def test_the_pca_start_of_raw_patches_has_their_mean_in_its_biases() -> None:
    raw = correlated(500) * 7 + 3
    centred = (raw - raw.mean((0, 1, 2))).reshape(-1, 12).double()
    vae = VAE((2, 2), 12, 12, "linear", 1e-6)
    vae.start_from_pca(centred.T @ centred / len(centred), raw.mean((0, 1, 2)))
    torch.testing.assert_close(vae.decode(vae.encode(raw)[0]), raw, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(vae.encode(raw)[0].mean((0, 1, 2)), torch.zeros(12), atol=1e-4, rtol=0)


def test_the_linear_kind_is_one_convolution_each_way() -> None:
    assert sum(p.numel() for p in VAE((16, 16), 1280, 16, "linear", 0.05).parameters()) == 1281 * 32 + 17 * 1280


def test_attention_mixes_patches_once_trained_and_linear_never() -> None:
    for kind, mixes in (("linear", False), ("attention", True)):
        torch.manual_seed(0)
        vae = VAE((2, 2), 12, 4, kind, 0.05)  # type: ignore[arg-type]
        for parameter in vae.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        x = torch.randn(1, 2, 2, 12)
        moved = x.clone()
        moved[0, 0, 0] = torch.randn(12)
        unlike = (vae.encode(x)[0] - vae.encode(moved)[0]).abs().amax((0, 3)) > 1e-6
        assert bool(unlike[1, 1]) is mixes


@pytest.mark.parametrize("kind", ["linear", "attention"])
@pytest.mark.parametrize("grid", [(3, 5), (6,), (2, 3, 2)])
def test_any_grid_is_encoded_and_its_loss_sums_over_all_tokens(grid: tuple[int, ...], kind: Kind) -> None:
    torch.manual_seed(0)
    vae, x = VAE(grid, 12, 4, kind, 0.5), torch.randn(3, *grid, 12)
    mean, logvar = vae.encode(x)
    assert mean.shape == logvar.shape == (3, *grid, 4) and vae.decode(mean).shape == x.shape
    _, _, divergence = vae.loss(x, noise_for(x, 4))
    torch.testing.assert_close(divergence, kl(mean, logvar).sum() / 3)


def test_explained_variance_of_the_first_components_is_their_share() -> None:
    x = correlated(500)
    axes = components(covariance(x), 4).float()
    gathered = Explained(torch.full((12,), 3.0))
    for part in x.split(128):
        gathered.add(part, part @ axes @ axes.mT - part)
    values = torch.linalg.eigvalsh(covariance(x))
    standardised, raw = gathered.r2()
    assert standardised == pytest.approx(float(values[-4:].sum() / values.sum()), abs=1e-5)
    assert raw == pytest.approx(standardised)  # one std for all channels
