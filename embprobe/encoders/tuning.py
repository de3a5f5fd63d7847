"""Partial fine-tuning: the last blocks of an encoder and a linear head learn the classes; He et al. 2022, section 4.3."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from embprobe.encoders.frozen import Encoder
from embprobe.errors import UserError
from embprobe.nn.layers import decay_groups
from embprobe.nn.vit import PatchTokens
from embprobe.pixels import preprocess
from embprobe.training.task import Task


class Tuning(Task):
    """Cross-entropy of a linear head on mean tokens; the network is what learns: the last blocks, the norm and the head.

    Raises UserError for an encoder that is no ViT read after its last block, or has fewer blocks.
    """

    def __init__(self, encoder: Encoder, blocks: int, classes: int, rate: float) -> None:
        super().__init__()
        tokens = encoder.network
        if not isinstance(tokens, PatchTokens) or tokens.blocks is not None:
            raise UserError("reader fine-tune needs the last layer of a ViT of timm's form; leave this reader out")
        every: nn.ModuleList = tokens.vit.blocks  # type: ignore[assignment]
        if blocks > len(every):
            raise UserError(f"--blocks is {blocks}; the encoder has {len(every)}")
        after = (getattr(tokens.vit, name, None) for name in ("norm", "fc_norm"))
        norms = [norm for norm in after if norm is not None and list(norm.parameters())]
        self.network = nn.ModuleList([*every[len(every) - blocks :], *norms, nn.Linear(encoder.width, classes)])
        self.network.requires_grad_(True)
        self.encoders, self.rate = (encoder,), rate  # in a tuple, so that what is frozen is in no checkpoint

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; norms and biases are not decayed."""
        groups = decay_groups(list(self.network.parameters()), 0.05)
        return {"tuning": torch.optim.AdamW(groups, lr=self.rate, fused=True)}

    def logits(self, images_BHWC: Tensor) -> Tensor:
        """u8 images (B,H,W,C) → logits (B,C)."""
        (encoder,) = self.encoders
        mean, std = encoder.statistics or (encoder.mean, encoder.std)
        tokens = encoder.network(preprocess(images_BHWC, encoder.size, mean, std, encoder.interpolation))
        logits: Tensor = self.network[-1](tokens.mean(1))  # type: ignore[index]
        return logits

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """One loss, and the share of the batch classified rightly."""
        logits = self.logits(batch["images"]).float()
        self.scalars["batch_accuracy"] = (logits.argmax(1) == batch["label"]).float().mean()
        yield "tuning", nn.functional.cross_entropy(logits, batch["label"])
