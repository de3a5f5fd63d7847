"""What every encoder is once it is loaded: a frozen function from images to patch tokens, with its own preprocessing."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from embprobe.encoders.layers import Words, as_asked, chosen_layers
from embprobe.errors import UserError
from embprobe.nn.vit import PatchTokens
from embprobe.nn.weights import Use, heads_of, uses_fc_norm
from embprobe.pixels import patchify, preprocess

Facts = dict[str, Any]  # Any: JSON for the manifest
Statistics = tuple[tuple[float, ...], tuple[float, ...]]


@dataclass
class Encoder:
    """A frozen function from u8 images to patch tokens; the facts go to the manifest."""

    network: nn.Module  # standardised images (B,C,*size) → patch tokens (B,L,width) after the final norm
    size: tuple[int, int]  # height and width of its input in pixels
    patch: int
    width: int
    grid: tuple[int, ...]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    interpolation: str = "bicubic"
    facts: Facts = field(default_factory=dict)
    statistics: tuple[Tensor, Tensor] | None = None  # mean and std (C,) on the network's device
    trained_grid: tuple[int, ...] | None = None  # where its positions were resampled from another grid

    @torch.no_grad()
    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """u8 images (B,H,W,C) of any size → patch tokens (B,*grid,D)."""
        mean, std = self.statistics or (self.mean, self.std)
        tokens: Tensor = self.network(preprocess(images_BHWC, self.size, mean, std, self.interpolation))
        return tokens.reshape(len(tokens), *self.grid, -1)

    def to(self, device: str) -> "Encoder":
        """Moves the network, and what images are normalised by."""
        self.network.to(device)
        self.statistics = torch.tensor(self.mean, device=device), torch.tensor(self.std, device=device)
        return self

    def at(self, side: int) -> "Encoder":
        """With images entering at another side than it was trained at: positions are resampled, by timm.

        Raises UserError where it can't be: no ViT of timm's with positions on a grid, or patches that don't divide the side.
        """
        vit = getattr(self.network, "vit", None)
        if side % self.patch:
            raise UserError(f"--resolution {side} can't be cut into patches of {self.patch}; give a multiple")
        if getattr(vit, "pos_embed", None) is None or not hasattr(vit, "set_input_size"):
            raise UserError(
                "--resolution has no meaning with an encoder whose positions can't be resampled; leave it out"
            )
        vit.set_input_size(img_size=(side, side))  # type: ignore[union-attr, operator]
        grid = (side // self.patch,) * 2
        return replace(self, size=(side, side), grid=grid, trained_grid=self.grid)

    def narrowed(self) -> "Encoder":
        """With the weights that bf16 autocast would round at every pass rounded once; the tokens are the same."""
        for module in self.network.modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)):
                module.bfloat16()
        return self


@dataclass(frozen=True)
class Given:
    """What the user knows of an encoder that its name and its file do not tell; None leaves it to them."""

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    heads: int | None = None
    input_size: int | None = None  # side in pixels
    use: Use | None = None  # which of I-JEPA's encoders
    resolution: int | None = None  # side in pixels, for which positions are resampled

    @property
    def statistics(self) -> Statistics | None:
        """Mean and std, where both are given."""
        return (self.mean, self.std) if self.mean and self.std else None


class PatchPixels(nn.Module):
    """Images (B,C,H,W) to the pixels of their patches (B,L,patch²·C)."""

    def __init__(self, patch: int) -> None:
        super().__init__()
        self.patch = patch

    def forward(self, images_BCHW: Tensor) -> Tensor:
        return patchify(images_BCHW, self.patch)


def of_vit(
    vit: nn.Module,
    size: tuple[int, int],
    statistics: Statistics,
    interpolation: str,
    facts: Facts,
    layer: Words,
) -> Encoder:
    """A ViT in timm's form as an encoder.

    Raises UserError for a network without a grid of tokens, and for layers that it does not have.
    """
    if not hasattr(vit, "blocks") or not hasattr(vit, "forward_intermediates"):
        raise UserError("this timm model has no transformer blocks; embprobe needs a ViT (timm:vit_…)")
    depth = len(vit.blocks)  # type: ignore[arg-type]
    layers = chosen_layers(layer, depth)
    side = vit.patch_embed.patch_size  # type: ignore[union-attr]
    patch = int(side[0] if isinstance(side, (tuple, list)) else side)  # type: ignore[arg-type, index]
    how = interpolation if interpolation in ("bilinear", "bicubic") else "bicubic"
    facts |= {"norm": "fc_norm, on each token" if uses_fc_norm(vit) else "norm", "layer": as_asked(layer) or depth}
    facts |= {"heads": heads_of(vit)}
    width = int(vit.embed_dim) * (layers.wide if layers else 1)  # type: ignore[arg-type]
    tokens = PatchTokens(vit, layers.blocks if layers else None, mean=layers is not None and layers.mean)
    return Encoder(tokens, size, patch, width, (size[0] // patch, size[1] // patch), *statistics, how, facts=facts)
