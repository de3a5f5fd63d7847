"""What an encoder's patch tokens tell of a few held-out images: colours, alike patches, attention; in bounded memory."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from embprobe import console
from embprobe.encoders.attention import attention_maps, has_class_token
from embprobe.encoders.live import asked_encoder
from embprobe.encoders.load import Encoder
from embprobe.errors import UserError
from embprobe.metrics.patches import Colours, best_patches, directions, most_alike, pca_colours
from embprobe.store import Artefact
from embprobe.views import Embeddings, Images, blocks, by_chunk
from embprobe.views.view import evenly

SHOWN = 8  # images
ALIKE = 6  # patches of others, each of another image
SEARCHED, SEARCHED_BYTES = 2000, 256 << 20  # images among which they are looked for, and their tokens as stored
COMPUTED = 64  # the same, where tokens aren't stored
RUNS = 20  # of images one after the other, which lie in few chunks
FITTED, TOKENS, NUMBERS = 256, 1 << 15, 1 << 25  # images, tokens and numbers that components are of, at most
CENTRE = (0.5, 0.5)


@dataclass(frozen=True)
class Fitted:
    """Tokens that components are of, and the mean token of each place."""

    tokens: np.ndarray  # (n,D)
    places: np.ndarray  # (n,), along the grid
    means_LD: np.ndarray
    count: int  # images

    @property
    def position_share(self) -> float:
        """How much of the tokens' variance their place explains: the same in every image."""
        if self.count < 2:
            return 0.0
        within = float(((self.tokens - self.means_LD[self.places]) ** 2).sum(1, dtype=np.float64).mean())
        total = float(self.tokens.var(0, dtype=np.float64).sum())
        unbiased = within * self.count / (self.count - 1)  # the means are of the same images
        return min(1.0, max(0.0, 1 - unbiased / total)) if total > 0 else 0.0


@dataclass(frozen=True)
class Alike:
    """For each image's chosen patch: cosines to its own patches (n,h,w), and the most alike patches of k other images."""

    place: tuple[int, int]  # of the chosen patch on the grid
    own: np.ndarray
    rows: np.ndarray  # (n,k) of the data set
    places: np.ndarray  # (n,k,2) on the grid
    cosines: np.ndarray  # (n,k)

    @property
    def at_same_place(self) -> int:
        """How many of the others lie where the chosen patch does."""
        return int((self.places == self.place).all(-1).sum())


