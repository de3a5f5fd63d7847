"""The data set's own classifier."""

from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from embprobe.errors import UserError
from embprobe.nn.classifier import Classifier, build_classifier, load_trunk
from tests.drawn import losses


@pytest.mark.parametrize(("size", "channels"), [((32, 32), 3), ((24, 40), 1)])
def test_a_step_has_one_loss_and_an_accuracy(size: tuple[int, int], channels: int) -> None:
    task = Classifier((3,), 1e-3, flip=True, channels=channels)
    images = torch.randint(0, 256, (4, *size, channels)).to(torch.uint8)
    [(name, loss)] = losses(task, {"images": images, "label": torch.tensor([0, 1, 2, 0])})
    assert name == "classifier" and loss.isfinite()
    assert 0 <= float(task.scalars["batch_accuracy"]) <= 1


def test_a_trunk_of_other_classes_is_loaded_and_the_last_layer_kept(tmp_path: Path) -> None:
    torch.save(resnet18(num_classes=7).state_dict(), tmp_path / "seven.pth")
    network = build_classifier(3)
    last = network.fc.weight.clone()
    load_trunk(network, tmp_path / "seven.pth")
    assert torch.equal(network.fc.weight, last)
    assert torch.equal(network.conv1.weight, torch.load(tmp_path / "seven.pth", weights_only=True)["conv1.weight"])


def test_another_network_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="no torchvision ResNet-18"):
        load_trunk(build_classifier(3), tmp_path / "other.pth")
