"""Maps of an image's patches as pictures: colours for numbers, patches as squares, boxes, words beneath."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

SCALE = (
    (0, 0, 4),
    (66, 10, 104),
    (147, 38, 103),
    (221, 81, 58),
    (252, 165, 10),
    (252, 255, 164),
)  # from 0 to 1: inferno
STRIP = 15  # pixels of words beneath an image
BOX = (255, 40, 40)
Box = tuple[float, float, float, float]  # top, left, bottom, right as shares of the image


def heat(values: "np.ndarray") -> "np.ndarray":
    """Numbers from 0 (dark) to 1 (bright) as RGB u8 (…,3)."""
    import numpy as np

    at, stops = values.clip(0, 1), np.linspace(0, 1, len(SCALE))
    channels = [np.interp(at, stops, [colour[c] for colour in SCALE]) for c in range(3)]
    return np.stack(channels, -1).round().astype(np.uint8)


def enlarged(maps_NhwC: "np.ndarray", size: tuple[int, int]) -> "np.ndarray":
    """Maps at a height and width of pixels, each patch a rectangle of its one colour."""
    import numpy as np

    rows, columns = (np.arange(n) * given // n for n, given in zip(size, maps_NhwC.shape[1:3], strict=True))
    return maps_NhwC[:, rows][:, :, columns]


def boxed(image_HWC: "np.ndarray", box: Box) -> "np.ndarray":
    """The image with a thin red frame around a part of it, on a white edge."""
    import numpy as np
    from PIL import Image, ImageDraw

    drawn = Image.fromarray(image_HWC)
    height, width = image_HWC.shape[:2]
    top, left, bottom, right = (round(share * side) for share, side in zip(box, (height, width) * 2, strict=True))
    draw = ImageDraw.Draw(drawn)
    draw.rectangle((left - 2, top - 2, right + 1, bottom + 1), outline="white")
    draw.rectangle((left - 1, top - 1, right, bottom), outline=BOX)
    return np.asarray(drawn)


def footed(images_NHWC: "np.ndarray", words: Sequence[str]) -> "np.ndarray":
    """Images with a strip of white beneath each, and a few words in it."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    count, height, width, _ = images_NHWC.shape
    whole = np.full((count, height + STRIP, width, 3), 255, np.uint8)
    whole[:, :height] = images_NHWC
    font = ImageFont.load_default(11)
    for number, word in enumerate(words):
        strip = Image.new("RGB", (width, STRIP), "white")
        ImageDraw.Draw(strip).text((width // 2, STRIP // 2), word, "black", font, anchor="mm")
        whole[number, height:] = np.asarray(strip)
    return whole


def captioned(sheet_HWC: "np.ndarray", words: str) -> "np.ndarray":
    """The sheet with a paragraph beneath."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font, (height, width, _) = ImageFont.load_default(13), sheet_HWC.shape
    lines = textwrap.wrap(words, max(20, int(width / 6.6)))
    whole = Image.new("RGB", (width, height + 10 + 18 * len(lines)), "white")
    whole.paste(Image.fromarray(sheet_HWC), (0, 0))
    draw = ImageDraw.Draw(whole)
    for number, line in enumerate(lines):
        draw.text((4, height + 8 + 18 * number), line, "black", font)
    return np.asarray(whole)
