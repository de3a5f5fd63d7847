"""Pictures: images side by side on a sheet, as PNG for a file and as WebP for the page."""

import io
import math
from typing import TYPE_CHECKING

from embprobe.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from PIL.Image import Image

LARGEST = 128  # pixels a side, of an image in the page; its file keeps them all
QUALITY = 95
LONGEST = 32  # characters of a title beside a row
SMALLER = ((1.0, 85), (1.0, 70), (1.0, 50), (0.7, 50), (0.5, 50), (0.35, 50), (0.25, 50))  # share of the sides, quality


def grid(images_NHWC: "np.ndarray", columns: int, gap: int = 2) -> "np.ndarray":
    """Images side by side on white, u8 (H,W,3)."""
    import numpy as np

    count, height, width, _ = images_NHWC.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(images_NHWC):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet


def titled(sheet_HWC: "np.ndarray", titles: "Sequence[str]", pitch: int) -> "np.ndarray":
    """The sheet with a title left of each of its rows, which are `pitch` pixels apart; long ones are cut."""
    import numpy as np
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(max(10, min(18, pitch // 4)))
    cut = [title if len(title) <= LONGEST else title[: LONGEST - 1] + "…" for title in titles]
    margin = round(max((font.getlength(title) for title in cut), default=0)) + 8
    height, width, _ = sheet_HWC.shape
    whole = Image.new("RGB", (width + margin, height), "white")
    whole.paste(Image.fromarray(sheet_HWC), (margin, 0))
    draw = ImageDraw.Draw(whole)
    for row, title in enumerate(cut):
        draw.text((margin - 6, row * pitch + (pitch - 2) // 2), title, "black", font, anchor="rm")
    return np.asarray(whole)


def png(image_HWC: "np.ndarray") -> bytes:
    """An image as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image_HWC).save(buffer, "PNG", optimize=True)
    return buffer.getvalue()


def write_png(path: "Path", image_HWC: "np.ndarray") -> None:
    """Writes an image; one that is there already stays. Raises UserError where another file has its name."""
    import numpy as np
    from PIL import Image

    if not path.exists():
        path.write_bytes(png(image_HWC))
        return
    try:
        same = np.array_equal(np.asarray(Image.open(path)), image_HWC)
    except (OSError, ValueError):
        same = False
    if not same:
        raise UserError(f"{path} is there already and shows something else; give a new folder")


def webp(image_HWC: "np.ndarray", columns: int, most: float = math.inf) -> tuple[bytes, tuple[int, int]]:
    """A sheet as WebP, lossless or of quality 95, whichever is smaller, and its (width, height).

    Sheets whose images are larger than 128 px are made smaller, and so is the quality, then the size, of one that takes
    more than `most` bytes: the page has a budget, the PNG beside it has none.
    """
    from PIL import Image

    image = Image.fromarray(image_HWC)
    widest = columns * (LARGEST + 2) - 2
    if image.width > widest:
        image = image.resize((widest, round(image.height * widest / image.width)), Image.Resampling.LANCZOS)
    size = image.size
    best = min(_encoded(image, lossless=True, quality=50), _encoded(image, quality=QUALITY), key=len)
    for share, quality in SMALLER:
        if len(best) <= most:
            break
        shape = max(1, round(size[0] * share)), max(1, round(size[1] * share))
        smaller = image if share == 1 else image.resize(shape, Image.Resampling.LANCZOS)
        best = min(best, _encoded(smaller, quality=quality), key=len)
    return best, size


def _encoded(image: "Image", **options: float) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=4, **options)
    return buffer.getvalue()
