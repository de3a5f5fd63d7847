"""The released networks of I-JEPA, MAE and V-JEPA in plain PyTorch, written from their papers and file layouts alone."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, DEPTH, HEADS, PATCH, SIDE, FRAMES = 32, 2, 2, 8, 32, 2
Files = dict[str, object]


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        parts = self.qkv(x_BLD).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        scores = parts[0] @ parts[1].mT / math.sqrt(parts.shape[-1])
        return self.proj((scores.softmax(-1) @ parts[2]).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attn, self.mlp = Attention(width, heads), Mlp(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Images (B,3,H,W), or clips (B,3,T,H,W) by tubelets, to tokens (B,L,D)."""

    def __init__(self, width: int, patch: int, frames: int | None) -> None:
        super().__init__()
        kernel = (patch, patch) if frames is None else (frames, patch, patch)
        self.proj = (nn.Conv2d if frames is None else nn.Conv3d)(3, width, kernel, stride=kernel)

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(x).flatten(2).transpose(1, 2)


class Official(nn.Module):
    """A ViT as the three papers have it, from pixels to normalised tokens; MAE's has a class token, which is dropped."""

    def __init__(
        self, *, class_token: bool = False, frames: int | None = None, width: int = WIDTH, depth: int = DEPTH,
        patch: int = PATCH, side: int = SIDE,
    ) -> None:  # fmt: skip
        super().__init__()
        length = (side // patch) ** 2 * (2 if frames else 1)
        self.patch_embed = PatchEmbed(width, patch, frames)
        if class_token:
            self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, length + class_token, width), requires_grad=False)
        self.blocks = nn.ModuleList(Block(width, HEADS) for _ in range(depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.class_token = class_token

    def forward(self, x: Tensor) -> Tensor:
        return self.seen(x)[:, int(self.class_token) :]

    def seen(self, x: Tensor, shown: list[int] | None = None) -> Tensor:
        """The tokens of the patches that are shown, all if none is named, after a class token where there is one."""
        tokens = self.patch_embed(x) + self.pos_embed[:, int(self.class_token) :]
        if shown is not None:
            tokens = tokens[:, shown]
        if self.class_token:
            first = self.cls_token + self.pos_embed[:, :1]
            tokens = torch.cat([first.expand(len(tokens), -1, -1), tokens], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)


class Predictor(nn.Module):
    """What released I-JEPA and V-JEPA files hold next to the encoders."""

    def __init__(self, width: int, narrow: int = 16) -> None:
        super().__init__()
        self.predictor_embed = nn.Linear(width, narrow)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.predictor_pos_embed = nn.Parameter(torch.zeros(1, 16, narrow), requires_grad=False)
        self.predictor_blocks = nn.ModuleList([Block(narrow, 2)])
        self.predictor_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.predictor_proj = nn.Linear(narrow, width)

    def forward(self, tokens: Tensor, context: list[int], target: list[int]) -> Tensor:
        """One target block from the context's tokens."""
        places = self.predictor_pos_embed.expand(len(tokens), -1, -1)
        x = torch.cat([self.predictor_embed(tokens) + places[:, context], self.mask_token + places[:, target]], 1)
        for block in self.predictor_blocks:
            x = block(x)
        return self.predictor_proj(self.predictor_norm(x))[:, len(context) :]


class Decoder(nn.Module):
    """What released MAE pretraining files hold next to the encoder's tensors."""

    def __init__(self, width: int, patch: int, length: int, narrow: int = 16) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(1, 1, narrow))
        self.decoder_pos_embed = nn.Parameter(torch.zeros(1, length, narrow), requires_grad=False)
        self.decoder_embed = nn.Linear(width, narrow)
        self.decoder_blocks = nn.ModuleList([Block(narrow, 2)])
        self.decoder_norm = nn.LayerNorm(narrow, eps=1e-6)
        self.decoder_pred = nn.Linear(narrow, patch * patch * 3)

    def forward(self, tokens: Tensor, shown: list[int]) -> Tensor:
        """All patches from a class token and those that are shown."""
        x = self.decoder_embed(tokens)
        every = self.mask_token.expand(len(x), self.decoder_pos_embed.shape[1], -1).clone()
        every[:, [0, *(1 + place for place in shown)]] = x
        x = every + self.decoder_pos_embed
        for block in self.decoder_blocks:
            x = block(x)
        return self.decoder_pred(self.decoder_norm(x))[:, 1:]


def drawn(make: Callable[[], nn.Module], seed: int) -> nn.Module:
    """A network all of whose parameters are drawn at a size that matters, biases, norms and positions included."""
    network = make()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator) * 0.2
            parameter.copy_(noise + 1 if "norm" in name and name.endswith("weight") else noise)
    return network.eval()


def prefixed(network: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor.clone() for name, tensor in network.state_dict().items()}


def ijepa_file(target: nn.Module, context: nn.Module, width: int = WIDTH) -> Files:
    """As released: data-parallel prefixes, both encoders, the predictor, and the run's state."""
    return {
        "encoder": prefixed(context, "module."),
        "predictor": prefixed(drawn(lambda: Predictor(width), 7), "module."),
        "opt": {"state": {0: {"step": 3, "exp_avg": torch.zeros(4)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "scaler": None,
        "target_encoder": prefixed(target, "module."),
        **{"epoch": 300, "loss": 0.2, "batch_size": 2048, "world_size": 16, "lr": 1e-6},
    }


def mae_file(encoder: nn.Module) -> Files:
    """As released after pretraining, the decoder's tensors among the encoder's."""
    width, patch = encoder.patch_embed.proj.weight.shape[0], encoder.patch_embed.proj.weight.shape[-1]
    decoder = drawn(lambda: Decoder(width, patch, encoder.pos_embed.shape[1]), 8)
    return {"model": prefixed(encoder, "") | prefixed(decoder, "")}


def vjepa_file(target: nn.Module, context: nn.Module) -> Files:
    """As released: as I-JEPA's, each network in a wrapper that keeps it as `backbone`."""
    file = ijepa_file(target, context)
    for name, network in (("encoder", context), ("target_encoder", target)):
        file[name] = prefixed(network, "module.backbone.")
    return file


def encoder_of(kind: str, seed: int = 0, **sizes: int) -> nn.Module:
    """I-JEPA's, MAE's or V-JEPA's encoder of small sizes, its parameters drawn."""
    more: dict[str, object] = {"ijepa": {}, "mae": {"class_token": True}, "vjepa": {"frames": FRAMES}}[kind]
    return drawn(lambda: Official(**more, **sizes), seed)  # type: ignore[arg-type]
