"""Perceptual distances between images: LPIPS over torchvision trunks, and a data set's own classifier."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.errors import UserError

Trunk = Literal["lpips-vgg", "lpips-squeeze"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
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

    def __init__(self, heads: list[Tensor] | None = None) -> None:
        super().__init__()
        self.heads = nn.ParameterList([nn.Parameter(h.reshape(1, -1, 1, 1)) for h in heads]) if heads else None
        self.register_buffer("mean", torch.tensor(IMAGENET[0])[:, None, None])
        self.register_buffer("std", torch.tensor(IMAGENET[1])[:, None, None])

    def features(self, x: Tensor) -> Iterator[Tensor]:
        """Feature maps of standardised images, layer by layer."""
        raise NotImplementedError

    def forward(self, image_B3SS: Tensor, reference_B3SS: Tensor) -> Tensor:
        """Distances (B,) of images in [-1, 1], f32."""
        pair = torch.cat([image_B3SS, reference_B3SS])
        standardised = ((pair + 1) / 2 - self.mean) / self.std
        total = torch.zeros(len(image_B3SS), device=pair.device)
        for layer, maps in enumerate(self.features(standardised)):
            one, other = _unit(maps.float()).chunk(2)
            apart = (one - other).square()
            weighted = apart if self.heads is None else apart * self.heads[layer]
            total = total + weighted.sum(1).mean((1, 2))
        return total


def _unit(maps: Tensor) -> Tensor:
    return maps / (maps.square().sum(1, keepdim=True).sqrt() + 1e-10)


class Lpips(Perceptual):
    """LPIPS over the `features` of torchvision's VGG16 or SqueezeNet 1.1."""

    def __init__(self, trunk: Trunk, weights: Mapping[str, Tensor], heads: list[Tensor] | None = None) -> None:
        super().__init__(heads)
        self.trunk = trunk
        self.body = _vgg() if trunk == "lpips-vgg" else _squeezenet()
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
        super().__init__()
        import timm

        self.body = timm.create_model("resnet18", pretrained=False, num_classes=0)
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
        return Lpips(trunk, read_tensors(weights), None if heads is None else _read_heads(trunk, heads))
    except RuntimeError:
        raise UserError(
            f"{weights} does not hold {SOURCE[trunk]}; check --perceptual and --perceptual-weights"
        ) from None


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Tensors of a safetensors or a weights-only PyTorch file; UserError where it is neither."""
    import pickle

    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise UserError(f"cannot read weights from {path} ({str(error).splitlines()[0]}); give another file") from None


def _read_heads(trunk: Trunk, path: Path) -> list[Tensor]:
    tensors = read_tensors(path)
    names = [f"lin{i}.model.1.weight" for i in range(len(WIDTHS[trunk]))]
    fits = all(n in tensors and tensors[n].numel() == w for n, w in zip(names, WIDTHS[trunk], strict=True))
    if not fits:
        raise UserError(f"{path} does not hold the LPIPS heads of {trunk}; give those, or leave --lpips-heads out")
    return [tensors[n] for n in names]


def _vgg() -> nn.Sequential:
    """`features` of torchvision's VGG16 without the last pooling, which LPIPS does not use."""
    layers: list[nn.Module] = []
    before = 3
    for block, (width, count) in enumerate([(64, 2), (128, 2), (256, 3), (512, 3), (512, 3)]):
        layers += [nn.MaxPool2d(2, 2)] if block else []
        for _ in range(count):
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU()]
            before = width
    return nn.Sequential(*layers)


class Fire(nn.Module):
    """SqueezeNet's module: squeeze by 1×1, expand by 1×1 and 3×3 (Iandola et al. 2016)."""

    def __init__(self, before: int, squeeze: int, expand: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(before, squeeze, 1)
        self.expand1x1 = nn.Conv2d(squeeze, expand, 1)
        self.expand3x3 = nn.Conv2d(squeeze, expand, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.squeeze(x))
        return torch.cat([F.relu(self.expand1x1(x)), F.relu(self.expand3x3(x))], 1)


def _squeezenet() -> nn.Sequential:
    """`features` of torchvision's SqueezeNet 1.1."""

    def pool() -> nn.MaxPool2d:
        return nn.MaxPool2d(3, 2, ceil_mode=True)

    return nn.Sequential(
        nn.Conv2d(3, 64, 3, stride=2),
        nn.ReLU(),
        *(pool(), Fire(64, 16, 64), Fire(128, 16, 64)),
        *(pool(), Fire(128, 32, 128), Fire(256, 32, 128)),
        *(pool(), Fire(256, 48, 192), Fire(384, 48, 192), Fire(384, 64, 256), Fire(512, 64, 256)),
    )
