"""Which images of a set are copies of others: equal ones, and near ones, such as an image encoded or resized once more."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from embprobe import console, signals
from embprobe.store import Array, Artefact, Json

SIDE = 16  # px at which images are compared; up to twice as many where it does not divide their own
NEAR = 0.99  # correlation there from which on two are near copies
FLAT = 3.0  # grey levels of standard deviation below which only equal ones count
BANDS, BAND_BYTES = 12, 3  # of the signature, 288 signs; two that share a band are looked at
APART = 32  # signs in which near copies differ at most: few do in more than 20
REACH = 8  # neighbours looked at among images that share a band, where many do
PAIRS = 64  # compared at a time
BITS = np.array([bin(byte).count("1") for byte in range(256)], np.uint8)


@dataclass(frozen=True)
class Duplicates:
    """For each of N images the least row of its group (N,), and of those equal to it: the image's own where it is alone."""

    group: NDArray[np.int32]
    equal: NDArray[np.int32]

    def counts(self, splits: Sequence[str]) -> dict[str, int]:
        """Images that are copies of earlier ones, exact or near, and those among them in another split."""
        rows, split = np.arange(len(self.group)), np.array(splits)
        across, exact = split != split[self.group], self.equal != rows
        return {
            "exact": int(exact.sum()),
            "near": int((~exact & (self.group != rows)).sum()),
            "across": int(across.sum()),
        }

    def listed(self, keys: Sequence[str], splits: Sequence[str]) -> Iterator[Json]:
        """Each group of several images: what they are to each other, `exact` or `near`, their keys and splits."""
        order = self.group.argsort(kind="stable")
        for rows in np.split(order, np.nonzero(np.diff(self.group[order]))[0] + 1):
            if len(rows) > 1:
                kind = "exact" if (self.equal[rows] == rows[0]).all() else "near"
                yield {"kind": kind, "images": [{"key": keys[row], "split": splits[row]} for row in rows]}


class Marks:
    """What is kept of N images to find copies by, 53 bytes each: hash, signs, whether flat.

    They are taken while the images are made; those of images that were there already are read again.
    """

    def __init__(self, count: int) -> None:
        self.rows = np.zeros((count, 16 + BANDS * BAND_BYTES + 1), np.uint8)
        self.there = np.zeros(count, bool)

    def take(self, start: int, images: NDArray[np.uint8]) -> None:
        """Marks the images (n,H,W,C) of the rows from `start` on."""
        part = slice(start, start + len(images))
        self.rows[part], self.there[part] = _marked(images), True

    def complete(self, images: Array) -> None:
        """Marks those that are not yet."""
        for chunk in range(images.n_chunks):
            rows = images.rows_of(chunk)
            if not self.there[rows.start : rows.stop].all():
                signals.check()
                self.take(rows.start, images.chunk(chunk))


def duplicates(images: Array, marks: Marks) -> Duplicates:
    """Equal and near copies among images u8 (N,H,W,C) that were marked.

    An image joins the first one that it is near to and that joined no other itself, so that no chain of likenesses links
    what is unlike. Candidates share a band of a signature of signs (Calonder et al. 2010) and are then compared.
    """
    marks.complete(images)
    signature, flat = marks.rows[:, 16:-1], marks.rows[:, -1]
    equal = equal_rows(marks.rows[:, :16])
    alone = np.nonzero((equal == np.arange(len(equal))) & (flat == 0))[0]
    leader = np.arange(len(equal), dtype=np.int32)
    candidates = _candidates(signature[alone])
    for first, second in _near(images, alone[candidates]):
        if leader[first] == first and leader[second] == second:
            leader[second] = first
    return Duplicates(leader[equal], equal)


def list_duplicates(out: Artefact, images: Array, marks: Marks, keys: Sequence[str], splits: Sequence[str]) -> None:
    """Writes `group` i32 (N,), the least row of an image and its copies, and `duplicates.jsonl`; says how many there are."""
    found = duplicates(images, marks)
    out.create("group", found.group.shape, "int32").write(found.group)
    out.write_lines("duplicates.jsonl", found.listed(keys, splits))
    counts = found.counts(splits)
    out.note(duplicates=counts)
    if counts["exact"] or counts["near"]:
        console.say(
            f"{counts['exact']} images are exact copies of others and {counts['near']} near ones, {counts['across']} of them "
            "in another split: duplicates.jsonl lists them"
        )


def equal_images(images: Array) -> NDArray[np.int32]:
    """For each image the first row that holds the same pixels (N,)."""
    return equal_rows(np.concatenate([_hashes(images.chunk(chunk)) for chunk in range(images.n_chunks)]))


