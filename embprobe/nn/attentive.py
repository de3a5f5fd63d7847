"""The attentive probe: a learned query looks at all tokens of an image, and says its class; Bardes et al. 2024."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from embprobe.nn.layers import decay_groups
from embprobe.training.task import Task

HEAD_WIDTH, MOST_HEADS = 32, 16


class AttentiveProbe(nn.Module):
    """Tokens (B,*grid,D) → logits (B,C): cross-attention of one query, residual, two-layer GELU MLP, LayerNorm, linear.

    Tokens are first brought to mean 0 and std 1 per channel. Weights are drawn from the global generator.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, classes: int, mean_D: Tensor, std_D: Tensor) -> None:
        super().__init__()
        width = len(mean_D)
        self.heads = max(h for h in range(1, MOST_HEADS + 1) if width % h == 0 and width >= h * min(width, HEAD_WIDTH))
        self.register_buffer("mean", mean_D)
        self.register_buffer("std", std_D.clamp_min(1e-6))
        self.query = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.of_query, self.of_tokens = nn.Linear(width, width), nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        x_BLD = ((tokens - self.mean) / self.std).flatten(1, -2)
        query = self.query.expand(len(x_BLD), -1, -1)
        parts = (self.of_query(query), *self.of_tokens(x_BLD).chunk(2, -1))
        split = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        seen = nn.functional.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        read = query + self.out(seen)
        logits: Tensor = self.head(self.norm(self.mlp(read)))[:, 0]
        return logits


class Attending(Task):
    """Cross-entropy of an attentive probe on tokens as they are stored."""

    def __init__(self, network: AttentiveProbe, rate: float) -> None:
        super().__init__()
        self.network, self.rate = network, rate

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; norms, biases and the query are not decayed."""
        groups = decay_groups(list(self.network.parameters()), 0.05)
        return {"probe": torch.optim.AdamW(groups, lr=self.rate, fused=True)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """One loss, and the share of the batch classified rightly."""
        logits = self.network(batch["tokens"]).float()
        self.scalars["batch_accuracy"] = (logits.argmax(1) == batch["label"]).float().mean()
        yield "probe", nn.functional.cross_entropy(logits, batch["label"])
