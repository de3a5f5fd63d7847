"""UNet denoiser over a grid of two axes, built from diffusers' blocks."""

from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from diffusers import UNet2DConditionModel, UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn

from embprobe.nn.text import TextEncoder

LEVELS = 3
Conditioning = Literal["time", "cross"]


class UNet(nn.Module):
    """Time-conditional UNet (Rombach et al. 2022) of three levels, with attention at some of them and in the middle.

    `attention` gives the downsamplings, of 1, 2 and 4, that have it; heads are 32 wide, or there is one head. The time
    embedding enters residual blocks as scale and shift of a norm (`scale_shift`), or is added.

    A condition is a class id (B,); id `classes` is the learned null class, and `classes` None is unconditional. It
    enters by its embedding, trained along: added to the time embedding (`time`), or of width 8 and read by
    cross-attention at the attention levels (`cross`). With `text` it is what that encoder takes, whose states they read.
    Sides that can't be halved twice are padded with zeros at the right and the bottom, and the prediction is cropped.
    Width 96 with multipliers 1-2-4 has 36.1 M parameters at d = 16; `cross` with 1-2-3, one head at 2 and 4 and no scale
    and shift has 35 133 136 and its class embedding: the published network's own.
    """

    def __init__(
        self,
        channels: int,
        *,
        width: int = 96,
        multipliers: tuple[int, int, int] = (1, 2, 4),
        classes: int | None = None,
        text: TextEncoder | None = None,
        conditioning: Conditioning = "time",
        attention: tuple[int, ...] = (1, 2),
        one_head: bool = False,
        scale_shift: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes, self.text = classes, text
        cross = text is not None or (conditioning == "cross" and classes is not None)
        has_attention = [2**level in attention for level in range(LEVELS)]
        common: dict[str, Any] = {
            "in_channels": channels,
            "out_channels": channels,
            "block_out_channels": tuple(width * m for m in multipliers),
            "down_block_types": [_block("Down", cross, has) for has in has_attention],
            "up_block_types": [_block("Up", cross, has) for has in reversed(has_attention)],
            "resnet_time_scale_shift": "scale_shift" if scale_shift else "default",
            "norm_num_groups": _groups(width),
            "dropout": dropout,
        }
        self.body: nn.Module
        if text is not None:
            self.body = _cross(text.width, one_head, **common)
        elif cross and classes is not None:
            self.embedding = nn.Embedding(classes + 1, 8)
            self.body = _cross(8, one_head, **common)
        else:
            self.body = _plain(classes, one_head, **common)
        _zero_residuals(self.body)

    def forward(self, z_BdHW: Tensor, time_B: Tensor, condition: Tensor | None = None) -> Tensor:
        """The prediction BdHW at times in [0, 1000]; a condition is needed exactly if it learned of any."""
        height, width = z_BdHW.shape[-2:]
        multiple = 2 ** (LEVELS - 1)
        padded = F.pad(z_BdHW, (0, -width % multiple, 0, -height % multiple)).contiguous()
        if self.text is not None or hasattr(self, "embedding"):
            states, there = (self.embedding(condition)[:, None], None) if self.text is None else self.text(condition)
            read = {"encoder_hidden_states": states, "encoder_attention_mask": there}
            out = self.body(padded, time_B, **read, return_dict=False)[0]
        else:
            out = self.body(padded, time_B, class_labels=condition, return_dict=False)[0]
        cropped: Tensor = out[..., :height, :width]
        return cropped


def _groups(width: int) -> int:
    """The most norm groups, at most 32, of at least 3 channels."""
    return next(g for g in (32, 16, 8, 4, 2, 1) if width % g == 0 and (width // g >= 3 or g == 1))


def _head(width: int) -> int:
    return next(h for h in (32, 16, 8, 4, 2, 1) if width % h == 0)


def _block(way: Literal["Down", "Up"], cross: bool, attention: bool) -> str:
    """diffusers' name of a level's block."""
    return f"{('CrossAttn' if cross else 'Attn') if attention else ''}{way}Block2D"


def _plain(classes: int | None, one_head: bool, **common: Any) -> nn.Module:  # Any: what both networks share
    return _module(
        UNet2DModel,
        downsample_type="resnet",
        upsample_type="resnet",
        attention_head_dim=None if one_head else _head(common["block_out_channels"][0]),
        num_class_embeds=None if classes is None else classes + 1,
        **common,
    )


def _cross(of: int, one_head: bool, **common: Any) -> nn.Module:  # Any: what both networks share
    first, *_ = widths = common["block_out_channels"]
    heads = tuple(1 if one_head else width // _head(first) for width in widths)
    # diffusers takes attention_head_dim as the number of heads
    return _module(UNet2DConditionModel, attention_head_dim=heads, cross_attention_dim=of, **common)


def _module(kind: Callable[..., Any], **options: Any) -> nn.Module:  # Any: diffusers' models are not typed as modules
    body: nn.Module = kind(**options)
    return body


def _zero_residuals(body: nn.Module) -> None:
    """Start every residual branch and the output at zero (Dhariwal & Nichol 2021, as in latent diffusion)."""
    last: list[nn.Module] = [body.get_submodule("conv_out")]
    for module in body.modules():
        if isinstance(module, ResnetBlock2D):
            last.append(module.conv2)
        elif isinstance(module, Transformer2DModel):
            last.append(module.proj_out)
        elif isinstance(module, Attention) and module.residual_connection:
            last.append(module.get_submodule("to_out.0"))
    for layer in last:
        for parameter in layer.parameters():
            nn.init.zeros_(parameter)