@dataclass(frozen=True)
class Sight:
    """The tokens of a few images, and those of the images that they are compared with."""

    images: Images
    rows: np.ndarray  # shown
    searched: np.ndarray  # rows
    grid: tuple[int, int]
    read: Callable[[np.ndarray], np.ndarray]  # rows → f32 tokens (n,h,w,D)
    parts: Callable[[np.ndarray], "list[np.ndarray]"]  # rows, as few at a time as are read together
    scale: tuple[np.ndarray, np.ndarray] | None  # mean and std (D,), where they are stored

    @cached_property
    def fitted(self) -> "Fitted":
        """Tokens of training images among those searched, a seeded choice of them and of their places."""
        train = self.searched[np.isin(self.searched, self.images.train)]
        rows = evenly(train if len(train) else self.searched, FITTED)
        patches, random = math.prod(self.grid), np.random.default_rng(0xC0105)
        found, places, total = [], [], 0.0
        for part in self.parts(rows):
            tokens = self.read(part).reshape(len(part), patches, -1)
            most = max(1, min(TOKENS, NUMBERS // tokens.shape[-1]) // len(rows))
            places += [np.sort(random.permutation(patches)[:most]) for _ in part]
            found += [image[here] for image, here in zip(tokens, places[-len(part) :], strict=True)]
            total = total + tokens.sum(0, dtype=np.float64)
        means_LD = np.asarray(total / len(rows), np.float32)
        return Fitted(np.concatenate(found), np.concatenate(places), means_LD, len(rows))

    @cached_property
    def shown(self) -> np.ndarray:
        """Tokens (n,h,w,D) of the images shown."""
        return self.read(self.rows)

    @cached_property
    def colours(self) -> Colours:
        return pca_colours(self.fitted.tokens)

    def colour_maps(self) -> np.ndarray:
        """RGB u8 (n,h,w,3)."""
        return self.colours(self.shown)

    def content_maps(self) -> np.ndarray:
        """The same of what images add to the mean token of each place; RGB u8 (n,h,w,3)."""
        fitted = self.fitted
        colours = pca_colours(fitted.tokens - fitted.means_LD[fitted.places])
        return colours(self.shown - fitted.means_LD.reshape(*self.grid, -1))

    def alike(self, count: int = ALIKE, at: tuple[float, float] = CENTRE) -> Alike:
        """The patch at a share of each image's height and width, and those most like it."""
        mean, std = self.scale or (self.fitted.tokens.mean(0), self.fitted.tokens.std(0))
        y, x = (min(side - 1, int(share * side)) for share, side in zip(at, self.grid, strict=True))
        shown = directions(self.shown, mean, std)
        queries = shown[:, y, x]
        found, rows = [], []
        for part in self.parts(self.searched):
            tokens = directions(self.read(part), mean, std)
            found.append(best_patches(queries, tokens.reshape(len(part), -1, tokens.shape[-1])))
            rows.append(part)
        cosines, places = (np.concatenate(values, 1) for values in zip(*found, strict=True))
        order = np.concatenate(rows)
        cosines[self._copies(order)] = -np.inf
        best = most_alike(cosines, min(count, int((cosines > -np.inf).sum(1).min())))
        chosen = np.take_along_axis(places, best, 1)
        yx = np.stack(np.divmod(chosen, self.grid[1]), -1)
        own = np.einsum("nhwd,nd->nhw", shown, queries)
        return Alike((y, x), own, order[best], yx, np.take_along_axis(cosines, best, 1))

    def _copies(self, order: np.ndarray) -> np.ndarray:
        """Which of the searched images (n,N) are the one shown, or a copy of it."""
        group = self.images.group
        mine, theirs = (rows if group is None else group[rows] for rows in (self.rows, order))
        same: np.ndarray = mine[:, None] == theirs[None]
        return same


def shown_rows(images: Images, count: int = SHOWN) -> np.ndarray:
    """The held-out images that every encoder of a data set is shown by, evenly spaced; any where none are held out."""
    held = images.held_out
    return evenly(held if len(held) else np.arange(len(images)), count)


def searched_rows(total: int, count: int) -> np.ndarray:
    """At most `count` rows in runs that are evenly spaced; fewer are part of more."""
    if total <= count:
        return np.arange(total)
    runs = min(RUNS, count)
    starts = np.arange(runs) * total // runs
    return (starts[:, None] + np.arange(count // runs)).ravel()


def stored_sight(embeddings: Embeddings) -> Sight:
    """What stored tokens tell. Raises UserError for those that lie on no grid of an image's height and width."""
    images, array = embeddings.images, embeddings.array
    grid = _plane(embeddings.grid, embeddings.artefact)
    searched = searched_rows(len(images), max(RUNS, min(SEARCHED, SEARCHED_BYTES // array.row_bytes)))

    def parts(rows: np.ndarray) -> list[np.ndarray]:
        return list(by_chunk(array, rows, 64))

    scale = embeddings.mean, embeddings.std
    return Sight(images, shown_rows(images), searched, grid, array.floats, parts, scale)


def computed_sight(artefact: Artefact, device: str = "cpu") -> Sight:
    """What tokens tell that were asked for and are not stored: those of a few images are computed."""
    images = Embeddings(artefact).images
    encoder = asked_encoder(artefact, images).to(device)
    grid = _plane(encoder.grid, artefact)
    shown, searched = shown_rows(images), searched_rows(len(images), COMPUTED)
    every = np.union1d(shown, searched)
    console.say(f"extract {artefact.short} is not stored: the tokens of {len(every)} images are computed")
    tokens = np.concatenate(
        [
            encoder(torch.from_numpy(images.array.take(part)).to(device)).float().cpu().numpy()
            for part in blocks(every, 8)
        ]
    )

    def read(rows: np.ndarray) -> np.ndarray:
        found: np.ndarray = tokens[np.searchsorted(every, rows)]
        return found

    return Sight(images, shown, searched, grid, read, lambda rows: list(blocks(rows, 64)), None)


@dataclass(frozen=True)
class Attention:
    """Where the last block looks: maps (n,h,w), in which 1 is as much as each patch would get of the same to all."""

    maps: np.ndarray
    by_class: bool  # of the class token; else what patches receive of all


def attention_of(artefact: Artefact, rows: np.ndarray) -> Attention | None:
    """The attention of an extract artefact's encoder in some images; None for networks without.

    Raises UserError where its weights are gone or have changed.
    """
    images = Embeddings(artefact).images
    try:
        encoder: Encoder = asked_encoder(artefact, images)
    except OSError as error:
        raise UserError(f"{error.filename} can't be read ({error.strerror})") from None
    maps = attention_maps(encoder, torch.from_numpy(images.array.take(rows)))
    if maps is None or len(encoder.grid) != 2:
        return None
    return Attention(maps.numpy() * math.prod(encoder.grid), has_class_token(encoder))


def _plane(grid: tuple[int, ...], artefact: Artefact) -> tuple[int, int]:
    if len(grid) != 2:
        raise UserError(f"the tokens of {artefact.stage} {artefact.short} lie on a grid of {len(grid)} axes, not of 2")
    return grid[0], grid[1]
