"""What `show --png` draws of an artefact, by the stage that made it."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from embprobe import console
from embprobe.errors import UserError
from embprobe.inspection.sightings import draw_embeddings
from embprobe.page.pictures import LARGEST, grid, titled, write_png
from embprobe.store import Artefact
from embprobe.views import Images
from embprobe.views.view import evenly

if TYPE_CHECKING:
    import numpy as np

ACROSS = 8  # images beside each other
DOWN = 8  # rows where there are no classes
MOST_CLASSES = 100  # rows where there are


def write_pictures(artefact: Artefact, folder: Path) -> None:
    """Draws an artefact into a folder. Raises UserError for one that nothing is drawn of."""
    if artefact.stage not in DRAWN:
        raise UserError(f"show --png draws what {' or '.join(DRAWN)} makes, not {artefact.stage}; leave --png out")
    if not artefact.complete and artefact.stage != "extract":  # of tokens that aren't stored a few are computed
        raise UserError(f"{artefact.stage} {artefact.short} isn't finished; run its command again first")
    for name, picture in DRAWN[artefact.stage](artefact).items():
        path = folder / name
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_png(path, picture)
        except OSError as error:
            raise UserError(f"cannot write {path} ({error.strerror}); give another folder") from None
        console.say(f"drew {path.absolute()}")


def contact_sheet(artefact: Artefact) -> "dict[str, np.ndarray]":
    """A few images of each class, a class each row with its name and number; without classes a few of all."""
    import numpy as np

    images = Images(artefact)
    if images.labels is None or not images.classes:
        return {"contact.png": grid(small(images, evenly(np.arange(len(images)), ACROSS * DOWN)), ACROSS)}
    lines, titles = [], []
    for number, name in enumerate(images.classes[:MOST_CLASSES]):
        mine = np.nonzero(images.labels == number)[0]
        pictures = small(images, evenly(mine, ACROSS))
        lines.append(np.pad(pictures, ((0, ACROSS - len(pictures)), (0, 0), (0, 0), (0, 0)), constant_values=255))
        titles.append(f"{name} {len(mine)}")
    if len(images.classes) > MOST_CLASSES:
        console.say(f"the first {MOST_CLASSES} of {len(images.classes)} classes are drawn")
    return {"contact.png": titled(grid(np.concatenate(lines), ACROSS), titles, lines[0].shape[1] + 2)}


def small(images: Images, rows: "np.ndarray") -> "np.ndarray":
    """Images as RGB of at most 128 px: one channel is grey, of more than three the first three are shown."""
    import numpy as np
    from PIL import Image

    height, width = images.size
    scale = min(1.0, LARGEST / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    drawn = np.empty((len(rows), size[1], size[0], 3), np.uint8)
    for place, row in enumerate(rows):
        image = images.array.take(np.array([row]))[0]
        image = image[..., :3] if image.shape[-1] >= 3 else image[..., :1].repeat(3, -1)
        drawn[place] = np.asarray(Image.fromarray(np.ascontiguousarray(image)).resize(size, Image.Resampling.LANCZOS))
    return drawn


DRAWN: Mapping[str, Callable[[Artefact], "dict[str, np.ndarray]"]] = {
    "ingest": contact_sheet,
    "extract": draw_embeddings,
}
