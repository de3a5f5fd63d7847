"""Maps as pictures: colours from dark to bright, patches as rectangles, frames, words."""

import numpy as np

from embprobe.page import maps


def test_heat_goes_from_dark_to_bright_and_no_further() -> None:
    drawn = maps.heat(np.linspace(-1, 2, 31)).astype(int)
    assert (drawn[0] == maps.SCALE[0]).all() and (drawn[-1] == maps.SCALE[-1]).all()
    assert (np.diff(drawn.sum(1)) >= 0).all()


def test_each_patch_is_a_rectangle_of_its_one_colour_whatever_the_sizes() -> None:
    patches = np.arange(2 * 3 * 5 * 3, dtype=np.uint8).reshape(2, 3, 5, 3)
    drawn = maps.enlarged(patches, (6, 20))
    assert (drawn == patches.repeat(2, 1).repeat(4, 2)).all()
    uneven = maps.enlarged(patches, (7, 16))
    assert uneven.shape == (2, 7, 16, 3) and (uneven[:, 0, 0] == patches[:, 0, 0]).all()
    assert (uneven[:, -1, -1] == patches[:, -1, -1]).all()


def test_a_box_frames_its_part_and_leaves_it_as_it_was() -> None:
    image = np.zeros((40, 40, 3), np.uint8)
    drawn = maps.boxed(image, (0.25, 0.5, 0.5, 0.75))
    assert (
        (drawn[10:20, 20:30] == 0).all()
        and (drawn[9, 20:30] == maps.BOX).all()
        and (drawn[20, 20:30] == maps.BOX).all()
    )
    assert (drawn[:8] == 0).all() and (image == 0).all()


def test_words_stand_beneath() -> None:
    images = np.zeros((2, 30, 40, 3), np.uint8)
    footed = maps.footed(images, ["0.91", ""])
    assert footed.shape == (2, 30 + maps.STRIP, 40, 3) and (footed[:, :30] == 0).all()
    assert (footed[0, 30:] < 128).any() and (footed[1, 30:] == 255).all()
    sheet = maps.captioned(np.zeros((50, 300, 3), np.uint8), "word " * 30)
    assert sheet.shape[1] == 300 and (sheet[:50] == 0).all() and (sheet[50:] < 128).any()
