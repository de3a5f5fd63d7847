"""The data set's classifier."""

import pytest
import torch
import torchvision
from safetensors.torch import load_file

from embprobe.errors import UserError
from embprobe.evaluation.judges import load_judge
from embprobe.making import make
from embprobe.metrics.scores import inception_score
from embprobe.nn.classifier import named_loss
from embprobe.stages.classify import Classify
from embprobe.store import Artefact, Store
from embprobe.views import Images
from tests.stages.conftest import CLASSES


def test_it_learns_classes_that_colours_tell(images: Artefact, store: Store):
    made = make(Classify(images=images, steps=40, batch=16, flip=False, device="cpu"), store)
    assert made.metrics["accuracy"] > 0.9
    assert made.metrics["accuracy_low"] < made.metrics["accuracy"] <= made.metrics["accuracy_high"]
    confusion = torch.tensor(made.metrics["confusion"])
    assert confusion.sum() == 12 and made.read_json("classifier.json")["classes"] == CLASSES
    assert not made.milestones() and made.manifest["bytes"] < 60e6  # eight more weights of no use made 403 MB of it


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


def test_the_score_of_real_images_passes_what_smoothed_labels_would_allow(images: Artefact, store: Store):
    made = make(Classify(images=images, steps=60, batch=16, flip=False, device="cpu"), store)
    held = Images(images).of_split("val")
    output = load_judge(made)(images.array("images").take(held), "cpu")
    assert output.probabilities is not None
    smoothed = torch.tensor([[14 / 15, 1 / 30, 1 / 30]])
    cap = inception_score(torch.cat([smoothed.roll(i, 1) for i in range(3)]))
    assert cap == pytest.approx(2.242, abs=1e-3)
    assert inception_score(output.probabilities) > 2.5


def test_calibration_and_temperature_stand_beside_the_accuracy(images: Artefact, store: Store):
    metrics = make(Classify(images=images, steps=4, batch=8, device="cpu"), store).metrics
    assert 1 / 3 <= metrics["confidence"] <= 1 and metrics["temperature"] == 1
    gap = abs(metrics["confidence"] - metrics["accuracy"])
    assert gap - 1e-9 <= metrics["calibration_error"] <= 1


def test_factors_of_captions_are_told_apart_each_by_a_head(captioned: Artefact, store: Store):
    given = {"steps": 40, "batch": 16, "flip": False, "device": "cpu"}
    made = make(Classify(images=captioned, factors=("animal", "hue=dark/light"), **given), store)
    facts = made.read_json("classifier.json")
    assert facts["factors"] == {"animal": CLASSES, "hue": ["dark", "light"]} and facts["classes"] == []
    factors, held = made.metrics["factors"], Images(captioned).of_split("val")
    captions = [(Images(captioned).captions or [])[row] for row in held]
    told = sum(caption is not None for caption in captions)
    assert factors["animal"]["accuracy"] > 0.9 and factors["animal"]["told"] == told < 12
    assert made.metrics["accuracy"] <= min(f["accuracy"] for f in factors.values()) and "confusion" not in made.metrics
    judge = load_judge(made)
    output = judge(images_of(captioned), "cpu")
    assert judge.classes is None and judge.factors == facts["factors"] and output.probabilities is not None
    for head in output.probabilities.split([3, 2], 1):
        torch.testing.assert_close(head.sum(1), torch.ones(len(head)))


def images_of(artefact: Artefact):
    return artefact.array("images").take(Images(artefact).of_split("val"))


def test_factors_without_words_or_captions_are_refused(images: Artefact, captioned: Artefact, store: Store):
    with pytest.raises(UserError, match="--factors needs captions and this data set has none"):
        make(Classify(images=images, factors=("animal",), device="cpu"), store)
    with pytest.raises(UserError, match=r"--factors 'size' needs two words or more.*words for animal, tone"):
        make(Classify(images=captioned, factors=("size",), device="cpu"), store)
    with pytest.raises(UserError, match="--factors size: the training captions name fewer than two of its words"):
        make(Classify(images=captioned, factors=("size=small/large",), device="cpu"), store)


def test_an_image_whose_caption_names_nothing_teaches_a_head_nothing():
    logits = torch.randn(4, 3, requires_grad=True)
    named_loss(logits, torch.full((4,), -1)).backward()
    assert not logits.grad.any()
    word = torch.tensor([0, -1, 2, 1])
    expected = torch.nn.functional.cross_entropy(logits[[0, 2, 3]], word[[0, 2, 3]])
    torch.testing.assert_close(named_loss(logits, word), expected)
