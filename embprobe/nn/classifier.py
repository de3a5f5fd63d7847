"""ResNet-18 on the data set's own classes, or on factors of its captions: the judge that needs nobody else's weights."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import ResNet, resnet18

from embprobe.errors import UserError
from embprobe.nn.layers import decay_groups
from embprobe.nn.weights import read_weights
from embprobe.pixels import channel_statistics, cropped, random_crops, standardised
from embprobe.store import Json
from embprobe.training.task import Task


def build_classifier(classes: int, channels: int = 3) -> ResNet:
    """torchvision's ResNet-18, for images of any number of channels; drawn from the global generator."""
    network: ResNet = resnet18(num_classes=classes)
    if channels != 3:
        network.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
    return network


def head_sizes(facts: Json) -> tuple[int, ...]:
    """Outputs of each head, by what `classify` tells: one for the classes, or one a factor."""
    return tuple(len(words) for words in facts["factors"].values()) if "factors" in facts else (len(facts["classes"]),)


class Classifier(Task):
    """Cross-entropy on random crops, flipped if asked. Labels are not smoothed: that would cap the score.

    A batch's `label` is a class (B,), or a word of each factor (B,heads), −1 where none is known.
    """

    def __init__(self, heads: tuple[int, ...], rate: float, flip: bool, channels: int = 3) -> None:
        super().__init__()
        self.heads = heads
        self.rate, self.flip = rate, flip
        self.mean, self.std = channel_statistics(channels)
        self.network = build_classifier(sum(heads), channels)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; norms and biases are not decayed."""
        groups = decay_groups(list(self.network.parameters()), 0.05)
        return {"classifier": torch.optim.AdamW(groups, lr=self.rate, fused=True)}

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """`crops` (B,2,3)."""
        return {"crops": random_crops(len(batch["images"]), 0.4, self.flip, generator)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """One loss, and the share of the batch classified rightly."""
        images = cropped(standardised(batch["images"], self.mean, self.std), batch["crops"])
        logits, label = self.network(images.contiguous(memory_format=torch.channels_last)).float(), batch["label"]
        if label.ndim == 1:
            self.scalars["batch_accuracy"] = (logits.argmax(1) == label).float().mean()
            yield "classifier", nn.functional.cross_entropy(logits, label)
            return
        parts = list(zip(logits.split(self.heads, 1), label.unbind(1), strict=True))
        right = torch.stack([(part.argmax(1) == word) | (word < 0) for part, word in parts]).all(0)
        self.scalars["batch_accuracy"] = right.float().mean()
        yield "classifier", torch.stack([named_loss(part, word) for part, word in parts]).sum()


def named_loss(logits_BC: Tensor, word_B: Tensor) -> Tensor:
    """Mean cross-entropy where a word is known; 0 where none is."""
    total = nn.functional.cross_entropy(logits_BC, word_B, ignore_index=-1, reduction="sum")
    return total / (word_B >= 0).sum().clamp_min(1)


def load_trunk(network: nn.Module, path: Path) -> None:
    """Starts from a ResNet-18 weights file of any number of classes; the last layer stays as it is. Raises UserError."""
    state = {k: v for k, v in read_weights(path).items() if not k.startswith("fc.")}
    own = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    if state.keys() != own.keys() or any(state[k].shape != own[k].shape for k in own):
        raise UserError(f"{path} is no torchvision ResNet-18; give such a file, or leave --weights out")
    network.load_state_dict(state, strict=False)
