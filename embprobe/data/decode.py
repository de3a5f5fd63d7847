"""Bytes of an image file → an upright RGB square of a given size."""

import io
import struct
import zlib
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

MAX_PIXELS = 89_478_485  # Pillow's own bound: a quarter of 1 GiB at 3 bytes a pixel
MAX_BYTES = 1 << 29
RECIPE = {
    "crop": "centred square, offset rounded down",
    "resize": "Pillow bicubic, antialiased, u8",
    "orientation": "EXIF applied",
    "alpha": "composited over white",
    "depth_16": "value * 255 / 65535, rounded",
    "icc": "ignored",
    "frames": "first",
}
USUAL = (
    "JPEG",
    "PNG",
    "GIF",
    "BMP",
    "DIB",
    "PPM",
)  # Pillow has these at once; for the others it loads all that it knows
FORMATS = (*USUAL, "MPO", "WEBP", "TIFF", "JPEG2000", "AVIF")  # none that calls a program of its own
# What Pillow's format plugins are known to raise on damaged input.
DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    struct.error,
    zlib.error,
)
ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class BadImage(Exception):
    """A file that is no whole image; the message says why, without the file's name."""


class Decoded(NamedTuple):
    """`pixels` u8 (size,size,3), and height and width of the upright original."""

    pixels: NDArray[np.uint8]
    height: int
    width: int


def decode(data: bytes, size: int) -> Decoded:
    """Centre-crop to a square and resize with antialiased bicubic; smaller images are enlarged. Raises BadImage."""
    image = upright(loaded(data))
    width, height = image.size
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    square = rgb(image.crop((left, top, left + side, top + side)))
    if side != size:
        square = square.resize((size, size), Image.Resampling.BICUBIC)
    return Decoded(np.asarray(square), height, width)


def loaded(data: bytes) -> Image.Image:
    """The first frame, fully decoded; its pixel count is checked before. Raises BadImage."""
    if not data:
        raise BadImage("the file is empty")
    try:
        image = _opened(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise BadImage(f"more than {MAX_PIXELS:,} pixels") from None
    except UnidentifiedImageError:
        raise BadImage("not an image that Pillow knows") from None
    except DAMAGE as error:
        raise BadImage(f"damaged: {error}") from None
    if image.width * image.height > MAX_PIXELS:
        raise BadImage(f"{image.width}x{image.height} is more than {MAX_PIXELS:,} pixels")
    try:
        image.load()
    except DAMAGE as error:
        reason = f"truncated after {len(data):,} bytes" if "truncated" in str(error) else f"damaged: {error}"
        raise BadImage(reason) from None
    return image


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=USUAL)
    except UnidentifiedImageError:
        return Image.open(io.BytesIO(data), formats=known_formats())


@cache
def known_formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow can read; it knows others, such as EPS, which runs Ghostscript."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF orientation asks; unreadable EXIF counts as none."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation)
    except DAMAGE:
        return image
    turn = ORIENTATIONS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def rgb(image: Image.Image) -> Image.Image:
    """8-bit RGB of any mode; raises BadImage for modes without a known range (32-bit integers, floats)."""
    if image.mode.startswith("I;16"):
        levels = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise BadImage(f"pixels of mode {image.mode} have no known range; save it with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")
