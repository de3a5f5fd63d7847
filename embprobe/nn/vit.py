"""Vision transformers of timm: built from a JSON-able configuration, and read out token by token."""

from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from embprobe.errors import UserError
from embprobe.nn.layers import sin_cos_positions
from embprobe.nn.weights import uses_fc_norm

ViTConfig = dict[str, Any]  # Any: keyword arguments of timm

LARGEST = 16_384
HEADLESS: ViTConfig = {"num_classes": 0, "class_token": False, "global_pool": "avg", "fc_norm": False}


def vit_config(size: tuple[int, int], patch: int, width: int, depth: int, heads: int, channels: int = 3) -> ViTConfig:
    """A ViT without class token, by its sizes. Raises UserError for sizes that can't be."""
    if min(patch, width, depth, heads) < 1 or max(patch, width, depth) > LARGEST:
        raise UserError(f"a ViT of width {width}, depth {depth}, {heads} heads and patch {patch} can't be; see --help")
    if any(side % patch for side in size):
        shown = size[0] if size[0] == size[1] else f"{size[0]}×{size[1]}"
        raise UserError(f"--patch {patch} does not divide the image size {shown}; choose one that does")
    if width % heads:
        raise UserError(f"--heads {heads} does not divide --width {width}; choose one that does")
    sizes = {"img_size": list(size), "patch_size": patch, "embed_dim": width, "depth": depth, "num_heads": heads}
    return {**sizes, "in_chans": channels, **HEADLESS}


def build_vit(config: ViTConfig) -> VisionTransformer:
    """The untrained network; drawn from the global generator. A key `name` names a model of timm."""
    arguments = dict(config)
    name = arguments.pop("name", None)
    if name is None:
        return VisionTransformer(**arguments)
    import timm

    network = timm.create_model(name, pretrained=False, **arguments)
    if not isinstance(network, VisionTransformer):
        raise UserError(f"timm:{name} is no VisionTransformer; pretrain needs one")
    return network


class PatchTokens(nn.Module):
    """Standardised images (B,C,H,W) to the patch tokens (B,L,D) of a timm ViT after its final norm.

    Class and register tokens are dropped. `blocks` count from 1, and None is the last; the tokens of several are side by
    side (B,L,D·n), or averaged if `mean`.
    """

    def __init__(self, vit: nn.Module, blocks: tuple[int, ...] | None = None, *, mean: bool = False) -> None:
        super().__init__()
        self.vit, self.blocks, self.mean = vit, blocks, mean

    def forward(self, images_BCHW: Tensor) -> Tensor:
        if self.blocks is None:
            prefix = int(getattr(self.vit, "num_prefix_tokens", 0))
            every = [self.vit.forward_features(images_BCHW)[:, prefix:]]  # type: ignore[operator]
        else:
            every = self.vit.forward_intermediates(  # type: ignore[operator]
                images_BCHW, indices=[b - 1 for b in self.blocks], norm=True, output_fmt="NLC", intermediates_only=True
            )
        if uses_fc_norm(self.vit):
            every = [self.vit.fc_norm(tokens) for tokens in every]  # type: ignore[operator]
        return combined(every, mean=self.mean)


def combined(tokens: list[Tensor], *, mean: bool) -> Tensor:
    """Tokens (B,L,D) of several blocks side by side (B,L,D·n), or their mean (B,L,D)."""
    return torch.stack(tokens).mean(0) if mean else tokens[0] if len(tokens) == 1 else torch.cat(tokens, -1)


def set_positions(vit: VisionTransformer) -> tuple[tuple[int, int], int]:
    """Makes the positions the sine-cosine ones, which never train (He et al. 2022, appendix A); returns (grid, width)."""
    assert vit.pos_embed is not None
    height, width = vit.patch_embed.grid_size
    with torch.no_grad():
        vit.pos_embed.copy_(sin_cos_positions((height, width), vit.embed_dim)[None])
    vit.pos_embed.requires_grad_(False)
    return (height, width), vit.embed_dim


def takes_any_patches(vit: nn.Module) -> bool:
    """Whether a network is a plain ViT, which can be run on some of the patches: positions, at most a class token."""
    return (
        isinstance(vit, VisionTransformer)
        and vit.pos_embed is not None
        and vit.num_prefix_tokens == (vit.cls_token is not None)
        and not vit.no_embed_class
        and isinstance(vit.norm_pre, nn.Identity)
        and not isinstance(vit.norm, nn.Identity)
    )


def embed_patches(vit: VisionTransformer, images: Tensor) -> Tensor:
    """Patch tokens with positions, (B,L,D), of standardised images."""
    assert vit.pos_embed is not None
    embedded: Tensor = vit.patch_embed(images) + vit.pos_embed[:, vit.num_prefix_tokens :]
    return embedded


def run_blocks(vit: VisionTransformer, tokens: Tensor) -> Tensor:
    """All blocks and the final norm, of any of the patch tokens; a class token comes first where the network has one."""
    if vit.cls_token is not None and vit.pos_embed is not None:
        first = vit.cls_token + vit.pos_embed[:, :1]
        tokens = torch.cat([first.expand(len(tokens), -1, -1), tokens], 1)
    for block in vit.blocks:
        tokens = block(tokens)
    normed: Tensor = vit.norm(tokens)
    return normed
