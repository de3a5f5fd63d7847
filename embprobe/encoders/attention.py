"""Where a ViT's last block looks: the softmax of its own forward pass, one image at a time."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from embprobe.encoders.folders import TransformersTokens
from embprobe.encoders.frozen import Encoder
from embprobe.nn.vit import PatchTokens
from embprobe.pixels import preprocess


def has_class_token(encoder: Encoder) -> bool:
    """Whether the network has a class token, whose attention is shown."""
    network = encoder.network
    if isinstance(network, TransformersTokens):
        return network.prefix > 0
    return isinstance(network, PatchTokens) and getattr(network.vit, "cls_token", None) is not None


@torch.no_grad()
def attention_maps(encoder: Encoder, images_BHWC: Tensor) -> Tensor | None:
    """Attention (B,*grid) in the last block that the tokens are of, as its mean over heads; on the CPU.

    It is what the class token pays to each patch; without one, what patches receive of all patches on average. None for
    networks without attention over all patches.
    """
    maps, count = [], math.prod(encoder.grid)
    for image in torch.split(images_BHWC, 1):
        weights_hNN = _weights(encoder, image)
        if weights_hNN is None or weights_hNN.shape[-1] < count:  # such as of windows, which are fewer than the patches
            return None
        prefix = weights_hNN.shape[-1] - count
        rows = weights_hNN[:, :1] if has_class_token(encoder) else weights_hNN[:, prefix:]
        maps.append(rows[..., prefix:].float().mean((0, 1)).reshape(encoder.grid).cpu())
    return torch.stack(maps)


def _weights(encoder: Encoder, image_1HWC: Tensor) -> Tensor | None:
    """The softmax (heads,N,N) of one image."""
    network = encoder.network
    mean, std = encoder.statistics or (encoder.mean, encoder.std)
    x = preprocess(image_1HWC, encoder.size, mean, std, encoder.interpolation)
    if isinstance(network, TransformersTokens):
        network.model.set_attn_implementation("eager")  # the others keep no softmax
        every = network.model(pixel_values=x, output_attentions=True).attentions
        block = network.layers.blocks[-1] - 1 if network.layers else -1
        return every[block][0] if every and every[block] is not None else None
    if isinstance(network, PatchTokens):
        blocks: Any = getattr(network.vit, "blocks", None)  # Any: timm's networks differ
        return _seen_by_dropout(network, blocks[network.blocks[-1] - 1 if network.blocks else -1], x)
    return None


def _seen_by_dropout(network: PatchTokens, block: nn.Module, x: Tensor) -> Tensor | None:
    """What goes into the dropout after a timm block's softmax, which every one of its kinds of attention has."""
    attention: Any = getattr(block, "attn", None)
    drop = getattr(attention, "attn_drop", None)
    if not isinstance(drop, nn.Module) or not hasattr(attention, "fused_attn"):
        return None
    seen: list[Tensor] = []
    hook = drop.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    fused, attention.fused_attn = attention.fused_attn, False
    try:
        network(x)
    finally:
        hook.remove()
        attention.fused_attn = fused
    return seen[0][0] if len(seen) == 1 and len(seen[0]) == 1 else None
