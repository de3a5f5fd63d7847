"""Masked autoencoder (He et al. 2022): predict the normalised pixels of the three quarters that are hidden."""

from collections.abc import Iterator, Mapping

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from embprobe.nn.layers import decay_groups, gather, token_statistics
from embprobe.nn.predictor import MaskedDecoder, PredictorConfig
from embprobe.nn.vit import embed_patches, run_blocks, set_positions
from embprobe.pixels import channel_statistics, cropped, normalised_patches, random_crops, standardised
from embprobe.training.task import Task


class MAE(Task):
    """`network` is the encoder; the decoder is kept beside it as `predictor`."""

    network: VisionTransformer
    encoded: Tensor  # of the last step

    def __init__(self, vit: VisionTransformer, rate: float, *, width: int, depth: int, masked: float = 0.75) -> None:
        super().__init__()
        self.network, self.rate, self.masked = vit, rate, masked
        self.patch = vit.patch_embed.patch_size[0]
        grid, dim = set_positions(vit)
        channels = vit.patch_embed.proj.in_channels
        self.mean, self.std = channel_statistics(channels)
        sizes = PredictorConfig.sized(grid, dim, self.patch**2 * channels, width=width, depth=depth)
        self.predictor = MaskedDecoder(sizes)
        self.beside = {"predictor": self.predictor}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW with β₂ 0.95; biases, norms and tokens are not decayed."""
        groups = decay_groups(list(self.parameters()), 0.05)
        return {"mae": torch.optim.AdamW(groups, lr=self.rate, betas=(0.9, 0.95), fused=True)}

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`crops` (B,2,3), and the patches of each image in a random order (B,L); the first are shown."""
        count = len(batch["images"])
        order = torch.rand(count, self.predictor.positions.shape[1], generator=generator).argsort(1)
        return {"crops": random_crops(count, 0.3, True, generator), "order": order, "back": order.argsort(1)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Mean squared error on the hidden patches' pixels, each patch normalised to mean 0 and variance 1."""
        images = cropped(standardised(batch["images"], self.mean, self.std), batch["crops"])
        tokens = embed_patches(self.network, images)
        shown = round(tokens.shape[1] * (1 - self.masked))
        hidden = batch["order"][:, shown:]
        self.encoded = run_blocks(self.network, gather(tokens, batch["order"][:, :shown]))
        predicted = self.predictor(self.encoded, batch["back"])
        target = normalised_patches(images, self.patch)
        yield "mae", nn.functional.mse_loss(gather(predicted.float(), hidden), gather(target, hidden))

    def statistics(self) -> dict[str, Tensor | float]:
        """Spread and rank of the shown patches' tokens."""
        return token_statistics(self.encoded)
