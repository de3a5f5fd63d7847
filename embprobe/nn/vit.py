"""Vision transformers of timm, built from a JSON-able description, and what pretraining needs of them."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from embprobe.errors import UserError

Description = dict[str, Any]  # Any: keyword arguments of timm

HEADLESS: Description = {"num_classes": 0, "class_token": False, "global_pool": "avg", "fc_norm": False}


def describe(size: int, patch: int, width: int, depth: int, heads: int) -> Description:
    """A ViT without class token by its sizes. Raises UserError for sizes that can't be."""
    if size % patch:
        raise UserError(f"--patch {patch} does not divide the image size {size}; choose one that does")
    if width % heads:
        raise UserError(f"--heads {heads} does not divide --width {width}; choose one that does")
    return {"img_size": size, "patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads, **HEADLESS}


def build_vit(description: Description) -> VisionTransformer:
    """The untrained network; drawn from the global generator."""
    arguments = dict(description)
    name = arguments.pop("name", None)
    if name is None:
        return VisionTransformer(**arguments)
    import timm

    network = timm.create_model(name, pretrained=False, **arguments)
    if not isinstance(network, VisionTransformer):
        raise UserError(f"timm:{name} is no VisionTransformer; pretrain needs one")
    return network


def sincos_positions(grid: int, width: int) -> Tensor:
    """Fixed 2-D sine-cosine positions, (grid², width); He et al. 2022, appendix A."""
    omega = 1.0 / 10000 ** (torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    line = torch.arange(grid, dtype=torch.float64)[:, None] * omega
    waves = torch.cat([line.sin(), line.cos()], 1)  # (grid, width/2)
    rows = waves[:, None, :].expand(grid, grid, -1)
    columns = waves[None, :, :].expand(grid, grid, -1)
    positions = torch.cat([rows, columns], -1).reshape(grid * grid, -1).float()
    return nn.functional.pad(positions, (0, width - positions.shape[1]))


def set_positions(vit: VisionTransformer) -> tuple[int, int]:
    """Starts the positions from the fixed sine-cosine ones; returns (tokens, width)."""
    assert vit.pos_embed is not None
    length, width = vit.pos_embed.shape[1:]
    with torch.no_grad():
        vit.pos_embed.copy_(sincos_positions(round(length**0.5), width)[None])
    return length, width


def gather(x_BLD: Tensor, index_BM: Tensor) -> Tensor:
    """Tokens by index, (B,M,D)."""
    return x_BLD.gather(1, index_BM[:, :, None].expand(-1, -1, x_BLD.shape[2]))


def embed_patches(vit: VisionTransformer, images: Tensor) -> Tensor:
    """Patch tokens with positions, (B,L,D)."""
    tokens = vit.patch_embed(images).flatten(1, -2) if images.ndim == 4 else images
    assert vit.pos_embed is not None
    embedded: Tensor = tokens + vit.pos_embed
    return embedded


def run_blocks(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """All blocks and the final norm."""
    for block in vit.blocks:
        tokens = block(tokens)
    normed: Tensor = vit.norm(tokens)
    return normed


def effective_rank(x_ND: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of centred features; Roy & Vetterli 2007."""
    values = torch.linalg.svdvals((x_ND - x_ND.mean(0)).float())
    share = values / values.sum().clamp_min(1e-12)
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


def random_crop(images: Tensor, low: float, flip: bool) -> Tensor:
    """Random resized crops, (B,3,S,S) → the same: area `low` to 1, aspect 3/4 to 4/3, bilinear; flipped if asked.

    Draws from the global generator.
    """
    count = images.shape[0]
    area = torch.empty(count).uniform_(low, 1.0)
    ratio = torch.exp(torch.empty(count).uniform_(-0.2877, 0.2877))
    wide, high = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    x, y = (torch.rand(count) * 2 - 1) * (1 - wide), (torch.rand(count) * 2 - 1) * (1 - high)
    side = torch.where(torch.rand(count) < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    zero = torch.zeros(count)
    theta = torch.stack([torch.stack([wide * side, zero, x], 1), torch.stack([zero, high, y], 1)], 1)
    grid = nn.functional.affine_grid(theta.to(images), list(images.shape), align_corners=False)
    return nn.functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)


def pixels(images_BHWC: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """u8 images → normalised f32 (B,3,H,W)."""
    scaled = images_BHWC.permute(0, 3, 1, 2).float() / 255
    return (scaled - scaled.new_tensor(mean)[:, None, None]) / scaled.new_tensor(std)[:, None, None]
