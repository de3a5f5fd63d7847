"""The pictures of a study: samples, reconstructions by step, and samples beside the training images they resemble."""

import math
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from embprobe.page import html
from embprobe.page.figures import Figures
from embprobe.page.pictures import LARGEST, grid, webp
from embprobe.store import Array, Json
from embprobe.study.facts import same_training
from embprobe.study.moments import Moment
from embprobe.study.reading import SPACES, Study
from embprobe.study.training import file_name
from embprobe.views import Decoder, Evaluation, Images, Samples

if TYPE_CHECKING:
    import numpy as np

ACROSS = 8
ROWS = 8
STRIP = 12  # images of each encoder beneath the answer
CLASSES = 10  # shown at most
BUDGET = 4.5e6  # bytes of all pictures in the page; a third more as they stand in it
MOMENTS = 4  # before the end, shown at most of a denoiser
NOTHING: tuple[str, ...] = ()


class Gallery:
    """The page's pictures; each is also written as files of its own."""

    def __init__(self, study: Study, figures: Figures, moments: Sequence[Moment] = ()) -> None:
        self.study, self.figures, self.moments = study, figures, moments

    def keep(
        self, name: str, images_NHWC: "np.ndarray", caption: str, beside: tuple[str, ...] = (), across: int = ACROSS
    ) -> str:
        """Writes a sheet beside the page and returns its place in it."""
        sheet = grid(images_NHWC, across)
        self.figures.sheet(file_name(name), sheet, beside)
        data, size = webp(sheet, across, self.density * sheet[..., 0].size)
        return html.picture(data, caption, beside, size)

    @cached_property
    def density(self) -> float:
        """Bytes for a pixel, so that all pictures together keep to the page's budget."""
        pixels = 0
        for number, evaluation in enumerate(self.shown()):
            height, width = evaluation.shown.array.shape[1:3]
            grids = 1 + len(self.earlier(evaluation)) + (not number)  # the first one has real images beside it
            images = grids * ACROSS * ROWS + 2 * ACROSS * len(evaluation.copies) + STRIP
            pixels += images * min(height, LARGEST) * min(width, LARGEST)
        for decoder in [Decoder(a) for a in self.study.all if a.stage == "decode"]:
            pixels += math.prod(decoder.snapshots.shape[:-1]) * 2 if decoder.snapshots is not None else 0
        return BUDGET / max(1, pixels)

    def shown(self) -> list[Evaluation]:
        """The first evaluation of each set of samples of a finished denoiser, and of images from elsewhere."""
        every = [*self.study.final, *self.study.foreign]
        return list({e.source: e for e in reversed(every)}.values())[::-1]

    def earlier(self, evaluation: Evaluation) -> list[Evaluation]:
        """Of the same denoiser after the epochs that were kept, the first and the last of them where there are many."""
        if evaluation.is_foreign:
            return []
        mine = [m for m in self.moments if not m.last and same_training(m.samples, evaluation.samples)]
        return [m.evaluations[0] for m in (mine if len(mine) <= MOMENTS else [*mine[: MOMENTS - 1], mine[-1]])]

    def caption(self, evaluation: Evaluation, staged: bool) -> str:
        """What samples are called; after how many epochs, where some were drawn earlier."""
        epochs = f", after {evaluation.samples.epochs:.3g} epochs" if staged else ""
        return self.study.name(evaluation) + epochs

    def samples(self) -> str:
        """A grid of each set of samples, a row each class or prompt that was asked for, and one of real images."""
        import numpy as np

        sheets = ""
        by_class = by_prompt = False
        for last in self.shown():
            earlier = self.earlier(last)
            for evaluation in (*earlier, last):
                images, (label, names) = evaluation.shown.array, asked_for(evaluation.shown)
                rows, beside = np.arange(min(ACROSS * ROWS, len(images))), NOTHING
                if label is not None and len(set(label)) > 1:
                    rows, beside = class_rows(label, names)
                    of_prompts = evaluation.shown.labels is None
                    by_class, by_prompt = by_class or not of_prompts, by_prompt or of_prompts
                name = f"samples-{self.study.name(evaluation)[:40]}-{evaluation.short}"
                caption = self.caption(evaluation, bool(earlier))
                sheets += self.keep(name, pictures(images, rows), caption, beside)
        words = html.text("Beside a row: the class asked for, or for images from elsewhere theirs.") if by_class else ""
        words += html.text("Beside a row: the prompt.") if by_prompt else ""
        return words + html.row(sheets + self.real(by_class)) if sheets else ""

    def strips(self, judge: str, how: str) -> str:
        """The first samples of each encoder below real held-out images: of the same seed, and the same classes."""
        first: dict[str, Evaluation] = {}
        for evaluation in self.study.once(judge):
            row = self.study.row(evaluation, {}, self.study.report(evaluation, judge))
            if row.how == how:
                first.setdefault(row.encoder, evaluation)
        if not first:
            return ""
        evaluations = list(first.values())
        places, classes = same_places([e.shown for e in evaluations])
        lines = {"real, held out": self.held_out(evaluations[0], places, classes)}
        lines |= {name: e.shown.array.take(places) for name, e in first.items()}
        drawn = ""
        for name, images in lines.items():
            middle = (len(images) + 1) // 2
            halves = [grid(part, len(part), 1) for part in (images[:middle], images[middle:]) if len(part)]
            data = [webp(half, middle, self.density * half[..., 0].size)[0] for half in halves]
            drawn += html.strip(name, data, f"{len(images)} images: {name}")
        self.figures.sheet("strips", grid(_alike(list(lines.values())), len(places)), tuple(lines))
        noise = {(repr(e.samples.artefact.spec.get("seed")), len(e.samples)) for e in evaluations if not e.is_foreign}
        words = ["the first ones drawn, nobody chose them"]
        words += ["of the same seed for each encoder"] if len(noise) == 1 else []
        words += [f"each column of one class: {', '.join(dict.fromkeys(classes))}"] if classes else []
        return f'<div class="strips">{drawn}</div>' + html.text(f"Samples: {'; '.join(words)}.")

    def held_out(self, evaluation: Evaluation, places: "np.ndarray", classes: Sequence[str]) -> "np.ndarray":
        """As many held-out images, of these classes if there are some."""
        import numpy as np

        images = evaluation.reference
        rows = images.of_split(evaluation.held_out or images.held_out_split)
        rows = np.random.default_rng(0).permutation(rows if len(rows) else images.train)
        if classes and images.labels is not None:
            found = {name: list(rows[images.labels[rows] == c]) for c, name in enumerate(images.classes)}
            rows = np.array([found[name].pop(0) if found.get(name) else -1 for name in classes])
        rows = np.concatenate([rows, np.full(len(places), -1)])[: len(places)].astype(np.int64)
        return self.sized(images, rows, evaluation.shown.array)

    def real(self, by_class: bool) -> str:
        """Real training images, by class if the samples are."""
        import numpy as np

        for images in [e.reference for e in self.shown()][:1]:
            shuffled = np.random.default_rng(0).permutation(images.train)
            rows, beside = np.sort(shuffled[: ACROSS * ROWS]), NOTHING
            if by_class and images.labels is not None:
                places, beside = class_rows(images.labels[shuffled], images.classes)
                rows = np.where(places < 0, -1, shuffled[places])
            return self.keep("real", self.sized(images, rows), "real training images", beside)
        return ""

    def sized(self, images: Images, rows: "np.ndarray", beside: Array | None = None) -> "np.ndarray":
        """Real images at the size of those that they stand beside, else of the page's first samples."""
        real = pictures(images.array, rows)
        shapes = [beside.shape] if beside is not None else [e.shown.array.shape for e in self.shown()]
        height, width = (*shapes, (0, *real.shape[1:3]))[0][1:3]
        if real.shape[1:3] == (height, width):
            return real
        from embprobe.pixels import resized  # heavy

        return resized(real, (height, width))

    def reconstructions(self) -> str:
        """For each decoder: the same held-out images after some steps, the originals last."""
        import numpy as np

        sheets = ""
        for decoder in [Decoder(a) for a in self.study.all if a.stage == "decode"]:
            snapshots = decoder.snapshots
            if snapshots is None:
                continue
            shown, real = snapshots.read(), self.sized(decoder.images, np.array(snapshots.attrs["rows"]))
            if real.shape[1:3] != shown.shape[2:4]:
                continue
            label = self.study.label(decoder.latents.embeddings)
            beside = (*(f"{s} steps" for s in snapshots.attrs["steps"]), "original")
            sheet = np.concatenate([*shown, real])
            sheets += self.keep(f"reconstructions-{label}-{decoder.short}", sheet, label, beside, across=shown.shape[1])
        return html.row(sheets)

    def neighbours(self) -> str:
        """For each set of samples and each space: the samples most like copies above their training images."""
        sheets = ""
        for evaluation in self.shown():
            for space, test in evaluation.copies.items():
                sheets += self.worst(evaluation, space, test)
        return html.row(sheets)

    def worst(self, evaluation: Evaluation, space: str, test: Json) -> str:
        """The pairs that are nearest for what held-out images would lead one to expect."""
        import numpy as np

        pairs, samples = (test.get("worst") or [])[:ACROSS], evaluation.shown
        if not pairs:
            return ""
        mine, theirs = (np.array([pair[i] for pair in pairs], np.int64) for i in (0, 1))
        ratios = ", ".join(f"{pair[2]:.2f}" for pair in pairs)
        caption = (
            f"{self.study.name(evaluation)}, {SPACES.get(space, space)}: nearest training image below; its distance over that of "
            f"the nearest held-out or the fifth nearest training image, whichever is nearer: {ratios}"
        )
        sheet = np.concatenate([samples.array.take(mine), self.sized(evaluation.reference, theirs, samples.array)])
        return self.keep(
            f"copies-{space}-{evaluation.short}", sheet, caption, ("sample", "training"), across=len(pairs)
        )


