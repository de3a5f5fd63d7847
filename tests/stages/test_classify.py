"""The data set's classifier."""

import torch
import torchvision
from safetensors.torch import load_file

from embprobe.making import make
from embprobe.stages.classify import Classify
from embprobe.store import Artefact, Store
from tests.stages.conftest import CLASSES


def test_it_learns_classes_that_colours_tell(images: Artefact, store: Store):
    made = make(Classify(images=images, steps=40, batch=16, flip=False, device="cpu"), store)
    assert made.metrics["accuracy"] > 0.9
    assert made.metrics["accuracy_low"] < made.metrics["accuracy"] <= made.metrics["accuracy_high"]
    confusion = torch.tensor(made.metrics["confusion"])
    assert confusion.sum() == 12 and made.read_json("classifier.json")["classes"] == CLASSES


def test_fine_tuning_starts_from_the_file(images: Artefact, store: Store, tmp_path):
    torch.manual_seed(3)
    network = torchvision.models.resnet18()
    torch.save(network.state_dict(), tmp_path / "trunk.pth")
    made = make(
        Classify(images=images, steps=1, batch=4, rate=1e-9, weights=tmp_path / "trunk.pth", device="cpu"), store
    )
    found = load_file(made.weights())
    torch.testing.assert_close(
        found["layer1.0.conv1.weight"], network.state_dict()["layer1.0.conv1.weight"], atol=1e-6, rtol=0
    )
    assert found["fc.weight"].shape == (3, 512)
