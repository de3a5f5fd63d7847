"""Images as numbers: between u8 and float, resized, standardised, cropped, cut into patches."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from embprobe.errors import UserError

Statistics = tuple[float, ...] | Tensor
"""A number for each channel (C,)."""

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and std of RGB in [0, 1] over ImageNet."""


def channel_statistics(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, std) that images of so many channels are standardised by: ImageNet's for RGB, else 0.5 and 0.5."""
    return IMAGENET if channels == 3 else ((0.5,) * channels, (0.5,) * channels)


def preprocess(images_BHWC: Tensor, size: tuple[int, int], mean: Statistics, std: Statistics, how: str) -> Tensor:
    """u8 images → standardised f32 (B,C,*size), resized by the interpolation `how`.

    Resizing is antialiased and ends in whole u8 steps, as image files hold. A mean and std that are tensors on the
    images' device save a wait for it. Raises UserError where the images have another number of channels than `mean`.
    """
    check_channels(images_BHWC.shape[-1], len(mean))
    return _by_channel(_resized(images_BHWC, size, how), mean, std)


def standardised(images_BHWC: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """u8 images → standardised f32 (B,C,H,W) at their own size."""
    return _by_channel(images_BHWC.permute(0, 3, 1, 2).float(), mean, std)


def check_channels(given: int, wanted: int) -> None:
    """Raises UserError unless the images have as many channels as the network takes."""
    if given != wanted:
        raise UserError(
            f"the images have {given} channel{'s' * (given != 1)} and this network takes {wanted}; give one made for such "
            "images (an encoder: pixels, random:vit-… or a pretrain artefact; a judge: a classify artefact)"
        )


def resized(images_BHWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """u8 images at another height and width: antialiased bicubic, back to u8."""
    x = _resized(torch.from_numpy(images_BHWC), size, "bicubic")
    return x.to(torch.uint8).permute(0, 2, 3, 1).numpy()


def to_signed(images_BHWC: Tensor, size: tuple[int, int]) -> Tensor:
    """u8 images as f32 (B,C,*size) in [-1, 1]; resized by an antialiased bicubic, in whole u8 steps."""
    return _resized(images_BHWC, size, "bicubic") / 127.5 - 1


def to_u8(images_BCHW: Tensor) -> Tensor:
    """Images in [-1, 1] as u8 (B,H,W,C)."""
    return ((images_BCHW.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


def patchify(images_BCHW: Tensor, patch: int) -> Tensor:
    """(B,C,H,W) → (B, L, patch²·C), patches in reading order; both sides are multiples of `patch`."""
    count, channels, height, width = images_BCHW.shape
    grid = images_BCHW.reshape(count, channels, height // patch, patch, width // patch, patch)
    return grid.permute(0, 2, 4, 3, 5, 1).reshape(count, -1, patch * patch * channels)


def unpatchify(patches_BLP: Tensor, patch: int, grid: Sequence[int]) -> Tensor:
    """The inverse of `patchify`: (B, L, patch²·C) on a grid of rows and columns → (B,C,H,W)."""
    rows, columns = grid
    cut = patches_BLP.reshape(len(patches_BLP), rows, columns, patch, patch, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(len(patches_BLP), -1, rows * patch, columns * patch)


def normalised_patches(images_BCHW: Tensor, patch: int) -> Tensor:
    """The pixels of each patch (B, L, patch²·C) at mean 0 and variance 1 (He et al. 2022, section 4.1)."""
    pixels = patchify(images_BCHW, patch)
    return (pixels - pixels.mean(-1, keepdim=True)) / (pixels.var(-1, keepdim=True) + 1e-6).sqrt()


def random_crops(count: int, low: float, flip: bool, generator: torch.Generator) -> Tensor:
    """Random resized crops as affine maps (count,2,3), on the CPU: area `low` to 1; mirrored half of the time if asked.

    The crop's aspect is 3/4 to 4/3 of the image's own.
    """

    def uniform(low: float, high: float) -> Tensor:
        return torch.empty(count).uniform_(low, high, generator=generator)

    area, ratio = uniform(low, 1.0), torch.exp(uniform(-0.2877, 0.2877))
    width, height = (area * ratio).sqrt().clamp(max=1.0), (area / ratio).sqrt().clamp(max=1.0)
    x, y = uniform(-1, 1) * (1 - width), uniform(-1, 1) * (1 - height)
    sign = torch.where(uniform(0, 1) < 0.5, -1.0, 1.0) if flip else torch.ones(count)
    zero = torch.zeros(count)
    return torch.stack([torch.stack([width * sign, zero, x], 1), torch.stack([zero, height, y], 1)], 1)


def cropped(images_BCHW: Tensor, crops_B23: Tensor) -> Tensor:
    """The crops, resized bilinearly to the images' own size."""
    grid = F.affine_grid(crops_B23.to(images_BCHW.dtype), list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, padding_mode="reflection", align_corners=False)


def _resized(images_BHWC: Tensor, size: tuple[int, int], how: str) -> Tensor:
    """f32 (B,C,*size) in whole u8 steps."""
    x = images_BHWC.permute(0, 3, 1, 2).float()
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, tuple(size), mode=how, antialias=True, align_corners=False).round().clamp(0, 255)


def _by_channel(x_BCHW: Tensor, mean: Statistics, std: Statistics) -> Tensor:
    mean_C11, std_C11 = (
        v[:, None, None] if isinstance(v, Tensor) else _constant(v, x_BCHW.device) for v in (mean, std)
    )
    return (x_BCHW / 255 - mean_C11) / std_C11


@lru_cache(64)
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """f32 (C,1,1), kept on the device: every copy to a GPU would wait for it."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None].to(device)
