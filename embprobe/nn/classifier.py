"""ResNet-18 on the data set's own classes: the judge that needs nobody else's weights."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import resnet18

from embprobe.encoders.load import read_weights
from embprobe.training.engine import Task
from embprobe.errors import UserError
from embprobe.nn.mae import IMAGENET, decay_groups
from embprobe.nn.vit import pixels, random_crop

SMOOTHING = 0.1


class Classifier(Task):
    """Cross-entropy with label smoothing on random crops, flipped if asked."""

    def __init__(self, classes: int, rate: float, flip: bool) -> None:
        super().__init__()
        self.rate, self.flip = rate, flip
        self.network = resnet18(num_classes=classes)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """AdamW; norms and biases are not decayed."""
        return {"classifier": torch.optim.AdamW(decay_groups(self.network, 0.05), lr=self.rate, fused=True)}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """One loss, and the share of the batch classified rightly."""
        images = random_crop(pixels(batch["images"], *IMAGENET), 0.4, self.flip)
        logits = self.network(images.contiguous(memory_format=torch.channels_last)).float()
        self.scalars["batch_accuracy"] = (logits.argmax(1) == batch["label"]).float().mean()
        yield "classifier", nn.functional.cross_entropy(logits, batch["label"], label_smoothing=SMOOTHING)


def load_trunk(network: nn.Module, path: Path) -> None:
    """Starts from a ResNet-18 weights file of any number of classes; the last layer stays as it is. Raises UserError."""
    state = {k: v for k, v in read_weights(path).items() if not k.startswith("fc.")}
    own = {k: v for k, v in network.state_dict().items() if not k.startswith("fc.")}
    if state.keys() != own.keys() or any(state[k].shape != own[k].shape for k in own):
        raise UserError(f"{path} is no torchvision ResNet-18; give such a file, or leave --weights out")
    network.load_state_dict(state, strict=False)
