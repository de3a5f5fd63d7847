"""Embeddings that were asked for and never made: tokens computed as they are needed, as they would be stored."""

import threading
from pathlib import Path

import numpy as np
import torch

from embprobe import console
from embprobe.chunks import batches_of
from embprobe.encoders.layers import words_of
from embprobe.encoders.load import Encoder, Given, load_encoder
from embprobe.encoders.names import FOLDER, told_beside
from embprobe.encoders.tokens import DTYPES, Embed, Rounding, encoding, layout
from embprobe.errors import UserError
from embprobe.stage import by_content
from embprobe.store import Artefact, Rows
from embprobe.views import Embeddings, Images


class Live(Rows):
    """The rows of an `embeddings` array, computed a chunk at a time by the forward passes that would have stored them.

    What stays in memory once it was computed, as it would be stored, is at most `resident` bytes: the held-out rows, if
    all fit, and as many chunks as fit beside them. The others are kept like those of any array, and computed again when
    they are asked for again.
    """

    def __init__(self, artefact: Artefact, device: str, resident: int) -> None:
        options = artefact.options
        self.images = Embeddings(artefact).images
        self.embed = Embed(asked_encoder(artefact, self.images), device, options["precision"])
        storage, self.forward = options["storage"], options["forward"]
        shape, chunk_rows = layout(self.embed, self.images, storage)
        attrs = encoding(self.embed, self.images, storage, options["seed"], self.forward)
        super().__init__("embeddings", shape, np.dtype(DTYPES[storage]), chunk_rows, attrs)
        self.at = device if self.embed.kind == "cuda" else "cpu"
        self.rounding = Rounding(attrs, self.at)
        held = self.images.held_out
        self.held = held if len(held) * self.row_bytes <= resident else held[:0]
        self._held, self._have = np.empty((len(self.held), *shape[1:]), self.dtype), np.zeros(len(self.held), bool)
        self.most_resident = (resident - self._held.nbytes) // self.chunk_bytes
        self._resident: dict[int, np.ndarray] = {}
        self._turn = threading.Lock()  # one forward pass at a time

    def chunk(self, index: int) -> np.ndarray:
        """One chunk's rows, computed unless they are resident."""
        with self._turn:
            if index in self._resident:
                return self._resident[index]
            whole = self.rows_of(index)
            values = np.empty((len(whole), *self.shape[1:]), self.dtype)
            for rows in batches_of(whole, self.forward):
                tokens = self.embed(self.embed.loaded(self.images.array.read(rows.start, rows.stop))).to(self.at)
                into = self.rounding.of(values[rows.start - whole.start : rows.stop - whole.start])
                stored = torch.empty_like(into, device=self.at)
                self.rounding.encode(tokens, torch.zeros(len(rows), dtype=torch.bool), stored)
                into.copy_(stored)
            here = slice(*np.searchsorted(self.held, (whole.start, whole.stop)))
            self._held[here], self._have[here] = values[self.held[here] - whole.start], True
            values.flags.writeable = False
            if len(self._resident) < self.most_resident:
                self._resident[index] = values
            return values

    def take(self, rows: np.ndarray) -> np.ndarray:
        """Any rows as stored; from memory, where they are held out and were computed before."""
        places = np.searchsorted(self.held, rows)
        known = (places < len(self.held)).all() and (self.held[places] == rows).all() and self._have[places].all()
        return self._held[places] if known else super().take(rows)


class LiveEmbeddings(Embeddings):
    """Embeddings that are computed as they are needed, on a device, with at most `resident` bytes of them in memory."""

    def __init__(self, artefact: Artefact, device: str, resident: int) -> None:
        super().__init__(artefact)
        live = Live(artefact, device, resident)
        whole = live.row_bytes * len(live)
        stay = min(whole, len(live.held) * live.row_bytes + live.most_resident * live.chunk_bytes)
        console.say(
            f"extract {artefact.short} is not stored: its tokens are computed as they are needed, and "
            f"{console.size(stay)} of {console.size(whole)} stay in memory"
        )
        self.__dict__["array"] = live


def asked_encoder(artefact: Artefact, images: Images) -> Encoder:
    """The encoder that was asked for. Raises UserError where its weights have changed since."""
    options = artefact.options
    weights = Path(options["weights"]) if options["weights"] else None
    told = told_beside(weights) if weights and options["encoder"] == FOLDER else {}
    changed = [name for name, content in told.items() if artefact.spec.get(name) != content]
    if weights is not None and (changed or by_content(weights) != artefact.spec["weights"]):
        raise UserError(f"{weights} has changed since extract {artefact.short} was asked for; restore it, or ask again")
    return load_encoder(
        Embeddings(artefact).encoder,
        image_size=images.size,
        channels=images.channels,
        weights=weights,
        layer=words_of(options["layer"]),
        seed=options["seed"],
        given=Given(
            mean=options["mean"] and tuple(options["mean"]),
            std=options["std"] and tuple(options["std"]),
            heads=options["heads"],
            input_size=options["input_size"],
            use=options.get("use"),
            resolution=options.get("resolution"),
        ),
    )
