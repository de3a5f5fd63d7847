"""Pictures stay small and show what they hold."""

import io

import numpy as np
from PIL import Image

from embprobe.page.pictures import grid, png, webp


def test_pictures_are_lossless_where_that_is_smaller_and_never_larger_than_needed() -> None:
    flat = np.zeros((4, 32, 32, 3), np.uint8)
    data, size = webp(grid(flat, 2), 2)
    assert size == (66, 66) and (np.asarray(Image.open(io.BytesIO(data)).convert("RGB")) == grid(flat, 2)).all()
    large = np.random.default_rng(0).integers(0, 255, (2, 256, 256, 3), np.uint8)
    assert webp(grid(large, 2), 2)[1] == (258, 128)


def test_a_sheet_has_its_images_side_by_side_on_white() -> None:
    images = np.arange(3, dtype=np.uint8)[:, None, None, None].repeat(4, 1).repeat(4, 2).repeat(3, 3)
    sheet = grid(images, 2)
    assert sheet.shape == (10, 10, 3)
    assert (sheet[:4, :4] == 0).all() and (sheet[:4, 6:] == 1).all() and (sheet[6:, :4] == 2).all()
    assert (sheet[6:, 6:] == 255).all() and (sheet[4:6] == 255).all()
    assert (np.asarray(Image.open(io.BytesIO(png(sheet)))) == sheet).all()
