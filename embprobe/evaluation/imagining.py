"""From tokens back to pixels: what a predictor imagines of hidden patches."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from embprobe.encoders.predicting import Predicting
from embprobe.evaluation.truths import Truths
from embprobe.metrics.energies import gain
from embprobe.nn.decoder import PixelDecoder
from embprobe.nn.vae import VAE
from embprobe.nn.weights import restored
from embprobe.pixels import patchify, to_signed, to_u8, unpatchify
from embprobe.store import Artefact, Json
from embprobe.views import Decoder, Images, blocks

NAMES = ("imagined", "decoded", "blank")
"""The pictures: hidden patches as predicted, as they are, and as the mean predictor has them; the others as they are."""
BATCH = 64  # images compared at a time


@dataclass(frozen=True)
class Imagining:
    """What draws them, u8 (B,H,W,C), from standardised images, predictions, truths (B,L,P) and hidden places (B,L)."""

    size: tuple[int, int]
    patches: Callable[[Tensor, Tensor, Tensor, Tensor], list[Tensor]]

    def __call__(self, x_BCHW: Tensor, said: Tensor, hidden_BL: Tensor, truths: Truths) -> list[np.ndarray]:
        """Of one batch, in the order of NAMES."""
        mean = truths.mean_LP.to(said).expand_as(said)
        return [image.cpu().numpy() for image in self.patches(x_BCHW, said, mean, hidden_BL)]


def pictures_of(predicting: Predicting, truths: Truths, decoder: Decoder | None, device: str) -> Imagining | None:
    """Through the VAE and the decoder where embeddings are predicted; None without a decoder. Pixels are their own."""
    if predicting.target == "pixels":
        return Imagining(predicting.encoder.size, _own_pixels(predicting))
    return None if decoder is None else _decoded(predicting, truths, decoder, device)


def _decoded(predicting: Predicting, truths: Truths, decoder: Decoder, device: str) -> Imagining:
    latents = decoder.latents
    options, grid, width = latents.artefact.options, latents.embeddings.grid, latents.embeddings.width
    facts = {name: options[name] for name in ("channels", "kind", "kl_weight")}
    vae = restored(lambda told: VAE(grid, width, **told), facts, latents.artefact.weights())
    pixels = restored(lambda told: PixelDecoder(**told), decoder.facts["network"], decoder.weights())
    for network in (vae, pixels):
        network.to(device).eval().requires_grad_(False)
    level, spread = truths.level

    def image(tokens_BLD: Tensor) -> Tensor:
        """Through the posterior's mean."""
        mean = vae.encode(tokens_BLD.reshape(len(tokens_BLD), *grid, -1))[0]
        normalised = decoder.scale.normalised(mean.cpu().numpy())
        return to_u8(pixels(torch.from_numpy(normalised).to(device)))

    @torch.no_grad()
    def patches(x: Tensor, said: Tensor, mean: Tensor, hidden: Tensor) -> list[Tensor]:
        tokens, there = predicting.encoder.network(x), hidden[..., None]
        return [
            image(torch.where(there, said * spread + level, tokens)),
            image(tokens),
            image(torch.where(there, mean * spread + level, tokens)),
        ]

    return Imagining(pixels.size, patches)


def _own_pixels(predicting: Predicting) -> "Callable[[Tensor, Tensor, Tensor, Tensor], list[Tensor]]":
    """Predicted patches at each true patch's own mean and std, as MAE's authors show them."""
    encoder = predicting.encoder

    def image(patches_BLP: Tensor) -> Tensor:
        pixels = unpatchify(patches_BLP, encoder.patch, encoder.grid)
        mean, std = (torch.tensor(v)[:, None, None].to(pixels) for v in (encoder.mean, encoder.std))
        return to_u8((pixels * std + mean) * 2 - 1)

    def patches(x: Tensor, said: Tensor, mean: Tensor, hidden: Tensor) -> list[Tensor]:
        true, there = patchify(x, encoder.patch), hidden[..., None]
        level, spread = true.mean(-1, keepdim=True), (true.var(-1, keepdim=True) + 1e-6).sqrt()
        return [
            image(torch.where(there, said * spread + level, true)),
            image(true),
            image(torch.where(there, mean * spread + level, true)),
        ]

    return patches


def imagined_fidelity(out: Artefact, images: Images, rows: np.ndarray) -> dict[str, Json]:
    """By how many dB hidden patches are nearer to the real pixels as imagined than as the mean predictor has them, and the
    PSNR in dB of all three pictures there; nothing where no pictures were drawn."""
    if not out.begun_array(NAMES[0]):
        return {}
    errors = {name: torch.zeros(len(rows), dtype=torch.float64) for name in NAMES}
    pixels = 0.0
    places = np.arange(len(rows))
    for at in blocks(places, BATCH):
        real = torch.from_numpy(images.array.take(rows[at]))
        hidden = torch.from_numpy(out.array("asked").take(at) > 0)
        for name, sums in errors.items():
            made = torch.from_numpy(out.array(name).take(at))
            sums[torch.from_numpy(at)], counted = patch_errors(made, real, hidden)
        pixels += counted
    psnr = {name: -10 * math.log10(max(float(sums.sum()) / pixels, 1e-12)) for name, sums in errors.items()}
    return {"gain_db": gain(errors["imagined"], errors["blank"]).json(), "psnr": psnr}


def patch_errors(made_BHWC: Tensor, real_BHWC: Tensor, hidden: Tensor) -> tuple[Tensor, float]:
    """Squared error in units of white, summed over the values of the hidden patches (B,h,w) of each image, f64 (B,), and
    how many values these are; real images are brought to the size of those that were made."""
    _, height, width, channels = made_BHWC.shape
    real = (to_signed(real_BHWC, (height, width)) + 1) / 2
    apart = (made_BHWC.permute(0, 3, 1, 2).double() / 255 - real.double()).square().sum(1)
    rows = torch.arange(height) * hidden.shape[1] // height
    columns = torch.arange(width) * hidden.shape[2] // width
    there = hidden[:, rows[:, None], columns[None, :]]
    return (apart * there).sum((1, 2)), float(there.sum()) * channels
