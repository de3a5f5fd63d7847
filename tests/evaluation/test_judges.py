"""Judges are known by what they are: files by their content, Inception by its one true file."""

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from cleanfid.resize import build_resizer
from safetensors.torch import save_file

from embprobe.errors import UserError
from embprobe.evaluation import judges
from embprobe.nn.classifier import build_classifier
from embprobe.nn.vit import build_vit, vit_config


def images(count: int, size: int = 32, width: int | None = None, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, width or size, channels), np.uint8)


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
        features, probabilities = judges.classifier_features(network, x, (64, 64))
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


def test_raw_pixels_judge_nothing():
    with pytest.raises(UserError, match="--judges pixels judges nothing"):
        judges.load_judge("pixels:8")


def test_a_timm_encoder_judges_with_the_weights_it_is_given(tmp_path: Path):
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=0)
    save_file(network.state_dict(), tmp_path / "model.safetensors")
    judge = judges.load_judge("timm:vit_tiny_patch16_224", weights=tmp_path / "model.safetensors")
    assert judge(images(1), "cpu").features.shape == (1, 192) and judge.facts["weights"] == "model.safetensors"


def test_images_of_any_height_and_width_are_judged(tmp_path: Path):
    torch.save(torchvision.models.squeezenet1_1().state_dict(), tmp_path / "some.pth")
    for judge in (judges.load_judge(str(tmp_path / "some.pth")), judges.load_judge("random:vit-32x1-h2-p8")):
        assert judge(images(2, 20, 48), "cpu").features.shape[0] == 2
    network = Base()
    judges.inception_features(network, torch.from_numpy(images(2, 20, 48)))
    assert network.seen[0].shape == (2, 3, 299, 299)


def test_a_judge_of_three_channels_refuses_grey_images():
    with pytest.raises(UserError, match="1 channel and this network takes 3"):
        judges.load_judge("random:vit-32x1-h2-p8")(images(2, 32, channels=1), "cpu")


class Kept:
    """What stands for an artefact: its files in a folder."""

    short, fingerprint, metrics = "abc123", "abc123", {"accuracy": 0.9}

    def __init__(self, stage: str, folder: Path) -> None:
        self.stage, self.folder = stage, folder

    def read_json(self, name: str, kind: type = object) -> object:
        return json.loads((self.folder / name).read_text())

    def weights(self) -> Path:
        return self.folder / "weights.safetensors"


@pytest.mark.parametrize(("size", "channels"), [(32, 3), ([20, 48], 1)])
def test_a_data_sets_own_classifier_judges_its_own_kind_of_images(size: object, channels: int, tmp_path: Path):
    network = build_classifier(2, channels).eval()
    save_file(network.state_dict(), tmp_path / "weights.safetensors")
    facts = {"classes": ["a", "b"], "size": size, "channels": channels}
    (tmp_path / "classifier.json").write_text(json.dumps(facts))
    judge = judges.load_judge(Kept("classify", tmp_path))  # type: ignore[arg-type]
    features, probabilities = judge(images(2, 20, 48, channels), "cpu")
    assert features.shape == (2, 512) and probabilities is not None and probabilities.shape == (2, 2)
    assert judge.classes == ["a", "b"] and judge.accuracy == 0.9


def test_a_pretrained_encoder_judges_images_of_its_own_channels(tmp_path: Path):
    config = vit_config((16, 24), 8, 32, 1, 2, channels=1)
    save_file(build_vit(config).state_dict(), tmp_path / "weights.safetensors")
    facts = {"network": config, "objective": "mae", "size": [16, 24], "mean": [0.5], "std": [0.5]}
    (tmp_path / "encoder.json").write_text(json.dumps(facts | {"interpolation": "bicubic"}))
    judge = judges.load_judge(Kept("pretrain", tmp_path))  # type: ignore[arg-type]
    assert judge(images(2, 20, 20, channels=1), "cpu").features.shape == (2, 32)
