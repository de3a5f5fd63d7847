"""One small task of every kind, and batches for it."""

import torch
from timm.models.vision_transformer import VisionTransformer

from embprobe.nn.classifier import Classifier
from embprobe.nn.decoder import DecoderTask, Losses, PixelDecoder
from embprobe.nn.denoiser import DenoiserConfig, DenoiserTask
from embprobe.nn.ijepa import IJEPA
from embprobe.nn.mae import MAE
from embprobe.nn.vae import VAE, VAETask
from embprobe.nn.vit import build_vit, vit_config
from embprobe.training.task import Task


def denoiser(network: str, objective: str, dropout: float = 0.0) -> Task:
    grid = (4, 4) if network == "dit" else (5, 6)
    described = DenoiserConfig(
        network, 3, grid, 32 if network == "dit" else 16, (1, 2, 2), 2, "time", 3, dropout, objective, 1.0  # type: ignore[arg-type]
    )  # fmt: skip
    return DenoiserTask(
        described, rate=1e-3, beta_2=0.95, norm="l2", min_snr=None, condition_dropout=0.5, resident=None
    )


def decoder(size: tuple[int, int], gan_start: int | None) -> Task:
    network = PixelDecoder(3, (4, 4), size, width=8)
    return DecoderTask(network, Losses(gan_start=gan_start, gan_width=4), rate=1e-3, noise=0.1)


def vit() -> VisionTransformer:
    return build_vit(vit_config((32, 32), 4, 16, 2, 2, 3))


TASKS = {
    "dit": lambda: denoiser("dit", "flow", 0.2),
    "unet": lambda: denoiser("unet", "epsilon"),
    "velocity": lambda: denoiser("dit", "v"),
    "decoder": lambda: decoder((32, 32), None),
    "adversarial": lambda: decoder((28, 20), 1),
    "vae": lambda: VAETask(VAE((4, 4), 12, 3, "attention", 0.1), 1e-3),
    "mae": lambda: MAE(vit(), 1e-3, width=8, depth=1),
    "ijepa": lambda: IJEPA(vit(), 1e-3, 100, width=8, depth=1),
    "classifier": lambda: Classifier((3,), 1e-3, True),
}


def batches(name: str, step: int) -> dict[str, torch.Tensor]:
    seeds = torch.Generator().manual_seed(step)
    images = torch.randint(0, 256, (8, 32, 32, 3), generator=seeds).to(torch.uint8)
    label = torch.randint(0, 3, (8,), generator=seeds)
    if name in ("dit", "velocity", "unet"):
        grid = (5, 6) if name == "unet" else (4, 4)
        return {"latents": torch.randn(8, *grid, 3, generator=seeds), "condition": label}
    if name in ("decoder", "adversarial"):
        return {"latents": torch.randn(8, 4, 4, 3, generator=seeds), "images": images}
    if name == "vae":
        return {"embeddings": torch.randn(8, 4, 4, 12, generator=seeds)}
    return {"images": images} | ({"label": label} if name == "classifier" else {})
