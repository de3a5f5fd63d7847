"""Perceptual distances between images: LPIPS over torchvision trunks, and a data set's own classifier."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from embprobe.errors import UserError
from embprobe.nn.weights import read_weights
from embprobe.pixels import channel_statistics

Trunk = Literal["lpips-vgg", "lpips-squeeze"]
SLICES: dict[Trunk, tuple[int, ...]] = {
    "lpips-vgg": (4, 9, 16, 23, 30),
    "lpips-squeeze": (2, 5, 8, 10, 11, 12, 13),
}
WIDTHS: dict[Trunk, tuple[int, ...]] = {
    "lpips-vgg": (64, 128, 256, 512, 512),
    "lpips-squeeze": (64, 128, 256, 384, 384, 512, 512),
}
SOURCE: dict[Trunk, str] = {
    "lpips-vgg": "torchvision's vgg16-397923af.pth",
    "lpips-squeeze": "torchvision's squeezenet1_1-b8a52dc0.pth",
}


class Perceptual(nn.Module):
    """Distance of unit-normalised features, averaged over positions and summed over layers (Zhang et al. 2018).

    With LPIPS heads the squared differences are weighted per channel; without them every channel counts once. The
    heads belong to torchvision's trunk: with any other one this is a training loss and no figure to report.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, heads: list[Tensor] | None = None, channels: int = 3) -> None:
        super().__init__()
        mean, std = channel_statistics(channels)
        self.channels = channels
        self.heads = nn.ParameterList([nn.Parameter(h.reshape(1, -1, 1, 1)) for h in heads]) if heads else None
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def features(self, x: Tensor) -> Iterator[Tensor]:
        """Feature maps of standardised images, layer by layer."""
        raise NotImplementedError

    def forward(self, image_BCHW: Tensor, reference_BCHW: Tensor) -> Tensor:
        """Distances (B,) of images in [-1, 1], f32. Raises UserError for images of other channels than the trunk's."""
        pair = torch.cat([image_BCHW, reference_BCHW])
        if pair.shape[1] != self.channels:
            raise UserError(
                f"--perceptual compares images of {self.channels} channels, these have {pair.shape[1]}; use --perceptual none, "
                "or classifier with one trained on such images"
            )
        standardised = ((pair + 1) / 2 - self.mean) / self.std
        total = torch.zeros(len(image_BCHW), device=pair.device)
        for layer, maps in enumerate(self.features(standardised)):
            one, other = _unit(maps.float()).chunk(2)
            distance = (one - other).square()
            weighted = distance if self.heads is None else distance * self.heads[layer]
            total = total + weighted.sum(1).mean((1, 2))
        return total


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


class Lpips(Perceptual):
    """LPIPS over the `features` of torchvision's VGG16 or SqueezeNet 1.1."""

    def __init__(self, trunk: Trunk, weights: Mapping[str, Tensor], heads: list[Tensor] | None = None) -> None:
        super().__init__(heads)
        self.trunk = trunk
        self.body = untrained_trunk(trunk)
        stripped = {k.removeprefix("features."): v for k, v in weights.items() if k.startswith("features.")}
        self.body.load_state_dict(stripped)
        self.eval().requires_grad_(False)

    def features(self, x: Tensor) -> Iterator[Tensor]:
        for index, layer in enumerate(self.body):
            if index in SLICES[self.trunk]:
                yield x
            x = layer(x)
        yield x


class ClassifierFeatures(Perceptual):
    """The same distance over layers 1-3 of a ResNet-18 with torchvision's keys, such as the data set's classifier."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        channels = weights["conv1.weight"].shape[1]
        super().__init__(channels=channels)
        import timm

        self.body = timm.create_model("resnet18", pretrained=False, num_classes=0, in_chans=channels)
        self.body.load_state_dict({k: v for k, v in weights.items() if not k.startswith("fc.")})
        self.eval().requires_grad_(False)

    def features(self, x: Tensor) -> Iterator[Tensor]:
        for name in ("conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3"):
            x = self.body.get_submodule(name)(x)
            if name.startswith("layer"):
                yield x

    def train(self, mode: bool = True) -> "ClassifierFeatures":
        """Stays in eval mode: the classifier's running statistics are its own."""
        super().train(False)
        return self


def load_lpips(trunk: Trunk, weights: Path | None, heads: Path | None) -> Lpips:
    """LPIPS from a torchvision weights file and, if given, the LPIPS heads (`lin0.model.1.weight`, …).

    Raises UserError where a file is missing or holds another network.
    """
    if weights is None or not weights.is_file():
        where = "no file is given" if weights is None else f"{weights} does not exist"
        raise UserError(
            f"--perceptual {trunk} needs {SOURCE[trunk]} and {where}; download it from download.pytorch.org/models and "
            "give it as --perceptual-weights FILE, or use --perceptual none"
        )
    try:
        return Lpips(trunk, read_weights(weights), None if heads is None else _read_heads(trunk, heads))
    except RuntimeError:
        raise UserError(
            f"{weights} does not hold {SOURCE[trunk]}; check --perceptual and --perceptual-weights"
        ) from None


def _read_heads(trunk: Trunk, path: Path) -> list[Tensor]:
    tensors = read_weights(path)
    names = [f"lin{i}.model.1.weight" for i in range(len(WIDTHS[trunk]))]
    fits = all(n in tensors and tensors[n].numel() == w for n, w in zip(names, WIDTHS[trunk], strict=True))
    if not fits:
        raise UserError(f"{path} does not hold the LPIPS heads of {trunk}; give those, or leave --lpips-heads out")
    return [tensors[n].clone() for n in names]


def untrained_trunk(trunk: Trunk) -> nn.Sequential:
    """`features` of torchvision's VGG16, without the last pooling, which LPIPS does not use, or of its SqueezeNet 1.1.

    Drawn as convolutions are by themselves, not by torchvision's initialisation, which would take seconds.
    """
    from torchvision.models import squeezenet1_1, vgg16

    with torch.device("meta"):
        body: nn.Sequential = vgg16().features[:30] if trunk == "lpips-vgg" else squeezenet1_1().features
    body = body.to_empty(device="cpu")
    for module in body.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return body
