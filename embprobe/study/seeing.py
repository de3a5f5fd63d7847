"""What the encoders of a study see in the same held-out images: a row each, alike patches and attention folded."""

import io
from collections import defaultdict
from typing import TYPE_CHECKING

from embprobe.errors import DamagedError, MachineError, UserError
from embprobe.page import html
from embprobe.page.figures import Figures
from embprobe.page.pictures import grid
from embprobe.study.facts import is_untrained
from embprobe.study.reading import Study
from embprobe.views import Embeddings, Images

if TYPE_CHECKING:
    import numpy as np

    from embprobe.evaluation.seeing import Alike, Sight

SIDE, SMALL = 104, 80  # pixels of an image, and of one beside alike patches
CHOSEN, NEAREST = 3, 5  # images whose alike patches are shown, and how many of them
QUALITY = 70  # of WebP
SEEN = 13  # characters that have room beside a row
WORK = 2e12  # multiplications that attention is worth in a report
UNREADABLE = (UserError, DamagedError, MachineError, OSError)


def what_encoders_see(study: Study, figures: Figures) -> str:
    """A figure for each data set, all its encoders beneath the same images, those that learned nothing last."""
    by_images: dict[Images, list[Embeddings]] = defaultdict(list)
    missing: list[str] = []
    for embeddings in sorted((Embeddings(a) for a in study.all if a.stage == "extract"), key=is_untrained):
        try:
            by_images[embeddings.images].append(embeddings)
        except UNREADABLE as error:
            missing.append(f"{study.label(embeddings)} is left out: {error}.")
    content = "".join(Sights(study, figures, mine, missing).section() for mine in by_images.values())
    return content + html.bullets(missing) if content else ""


class Sights:
    """The encoders of one data set: what they are shown by is read here, all of it or nothing of an encoder."""

    def __init__(self, study: Study, figures: Figures, embeddings: list[Embeddings], missing: list[str]) -> None:
        from embprobe.evaluation import sights

        self.study, self.figures, self.missing = study, figures, missing
        self.sights: dict[Embeddings, Sight] = {}
        self.coloured: dict[str, np.ndarray] = {}
        self.content: dict[str, np.ndarray] = {}
        self.nearest: dict[Embeddings, Alike] = {}
        for each in embeddings:
            try:
                sight = _sight(each)
                rows = sights.colour_row(sight, SIDE), sights.content_row(sight, SIDE)
                alike = sight.alike(NEAREST)
            except UNREADABLE as error:
                self.missing.append(f"{study.label(each)} is left out: {error}.")
                continue
            self.sights[each], self.nearest[each] = sight, alike
            self.coloured[study.label(each)], self.content[study.label(each)] = rows

    def section(self) -> str:
        """The colours; alike patches and attention folded beneath."""
        if not self.sights:
            return ""
        return self.colours() + html.folded("Nearest patches, and attention", self.alike() + self.attention())

    def colours(self) -> str:
        """The images, and a row of colours for each encoder."""
        from embprobe.evaluation import sights

        told = [(self.study.label(e), *sights.shares(s)) for e, s in self.sights.items()]
        held = f"Of the variance the three components hold {', '.join(f'{who} {share}' for who, share, _ in told)}."
        place = f"Of the variance it explains {', '.join(f'{who} {share}' for who, _, share in told)}."
        pair = self.rows("seen-colours", self.coloured, f"The tokens as they are. {held}")
        pair += self.rows("seen-content", self.content, f"{sights.CONTENT} {place}")
        return html.text(sights.COLOURS) + html.row(pair, large=True)

    def attention(self) -> str:
        """A row of maps for each encoder that has attention, and why others that have it are left out."""
        from embprobe.evaluation import seeing, sights

        rows, words = {}, []
        for embeddings, sight in self.sights.items():
            label = self.study.label(embeddings)
            if _work(embeddings) > WORK:
                self.missing.append(f"{label}'s attention is left out, since it is large: embprobe show "
                                    f"{embeddings.short} --png FOLDER draws it.")  # fmt: skip
                continue
            try:
                found = seeing.attention_of(embeddings.artefact, sight.rows)
            except UNREADABLE as error:
                self.missing.append(f"{label}'s attention is left out: {error}.")
                continue
            if found is not None:
                rows[label] = sights.attention_row(found, sight.images, SIDE)
                words.append(f"{label}: {sights.attention_words(found)}.")
        figure = self.rows("seen-attention", rows, " ".join([sights.ATTENTION, *words])) if rows else ""
        return html.row(figure, large=True)

    def rows(self, name: str, rows: "dict[str, np.ndarray]", caption: str) -> str:
        """The images, and rows beneath them."""
        import numpy as np

        from embprobe.evaluation import sights

        first = next(iter(self.sights.values()))
        photographs = sights.photographs(first.images, first.rows, SIDE)
        sheet = grid(np.concatenate([photographs, *rows.values()]), len(photographs))
        return self.keep(f"{name}-{first.images.short}", sheet, caption, ("image", *map(_beside, rows)))

    def alike(self) -> str:
        """A sheet of alike patches for each encoder."""
        from embprobe.evaluation import sights

        sheets = ""
        for embeddings, alike in self.nearest.items():
            sight = self.sights[embeddings]
            cells = sights.alike_cells(sight, alike, SMALL, CHOSEN)
            sheet = grid(cells, len(cells) // min(CHOSEN, len(sight.rows)))
            caption = f"{self.study.label(embeddings)}, {sights.alike_words(sight, alike)}"
            sheets += self.keep(f"seen-nearest-{embeddings.short}", sheet, caption)
        return html.text(sights.ALIKE) + html.row(sheets, large=True)

    def keep(self, name: str, sheet: "np.ndarray", caption: str, beside: tuple[str, ...] = ()) -> str:
        """Writes a sheet beside the page and returns its place in it."""
        from PIL import Image

        self.figures.sheet(name, sheet, beside)
        buffer = io.BytesIO()
        Image.fromarray(sheet).save(buffer, "WEBP", quality=QUALITY, method=4)
        return html.picture(buffer.getvalue(), caption, beside, (sheet.shape[1], sheet.shape[0]))


def _sight(embeddings: Embeddings) -> "Sight":
    """The stored tokens of an encoder. Raises UserError where none are stored."""
    from embprobe.evaluation import seeing

    if not embeddings.artefact.complete:
        raise UserError(
            f"its tokens aren't stored; embprobe show {embeddings.short} --png FOLDER computes those of a few"
        )
    return seeing.stored_sight(embeddings)


def _beside(label: str) -> str:
    """A label beside a row, long ones without their middle: what tells them apart is mostly their end."""
    return label if len(label) <= SEEN else f"{label[:4]}…{label[5 - SEEN :]}"


def _work(embeddings: Embeddings) -> float:
    """About how many multiplications the forward passes of the images shown take."""
    facts = embeddings.artefact.metrics
    return float((facts.get("parameters") or 0) * embeddings.grid[0] * embeddings.grid[-1] * 8)
