"""What `show --png` draws of embeddings: their colours, alike patches, and the encoder's attention."""

from typing import TYPE_CHECKING

from embprobe import console
from embprobe.errors import UserError
from embprobe.page.maps import captioned
from embprobe.page.pictures import grid, titled
from embprobe.store import Artefact

if TYPE_CHECKING:
    import numpy as np

SIDE = 160  # pixels of an image


def draw_embeddings(artefact: Artefact) -> "dict[str, np.ndarray]":
    """pca.png, nearest.png, and attention.png where the network has it and its weights are there."""
    from embprobe.evaluation import seeing, sights
    from embprobe.views import Embeddings

    sight = seeing.stored_sight(Embeddings(artefact)) if artefact.complete else seeing.computed_sight(artefact)
    photographs = sights.photographs(sight.images, sight.rows, SIDE)
    held, place = sights.shares(sight)
    words = (
        f"{sights.COLOURS} The three hold {held} of the variance. {sights.CONTENT} It explains {place} of the variance."
    )
    rows = [photographs, sights.colour_row(sight, SIDE), sights.content_row(sight, SIDE)]
    drawn = {"pca.png": _rows(rows, ["image", "PCA", "less place"], words)}
    alike = sight.alike()
    cells = sights.alike_cells(sight, alike, SIDE, len(sight.rows))
    words = f"{sights.ALIKE} Looked for {sights.alike_words(sight, alike)}."
    drawn["nearest.png"] = captioned(grid(cells, len(cells) // len(sight.rows)), words)
    try:
        attention = seeing.attention_of(artefact, sight.rows)
    except UserError as error:
        console.say(f"no attention.png: {error}")
        return drawn
    if attention is not None:
        pair = [photographs, sights.attention_row(attention, sight.images, SIDE)]
        words = f"{sights.ATTENTION} It is {sights.attention_words(attention)}."
        drawn["attention.png"] = _rows(pair, ["image", "attention"], words)
    return drawn


def _rows(rows: "list[np.ndarray]", titles: list[str], words: str) -> "np.ndarray":
    """Rows of pictures beneath each other, a title beside each and words beneath."""
    import numpy as np

    sheet = grid(np.concatenate(rows), len(rows[0]))
    return captioned(titled(sheet, titles, rows[0].shape[1] + 2), words)
