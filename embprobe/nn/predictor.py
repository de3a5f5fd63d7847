"""What learned to predict beside an encoder: I-JEPA's predictor and MAE's decoder, their sizes and their published files."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, Literal

import torch
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from embprobe.errors import UserError
from embprobe.nn.layers import gather, sin_cos_positions
from embprobe.nn.recognise import Published
from embprobe.nn.weights import open_weights

Target = Literal["embeddings", "pixels"]
NAMES = (  # in the published files, and here
    (r"(predictor|decoder)_embed\.", "embed."),
    (r"(predictor|decoder)_pos_embed$", "positions"),
    (r"(predictor|decoder)_blocks\.", "blocks."),
    (r"(predictor|decoder)_norm\.", "project.0."),
    (r"(predictor_proj|decoder_pred)\.", "project.1."),
)


@dataclass(frozen=True, kw_only=True)
class PredictorConfig:
    """The sizes of a predictor; `grid` is that of the patches, `prefix` counts the tokens before them."""

    grid: tuple[int, ...]
    dim: int  # width of the encoder's tokens
    out: int  # width of what is predicted of a patch
    width: int
    depth: int
    heads: int
    prefix: int = 0

    def json(self) -> dict[str, Any]:  # Any: JSON
        return asdict(self) | {"grid": list(self.grid)}

    @staticmethod
    def of(json: Mapping[str, Any]) -> "PredictorConfig":  # Any: JSON
        """The inverse of `json`."""
        return PredictorConfig(**{**json, "grid": tuple(json["grid"])})

    @staticmethod
    def sized(grid: tuple[int, ...], dim: int, out: int, *, width: int, depth: int) -> "PredictorConfig":
        """With heads that are 32 wide."""
        return PredictorConfig(grid=grid, dim=dim, out=out, width=width, depth=depth, heads=max(1, width // 32))


class Predictor(nn.Module):
    """A narrow ViT that predicts patches from an encoder's tokens: the layers that both published predictors have."""

    positions: Tensor

    def __init__(self, config: PredictorConfig) -> None:
        super().__init__()
        width = config.width
        norm: Any = partial(nn.LayerNorm, eps=1e-6)  # Any: timm wants a class
        self.config = config
        self.embed = nn.Linear(config.dim, width)
        self.mask_token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        placed = sin_cos_positions(config.grid, width)
        self.register_buffer("positions", torch.cat([placed.new_zeros(config.prefix, width), placed])[None])
        self.blocks = nn.Sequential(
            *(Block(width, config.heads, qkv_bias=True, norm_layer=norm) for _ in range(config.depth))
        )
        self.project = nn.Sequential(norm(width), nn.Linear(width, config.out))

    def on(self, grid: tuple[int, ...]) -> None:
        """Resamples the positions, bicubic, for patches on another grid."""
        if grid != self.config.grid:
            known = {"old_size": list(self.config.grid), "num_prefix_tokens": self.config.prefix}
            self.positions = resample_abs_pos_embed(self.positions, list(grid), **known)
            self.config = replace(self.config, grid=grid)


class BlockPredictor(Predictor):
    """I-JEPA's (Assran et al. 2023): target blocks one at a time, from the context's tokens and the places of both."""

    def forward(self, context_BCD: Tensor, context_BC: Tensor, targets_TBM: Tensor) -> Tensor:
        """Encoded context tokens (B,C,D), their places (B,C) and the targets' (T,B,M) → predictions (T·B,M,out)."""
        blocks, count, size = targets_TBM.shape
        context_BCw = self.embed(context_BCD) + gather(self.positions.expand(count, -1, -1), context_BC)
        places = targets_TBM.reshape(blocks * count, size)
        queries = self.mask_token + gather(self.positions.expand(blocks * count, -1, -1), places)
        joined = torch.cat([context_BCw.repeat(blocks, 1, 1), queries], 1)
        predicted: Tensor = self.project(self.blocks(joined)[:, -size:])
        return predicted


class MaskedDecoder(Predictor):
    """MAE's (He et al. 2022): all patches at once, from the tokens of those that are shown."""

    def forward(self, encoded_BVD: Tensor, back_BL: Tensor) -> Tensor:
        """Tokens (B,prefix+V,D) of the patches that are shown, and where each of the L patches stands in the order in
        which those come first (B,L) → predictions (B,L,out)."""
        prefix, (count, length) = self.config.prefix, back_BL.shape
        tokens = self.embed(encoded_BVD)
        hidden = self.mask_token.expand(count, length + prefix - tokens.shape[1], -1)
        ordered = torch.cat([tokens[:, prefix:], hidden], 1)
        tokens = torch.cat([tokens[:, :prefix], gather(ordered, back_BL)], 1) + self.positions
        predicted: Tensor = self.project(self.blocks(tokens))[:, prefix:]
        return predicted


@dataclass(frozen=True)
class PredictorFile:
    """What learned to predict beside an encoder, as a weights file holds it."""

    tensors: Mapping[str, Tensor]
    objective: Published
    heads: int | None  # where the file tells
    has_context: bool  # the context encoder lies beside the target

    def predictor(self, grid: tuple[int, ...], heads: int) -> Predictor:
        """The network; no tensor tells its attention heads. Raises UserError where it is none, or not for this grid."""
        named = {_own_name(name): tensor for name, tensor in self.tensors.items()}
        kind = BlockPredictor if self.objective == "ijepa" else MaskedDecoder
        try:
            (width, dim), out = named["embed.weight"].shape, len(named["project.1.weight"])
            depth = 1 + max(int(found[1]) for name in named if (found := re.match(r"blocks\.(\d+)\.", name)))
            prefix = named["positions"].shape[1] - prod(grid)
            sizes = {"dim": dim, "out": out, "width": width, "depth": depth, "heads": heads, "prefix": prefix}
            predictor = kind(PredictorConfig(grid=grid, **sizes))
            predictor.load_state_dict({name: tensor.float() for name, tensor in named.items()})
        except (AssertionError, KeyError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise UserError(f"the file's predictor is not of this network ({reason})") from None
        return predictor


def open_predictor(path: Path) -> PredictorFile | None:
    """Of a file of I-JEPA's (under `predictor`) or MAE's (what begins with `decoder`), or one of embprobe's own; None if
    it holds an encoder alone."""
    file = open_weights(path)
    heads, context = file.words.get("predictor_heads"), "encoder" in file.beside
    inner = {k.removeprefix("predictor."): v for k, v in file.tensors.items() if k.startswith("predictor.")}
    if "predictor" in file.beside:
        inner = dict(open_weights(path, ("predictor",)).tensors)
    decoder = {k: v for k, v in file.tensors.items() if k.startswith("decoder_") or k == "mask_token"}
    if not inner and "decoder_embed.weight" not in decoder:
        return None
    told = int(heads) if heads and heads.isdecimal() else None
    return PredictorFile(inner or decoder, "ijepa" if inner else "mae", told, context)


def published_names(predictor: Predictor) -> dict[str, Tensor]:
    """The tensors of MAE's decoder under the names of its released files."""
    told = {"embed.": "decoder_embed.", "positions": "decoder_pos_embed", "blocks.": "decoder_blocks."}
    told |= {"project.0.": "decoder_norm.", "project.1.": "decoder_pred."}
    named = {}
    for name, tensor in predictor.state_dict().items():
        own = next((k for k in told if name.startswith(k)), None)
        named[told[own] + name.removeprefix(own) if own else name] = tensor
    return named


def _own_name(name: str) -> str:
    for pattern, own in NAMES:
        name = re.sub(f"^{pattern}", own, name)
    return name