def equal_rows(values: NDArray[np.uint8]) -> NDArray[np.int32]:
    """For each row of bytes the first that is the same (N,)."""
    _, first, inverse = np.unique(values, axis=0, return_index=True, return_inverse=True)
    rows: NDArray[np.int32] = first[inverse.reshape(-1)].astype(np.int32)
    return rows


def _hashes(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """xxh3-128 of each image's pixels (n,16)."""
    import xxhash

    digests = b"".join(xxhash.xxh3_128_digest(image.data) for image in images)
    return np.frombuffer(digests, np.uint8).reshape(-1, 16)


def _marked(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What is kept of images (n, 16 + 36 + 1): hash, signs, whether flat."""
    small = thumbnails(images)
    vectors = _halved(small).reshape(len(small), -1)
    first, second = _compared(vectors.shape[1])
    signs = vectors[:, first] > vectors[:, second]
    flat = small.reshape(len(small), -1).std(axis=1, dtype=np.float32) < 4 * FLAT
    return np.concatenate([_hashes(images), np.packbits(signs, axis=1), flat[:, None].astype(np.uint8)], axis=1)


@cache
def _compared(width: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Seeded pairs of places (288,) in a vector; which of two is greater does not depend on brightness or contrast."""
    first, second = np.random.default_rng(0x51A7).integers(0, width, (2, 8 * BANDS * BAND_BYTES))
    return first, second


def thumbnails(images: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Means of squares of pixels, in quarters of grey levels: (n, SIDE to 2·SIDE − 1, …, C) of images (n,H,W,C)."""
    factor = max(1, min(images.shape[1:3]) // SIDE)
    height, width = (side // factor for side in images.shape[1:3])
    kind = np.dtype(np.uint16 if factor**2 * 255 < 2**16 else np.uint32)
    rows = images[:, : height * factor : factor].astype(kind)
    for offset in range(1, factor):
        np.add(rows, images[:, offset : height * factor : factor], out=rows)
    cells = rows[:, :, : width * factor : factor].copy()
    for offset in range(1, factor):
        np.add(cells, rows[:, :, offset : width * factor : factor], out=cells)
    quarters: NDArray[np.uint16] = (cells.astype(np.uint32) * 4 // factor**2).astype(np.uint16)
    return quarters


def _halved(small: NDArray[np.uint16]) -> NDArray[np.uint16]:
    """Means of squares of four."""
    height, width = (side // 2 * 2 for side in small.shape[1:3])
    if not (height and width):
        return small
    rows = small[:, 0:height:2, :width] + small[:, 1:height:2, :width]
    return (rows[:, :, 0::2] + rows[:, :, 1::2]) // np.uint16(4)


def _candidates(signature: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Places (P,2), the lesser first, of images (n,36) that share a band and differ in few signs elsewhere."""
    found = []
    for band in range(BANDS):
        own = signature[:, band * BAND_BYTES :][:, :BAND_BYTES].astype(np.uint32)
        value = own[:, 0] << 16 | own[:, 1] << 8 | own[:, 2]
        order = value.argsort(kind="stable")
        for reach in range(1, min(REACH, len(order) - 1) + 1):
            same = np.nonzero(value[order[reach:]] == value[order[:-reach]])[0]
            if not len(same):
                break
            pairs = np.stack([order[same], order[same + reach]], 1)
            found.append(pairs[_few_differ(signature, pairs)])
    return np.unique(np.concatenate(found), axis=0) if found else np.zeros((0, 2), np.int64)


def _few_differ(signature: NDArray[np.uint8], pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
    few = np.empty(len(pairs), bool)
    for start in range(0, len(pairs), 1 << 16):
        i, j = pairs[start : start + (1 << 16)].T
        few[start : start + len(i)] = BITS[signature[i] ^ signature[j]].sum(1) <= APART
    return few


def _near(images: Array, pairs_P2: NDArray[np.int64]) -> Iterable[tuple[int, int]]:
    """The pairs of rows that are near copies, in the order of the second and then of the first."""
    near = [
        part[_correlations(images, part) >= NEAR]
        for part in (pairs_P2[start : start + PAIRS] for start in range(0, len(pairs_P2), PAIRS))
    ]
    kept = np.concatenate(near) if near else pairs_P2
    return [(int(i), int(j)) for i, j in kept[np.lexsort(kept.T)]]


def _correlations(images: Array, pairs_P2: NDArray[np.int64]) -> NDArray[np.float64]:
    """Of two images' thumbnails each (P,)."""
    signals.check()
    rows, place = np.unique(pairs_P2, return_inverse=True)
    vectors = thumbnails(images.take(rows)).reshape(len(rows), -1).astype(np.float64)
    vectors -= vectors.mean(axis=1, keepdims=True)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    first, second = place.reshape(-1, 2).T
    correlations: NDArray[np.float64] = (vectors[first] * vectors[second]).sum(axis=1)
    return correlations
