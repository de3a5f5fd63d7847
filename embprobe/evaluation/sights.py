"""The pictures of what an encoder sees: a row of maps beneath the images, and alike patches beside each other."""

import numpy as np

from embprobe.evaluation.seeing import Alike, Attention, Sight
from embprobe.metrics.patches import TAILS
from embprobe.page.maps import STRIP, Box, boxed, enlarged, footed, heat
from embprobe.views import Images

CROP = 0.5  # of the sides of the image that an alike patch is of


def photographs(images: Images, rows: np.ndarray, side: int, boxes: list[Box] | None = None) -> np.ndarray:
    """Images, or the parts of them in the boxes, as RGB u8 whose longer side is so many pixels."""
    from PIL import Image

    pixels = images.array.take(rows)
    pixels = np.ascontiguousarray(pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, -1))
    height, width = cell(images, side)
    drawn = np.empty((len(rows), height, width, 3), np.uint8)
    for place, image in enumerate(pixels):
        top, left, bottom, right = boxes[place] if boxes else (0.0, 0.0, 1.0, 1.0)
        part = (left * image.shape[1], top * image.shape[0], right * image.shape[1], bottom * image.shape[0])
        drawn[place] = np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS, box=part))
    return drawn


def cell(images: Images, side: int) -> tuple[int, int]:
    """Height and width at which an image is drawn whose longer side is so many pixels."""
    longest = max(images.size)
    height, width = (max(1, round(side * length / longest)) for length in images.size)
    return height, width


def colour_row(sight: Sight, side: int) -> np.ndarray:
    """The tokens' colours of each image shown."""
    return enlarged(sight.colour_maps(), cell(sight.images, side))


def content_row(sight: Sight, side: int) -> np.ndarray:
    """The colours of what the images add to the mean token of each place."""
    return enlarged(sight.content_maps(), cell(sight.images, side))


def shares(sight: Sight) -> tuple[str, str]:
    """Of the tokens' variance what the three components hold, and what place alone explains."""
    return f"{100 * sight.colours.share:.0f} %", f"{100 * sight.fitted.position_share:.0f} %"


COLOURS = (
    "Patch tokens by their first three principal components, as red, green and blue. Components are of training tokens, "
    f"centred and not scaled, and drawn from their {TAILS[0]:.0f}st to their {TAILS[1]:.0f}th percentile. Colours are each "
    "row's own: alike within a row is alike to that encoder, the same colour in two rows means nothing."
)
CONTENT = "Less place: the mean token of each place, which is the same in every image, is taken out."


def attention_row(attention: Attention, images: Images, side: int) -> np.ndarray:
    """The attention of each image, from none (dark) to the most that one of its patches gets (bright)."""
    maps = attention.maps
    shares = maps / np.maximum(maps.max((1, 2), keepdims=True), 1e-12)
    return enlarged(heat(shares), cell(images, side))


def attention_words(attention: Attention) -> str:
    """What the maps of attention are of, and how uneven it is."""
    whose = "what the class token pays to each patch" if attention.by_class else "what each patch receives of all"
    most = float(np.median(attention.maps.max((1, 2))))
    return f"{whose}; the brightest gets {most:.1f} times an even share (median of the images)"


ATTENTION = "Attention in the last block, mean over heads; each image from 0 (dark) to its own most (bright)."


def alike_cells(sight: Sight, alike: Alike, side: int, count: int) -> np.ndarray:
    """For the first images a row: the image and its chosen patch, cosines to its own, alike patches of others; with words."""
    box = patch_box(alike.place, sight.grid)
    whole = photographs(sight.images, sight.rows[:count], side)
    own = enlarged(heat(alike.own), whole.shape[1:3])
    lines = []
    for number in range(len(whole)):
        first = footed(np.stack([boxed(whole[number], box), boxed(own[number], box)]), ("chosen", "cosine to it"))
        lines.append(np.concatenate([first, _others(sight, alike, side, number)]))
    return np.concatenate(lines)


def _others(sight: Sight, alike: Alike, side: int, number: int) -> np.ndarray:
    """The alike patches of one image, boxed in a part of the images that they are of."""
    boxes = [patch_box((int(y), int(x)), sight.grid) for y, x in alike.places[number]]
    crops = [around(box) for box in boxes]
    height, width = cell(sight.images, side)
    if not boxes:
        return np.empty((0, height + STRIP, width, 3), np.uint8)
    drawn = photographs(sight.images, alike.rows[number], side, crops)
    framed = [boxed(image, within(box, crop)) for image, box, crop in zip(drawn, boxes, crops, strict=True)]
    return footed(np.stack(framed), [f"{cosine:.2f}" for cosine in alike.cosines[number]])


ALIKE = (
    "The patch in the middle of each image, its cosine to the image's other patches from 0 or less (dark) to 1 (bright), and "
    "the patches most like it of other images, one an image; cosines of tokens standardised per channel."
)


def alike_words(sight: Sight, alike: Alike) -> str:
    """Among how many they were looked for, and how many lie where the chosen patches do."""
    patches, found = sight.grid[0] * sight.grid[1], alike.cosines.size
    return (
        f"among {len(sight.searched):,} images; {alike.at_same_place} of the {found} nearest (of {len(alike.rows)} "
        f"images) lie at the very place of the chosen patch, {found / patches:.1f} by chance"
    )


def patch_box(place: tuple[int, int], grid: tuple[int, int]) -> Box:
    """A patch's part of its image."""
    (y, x), (rows, columns) = place, grid
    return y / rows, x / columns, (y + 1) / rows, (x + 1) / columns


def around(box: Box) -> Box:
    """A part of the image with a patch in it, in the middle where there is room; larger patches are whole."""
    edges = []
    for low, high in ((box[0], box[2]), (box[1], box[3])):
        side = max(CROP, high - low)
        start = min(1 - side, max(0.0, (low + high - side) / 2))
        edges.append((start, start + side))
    return edges[0][0], edges[1][0], edges[0][1], edges[1][1]


def within(box: Box, crop: Box) -> Box:
    """A box as shares of a crop."""
    height, width = crop[2] - crop[0], crop[3] - crop[1]
    top, left, bottom, right = box
    return (top - crop[0]) / height, (left - crop[1]) / width, (bottom - crop[0]) / height, (right - crop[1]) / width
