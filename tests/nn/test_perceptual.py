"""Perceptual distances, on random trunks."""

from pathlib import Path

import pytest
import torch
import torchvision

from embprobe.errors import UserError
from embprobe.nn.classifier import build_classifier
from embprobe.nn.perceptual import SLICES, WIDTHS, ClassifierFeatures, Lpips, Trunk, load_lpips, untrained_trunk

TRUNKS: list[Trunk] = ["lpips-vgg", "lpips-squeeze"]


def trunk_weights(trunk: Trunk) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {f"features.{k}": v for k, v in untrained_trunk(trunk).state_dict().items()}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_equal_images_are_at_distance_zero_and_more_noise_is_further(trunk: Trunk) -> None:
    distance = Lpips(trunk, trunk_weights(trunk))
    image, noise = torch.rand(2, 2, 3, 32, 32) * 2 - 1
    assert distance(image, image).abs().max() == 0
    near, far = distance(image, image + 0.05 * noise), distance(image, image + 0.5 * noise)
    assert near.shape == (2,) and (near > 0).all() and (near < far).all()
    torch.testing.assert_close(distance(image, noise), distance(noise, image))


@pytest.mark.parametrize("trunk", TRUNKS)
def test_heads_weigh_the_channels_of_every_layer(trunk: Trunk) -> None:
    weights = trunk_weights(trunk)
    image, other = torch.rand(2, 1, 3, 32, 32)
    plain = Lpips(trunk, weights)(image, other)
    doubled = Lpips(trunk, weights, [torch.full((1, w, 1, 1), 2.0) for w in WIDTHS[trunk]])(image, other)
    torch.testing.assert_close(doubled, 2 * plain)


def test_the_trunks_have_torchvisions_key_names() -> None:
    vgg, squeeze = trunk_weights("lpips-vgg"), trunk_weights("lpips-squeeze")
    assert {int(k.split(".")[1]) for k in vgg} == {0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28}
    assert squeeze["features.12.expand3x3.weight"].shape == (256, 64, 3, 3)
    assert {int(k.split(".")[1]) for k in squeeze} == {0, 3, 4, 6, 7, 9, 10, 11, 12}


@pytest.mark.parametrize("trunk", TRUNKS)
def test_features_are_torchvisions_own_activations(trunk: Trunk) -> None:
    weights = trunk_weights(trunk)
    model = torchvision.models.vgg16() if trunk == "lpips-vgg" else torchvision.models.squeezenet1_1()
    model.features.load_state_dict({k.removeprefix("features."): v for k, v in weights.items()})
    x = torch.randn(1, 3, 48, 64)
    features = list(Lpips(trunk, weights).features(x))
    assert [f.shape[1] for f in features] == list(WIDTHS[trunk])
    for end, ours in zip(SLICES[trunk], features, strict=True):
        assert torch.equal(ours, model.eval().features[:end](x))


def test_gradients_reach_the_image_and_not_the_trunk() -> None:
    distance = Lpips("lpips-squeeze", trunk_weights("lpips-squeeze"))
    image = torch.rand(1, 3, 32, 32, requires_grad=True)
    distance(image, torch.rand(1, 3, 32, 32)).sum().backward()
    assert image.grad is not None and all(p.grad is None for p in distance.parameters())


def test_a_classifier_with_torchvisions_keys_serves_as_trunk() -> None:
    import timm

    weights = timm.create_model("resnet18", pretrained=False, num_classes=5).state_dict()
    distance = ClassifierFeatures(weights).train()
    assert not distance.training
    image, other = torch.rand(2, 1, 3, 64, 64)
    assert distance(image, image).item() == 0 and distance(image, other).item() > 0


def test_images_of_other_channels_than_the_trunks_are_refused() -> None:
    grey = torch.rand(1, 1, 32, 32)
    with pytest.raises(UserError, match="3 channels, these have 1"):
        Lpips("lpips-squeeze", trunk_weights("lpips-squeeze"))(grey, grey)
    own = ClassifierFeatures(build_classifier(2, channels=1).state_dict())
    assert own(grey, torch.rand(1, 1, 32, 32)).item() > 0


def test_a_missing_or_foreign_file_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"vgg16-397923af\.pth.*--perceptual-weights"):
        load_lpips("lpips-vgg", None, None)
    foreign = tmp_path / "foreign.pth"
    torch.save(trunk_weights("lpips-squeeze"), foreign)
    with pytest.raises(UserError, match="does not hold"):
        load_lpips("lpips-vgg", foreign, None)
    foreign.write_bytes(b"not weights")
    with pytest.raises(UserError, match="it is a text file"):
        load_lpips("lpips-vgg", foreign, None)
