"""What a user would write instead of embprobe: plain loops, kept to how they are usually written."""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

MEAN, STD = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
FORWARD = 128

Batches = Iterable[Mapping[str, Tensor]]
Losses = Callable[[Mapping[str, Tensor]], Tensor]
Rate = Callable[[int], float]


# ---- extraction


def small_vit(seed: int) -> VisionTransformer:
    """embprobe's random:vit-128x6-h4-p8 at 64 px."""
    torch.manual_seed(seed)
    return VisionTransformer(
        img_size=64, patch_size=8, embed_dim=128, depth=6, num_heads=4,
        num_classes=0, class_token=False, global_pool="avg", fc_norm=False,
    ).eval()  # fmt: skip


def standardised(pixels_BHWC: np.ndarray) -> Tensor:
    return (torch.from_numpy(pixels_BHWC).permute(0, 3, 1, 2).float() / 255 - MEAN) / STD


def timm_loop(pixels: Path, seed: int, out: Path) -> None:
    """Tokens of all images in f16, by timm and np.save."""
    network, images, tokens = small_vit(seed), np.load(pixels), []
    with torch.no_grad():
        for start in range(0, len(images), FORWARD):
            batch = standardised(images[start : start + FORWARD])
            tokens.append(network.forward_features(batch).half().numpy())
    np.save(out, np.concatenate(tokens))


class Pixels(Dataset[Tensor]):
    """Standardised images, one by one."""

    def __init__(self, pixels: Path) -> None:
        self.images = np.load(pixels)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return standardised(self.images[index : index + 1])[0]


def thingsvision_loop(pixels: Path, seed: int, out: Path) -> None:
    """The same by thingsvision and np.save. Raises ImportError where thingsvision is not installed."""
    from thingsvision import get_extractor_from_model  # type: ignore[import-not-found]

    extractor = get_extractor_from_model(model=small_vit(seed), device="cpu", backend="pt")
    loader = DataLoader(Pixels(pixels), FORWARD)
    with contextlib.redirect_stdout(sys.stderr):
        tokens = extractor.extract_features(batches=loader, module_name="norm", flatten_acts=False)
    np.save(out, tokens.astype(np.float16))


# ---- training


class Rows(Dataset[Tensor]):
    """Latents, one by one."""

    def __init__(self, latents: np.ndarray) -> None:
        self.latents = latents

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(self.latents[index])


class CompVisLoop:
    """Latent diffusion's way: a DataLoader, q_sample by tables, clipping, AdamW, EMA over named_parameters one by one."""

    def __init__(self, network: nn.Module, latents: np.ndarray, batch: int, rate: float) -> None:
        self.network = network.train()
        self.shadow = {name: p.detach().clone() for name, p in network.named_parameters()}
        self.optimiser = torch.optim.AdamW(network.parameters(), rate, (0.9, 0.999), weight_decay=0.01)
        bar = torch.cumprod(1 - torch.linspace(0.0015**0.5, 0.0155**0.5, 1000, dtype=torch.float64) ** 2, 0)
        self.root_bar, self.root_rest = bar.sqrt().float(), (1 - bar).sqrt().float()
        self.loader = DataLoader(Rows(latents), batch, shuffle=True, num_workers=0, drop_last=True)
        self.batches = self.endless()
        self.updates = 0

    def endless(self) -> Iterator[Tensor]:
        while True:
            yield from self.loader

    def step(self, latents: Tensor | None = None, noise: Tensor | None = None, time: Tensor | None = None) -> float:
        """One step, on what is given in place of what would be drawn."""
        latents = next(self.batches) if latents is None else latents
        clean = latents.permute(0, 3, 1, 2).to(memory_format=torch.contiguous_format)
        t = torch.randint(0, 1000, (len(clean),)) if time is None else time.long()
        noise = torch.randn_like(clean) if noise is None else noise
        mixed = self.root_bar[t][:, None, None, None] * clean + self.root_rest[t][:, None, None, None] * noise
        loss = F.mse_loss(self.network(mixed, t), noise)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), 1.0)
        self.optimiser.step()
        self.average()
        return loss.item()

    @torch.no_grad()
    def average(self) -> None:
        share = 1 - min(0.999, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        for name, parameter in self.network.named_parameters():
            self.shadow[name].sub_(share * (self.shadow[name] - parameter))


def plain_loop(
    network: nn.Module, loss_of: Losses, optimiser: torch.optim.Optimizer, rate: Rate, batches: Batches, path: Path
) -> None:
    """Loss, gradient, step, a rate that changes, now and then a look at the loss; the weights in a file at the end."""
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    for step, batch in enumerate(batches):
        loss = loss_of(batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        scheduler.step()
        if step % 20 == 0:
            loss.item()
    torch.save(network.state_dict(), path)
