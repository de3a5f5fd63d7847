"""Judges are known by what they are: files by their content, Inception by its one true file."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from cleanfid.resize import build_resizer

from embprobe.evaluation import judges
from embprobe.errors import UserError


def images(count: int, size: int = 32) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), np.uint8)


def test_a_torchvision_classifier_is_known_by_its_file(tmp_path: Path):
    network = torchvision.models.squeezenet1_1()
    torch.save(network.state_dict(), tmp_path / "some.pth")
    judge = judges.load_judge(str(tmp_path / "some.pth"))
    features, probabilities = judge(images(2), "cpu")
    assert judge.name == "squeezenet1_1" and features.shape == (2, 512)
    assert probabilities is not None
    torch.testing.assert_close(probabilities.sum(1), torch.ones(2))


def test_features_are_what_enters_the_last_layer():
    network = torchvision.models.resnet18(num_classes=3).eval()
    x = torch.from_numpy(images(2, 64))
    with torch.no_grad():
        features, probabilities = judges.classifier_features(network, x, 64)
        assert probabilities is not None
        torch.testing.assert_close(network.fc(features).softmax(1), probabilities)


def test_an_inception_file_with_other_bytes_is_refused(tmp_path: Path):
    path = tmp_path / judges.INCEPTION
    path.write_bytes(b"not a network")
    with pytest.raises(UserError, match="SHA-256"):
        judges.load_judge(str(path))


def test_missing_inception_weights_say_how_to_place_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("EMBPROBE_WEIGHTS", str(tmp_path))
    if (Path("/tmp") / judges.INCEPTION).exists():
        pytest.skip("Inception's weights are in /tmp")
    with pytest.raises(UserError, match="EMBPROBE_WEIGHTS"):
        judges.load_judge("inception")


class Base(torch.nn.Module):
    """Stands for Inception: takes what clean-fid would give it."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append(x)
        return x.mean((2, 3))


def test_inception_gets_images_through_clean_fids_own_resize():
    network, x = Base(), images(2)
    judges.inception_features(network, torch.from_numpy(x))
    resize = build_resizer("clean")
    expected = torch.from_numpy(np.stack([resize(image) for image in x])).permute(0, 3, 1, 2)
    assert torch.equal(network.seen[0], expected)


def test_an_encoder_judges_by_its_mean_token():
    features, probabilities = judges.load_judge("random:vit-32x1-h2-p8")(images(3, 64), "cpu")
    assert features.shape == (3, 32) and probabilities is None