def asked_for(shown: "Samples | Images") -> "tuple[np.ndarray | None, list[str]]":
    """What each image was asked to be, as places among names: its class, or its prompt where prompts come again."""
    import numpy as np

    prompts = shown.prompts if isinstance(shown, Samples) else None
    if prompts is None:
        return shown.labels, shown.classes
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    if 2 * len(places) > len(prompts):
        return None, []
    return np.array([places[prompt] for prompt in prompts]), [prompt or "no prompt" for prompt in places]


def same_places(shown: "Sequence[Samples | Images]") -> "tuple[np.ndarray, list[str]]":
    """Places to show of every set, each class in turn, and the classes' names; none where the sets don't agree in them."""
    import numpy as np

    count = min(len(each.array) for each in shown)
    labels = [None if each.labels is None else np.array(each.labels)[:count] for each in shown]
    first, classes = labels[0], shown[0].classes
    alike = first is not None and all(
        label is not None and (label == first).all() and each.classes == classes
        for label, each in zip(labels, shown, strict=True)
    )
    if first is None or not alike or len(set(first)) < 2:
        return np.arange(min(STRIP, count)), []
    rounds = [np.nonzero(first == c)[0] for c in sorted(set(first))][:STRIP]
    places = [of[turn] for turn in range(STRIP) for of in rounds if turn < len(of)][:STRIP]
    return np.array(places), [classes[first[place]] for place in places]


def _alike(lines: "list[np.ndarray]") -> "np.ndarray":
    """Images of several sizes at the first one's."""
    import numpy as np

    from embprobe.pixels import resized  # heavy

    size = lines[0].shape[1:3]
    return np.concatenate([line if line.shape[1:3] == size else resized(line, size) for line in lines])


def class_rows(label: "np.ndarray", classes: list[str]) -> "tuple[np.ndarray, tuple[str, ...]]":
    """Places of the first images of each class, -1 where there are too few, and the classes' names."""
    import numpy as np

    present = [c for c in range(len(classes)) if (label == c).any()][:CLASSES]
    rows = np.full((len(present), ACROSS), -1)
    for line, c in zip(rows, present, strict=True):
        places = np.nonzero(label == c)[0][:ACROSS]
        line[: len(places)] = places
    return rows.ravel(), tuple(classes[c] for c in present)


def pictures(images: Array, rows: "np.ndarray") -> "np.ndarray":
    """Images of these rows, white for -1."""
    import numpy as np

    shown = images.take(np.maximum(rows, 0)).copy()
    shown[rows < 0] = 255
    return shown
