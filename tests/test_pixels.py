"""Images as numbers, at any height, width and number of channels."""

import numpy as np
import pytest
import torch

from embprobe import pixels
from embprobe.errors import UserError


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_at_their_own_size_images_are_standardised_and_nothing_else() -> None:
    x = images(2, 8, 12, 3)
    mean, std = pixels.IMAGENET
    expected = ((x.double() / 255 - torch.tensor(mean)) / torch.tensor(std)).permute(0, 3, 1, 2).float()
    torch.testing.assert_close(pixels.preprocess(x, (8, 12), mean, std, "bicubic"), expected)
    assert torch.equal(pixels.standardised(x, mean, std), pixels.preprocess(x, (8, 12), mean, std, "bilinear"))


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("size", [(16, 8), (5, 31)])
def test_height_and_width_are_resized_apart_in_whole_steps(size: tuple[int, int], channels: int) -> None:
    x = images(2, 12, 20, channels)
    signed = pixels.to_signed(x, size)
    assert signed.shape == (2, channels, *size)
    steps = (signed + 1) * 127.5
    torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
    small = pixels.resized(x.numpy(), size)
    assert small.dtype == np.uint8
    assert np.array_equal(small, pixels.to_u8(signed).numpy())


def test_a_resize_that_keeps_the_size_changes_nothing() -> None:
    x = images(2, 6, 9, 3)
    assert np.array_equal(pixels.resized(x.numpy(), (6, 9)), x.numpy())
    assert torch.equal(pixels.to_u8(pixels.to_signed(x, (6, 9))), x)


def test_images_of_other_channels_are_refused_and_never_repeated() -> None:
    with pytest.raises(UserError, match="1 channel and this network takes 3"):
        pixels.preprocess(images(1, 8, 8, 1), (8, 8), *pixels.IMAGENET, "bicubic")


def test_other_images_than_rgb_are_standardised_by_a_half() -> None:
    assert pixels.channel_statistics(3) == pixels.IMAGENET
    assert pixels.channel_statistics(1) == ((0.5,), (0.5,))


def test_patches_come_in_reading_order() -> None:
    x = torch.arange(3 * 4 * 6.0).reshape(1, 3, 4, 6)
    patches = pixels.patchify(x, 2)
    assert patches.shape == (1, 6, 12)
    torch.testing.assert_close(patches[0, 2], x[0, :, :2, 4:].permute(1, 2, 0).reshape(-1))
    torch.testing.assert_close(patches[0, 3], x[0, :, 2:, :2].permute(1, 2, 0).reshape(-1))


def crops(x: torch.Tensor, low: float, flip: bool) -> torch.Tensor:
    return pixels.cropped(x, pixels.random_crops(len(x), low, flip, torch.Generator().manual_seed(0)))


def test_a_crop_of_everything_without_a_flip_keeps_the_mean() -> None:
    x = torch.rand(2, 3, 16, 24)
    torch.testing.assert_close(crops(x, 1.0, False).mean(), x.mean(), atol=0.02, rtol=0)


def test_about_half_of_the_crops_are_mirrored_if_asked() -> None:
    ramp = torch.linspace(0, 1, 16).expand(400, 1, 16, 16)
    cropped = crops(ramp, 0.9, True)
    mirrored = (cropped[..., 0] > cropped[..., -1]).float().mean((1, 2))
    assert 0.4 < mirrored.mean() < 0.6
    assert (crops(ramp, 0.9, False)[..., 0].mean((1, 2)) < 0.5).all()
