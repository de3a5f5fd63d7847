"""Every kind of image file becomes the same upright RGB square; damaged ones say why."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from embprobe.data.decode import BadImage, decode


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def halves(top: tuple[int, ...], bottom: tuple[int, ...], mode: str = "RGB") -> Image.Image:
    image = Image.new(mode, (16, 16), bottom)
    image.paste(top, (0, 0, 16, 8))
    return image


def test_exif_orientation_turns_the_image_upright() -> None:
    upright = halves((255, 0, 0), (0, 0, 255))
    lying = upright.transpose(Image.Transpose.ROTATE_90)  # what a camera held sideways stores
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = decode(saved(lying, exif=exif), 16).pixels
    np.testing.assert_array_equal(pixels, np.asarray(upright))


def test_height_and_width_are_those_of_the_upright_original() -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    decoded = decode(saved(Image.new("RGB", (40, 20)), exif=exif), 8)
    assert (decoded.height, decoded.width) == (40, 20)


def test_centre_crop_keeps_the_middle_square() -> None:
    image = Image.new("RGB", (30, 10), (0, 0, 0))
    image.paste((255, 255, 255), (10, 0, 20, 10))
    assert decode(saved(image), 10).pixels.min() == 255


def test_resizing_is_antialiased_bicubic() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    expected = Image.fromarray(noise).resize((16, 16), Image.Resampling.BICUBIC)
    np.testing.assert_array_equal(decode(saved(Image.fromarray(noise)), 16).pixels, np.asarray(expected))
    assert np.asarray(expected).std() < 0.4 * noise.std()


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_images_get_three_equal_channels(mode: str) -> None:
    pixels = decode(saved(halves((255,) * 3, (0,) * 3).convert(mode)), 16).pixels
    assert pixels.shape == (16, 16, 3)
    assert pixels[2].min() == 255
    assert pixels[12].max() == 0


def test_palette_images_take_their_colours() -> None:
    image = halves((255, 0, 0), (0, 0, 255)).quantize(4)
    np.testing.assert_array_equal(decode(saved(image), 16).pixels[1, 1], [255, 0, 0])


def test_cmyk_is_converted() -> None:
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    red, green, blue = decode(saved(image, "TIFF"), 16).pixels[4, 4]
    assert red < 20
    assert min(green, blue) > 235


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_transparency_shows_white(kind: str) -> None:
    image = halves((0, 0, 0, 0), (10, 20, 30, 255), "RGBA")
    pixels = decode(saved(image, kind, lossless=True), 16).pixels
    np.testing.assert_array_equal(pixels[2, 2], [255, 255, 255])
    np.testing.assert_array_equal(pixels[12, 2], [10, 20, 30])


def test_a_transparent_palette_entry_shows_white() -> None:
    image = halves((255, 0, 0), (0, 0, 255)).quantize(2)
    index = image.getpixel((0, 0))
    np.testing.assert_array_equal(decode(saved(image, transparency=index), 16).pixels[2, 2], [255, 255, 255])


def test_sixteen_bit_grey_is_scaled_to_eight() -> None:
    levels = np.linspace(0, 65535, 256).round().astype(np.uint16).reshape(16, 16)
    pixels = decode(saved(Image.fromarray(levels)), 16).pixels
    np.testing.assert_array_equal(pixels[..., 0].reshape(-1), np.arange(256))


@pytest.mark.parametrize("cut", [0.3, 0.9])
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_truncated_file_is_bad_and_says_after_how_many_bytes(kind: str, cut: float) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    data = saved(noise, kind)
    short = data[: int(len(data) * cut)]
    with pytest.raises(BadImage, match=rf"truncated after {len(short):,} bytes|damaged"):
        decode(short, 16)


@pytest.mark.parametrize(
    "data", [b"", b"not an image", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"BM"]
)
def test_what_is_no_image_is_bad(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode(data, 16)


def png_of_size(width: int, height: int) -> bytes:
    def block(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + block(b"IHDR", header) + block(b"IDAT", zlib.compress(b"")) + block(b"IEND", b"")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [9_460, 20_000, 100_000])
def test_a_decompression_bomb_is_refused_by_its_header(side: int) -> None:
    with pytest.raises(BadImage, match="89,478,485 pixels"):
        decode(png_of_size(side, side), 16)
