"""What denoisers are conditioned on: classes or captions, of training images and of samples to draw."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from embprobe.chunks import fill
from embprobe.encoders.names import text_files
from embprobe.encoders.text import BYTES, TextReader, reader_of, tell_cut
from embprobe.errors import UserError
from embprobe.sampling import BLOCK, block_seed
from embprobe.store import Array, Artefact
from embprobe.views import Denoiser, Images

DRAW = 1 << 20  # keeps the draws of conditions apart from those of noise
CHUNK_BYTES = 1 << 20


def learned_conditions(
    images: Images, reader: TextReader | None, out: Artefact, device: str
) -> Callable[[np.ndarray], Tensor] | None:
    """Conditions (n,…) of rows of a data set: captions where there is a `reader`, else class ids.

    States of a frozen encoder are kept in the artefact, once for each caption that there is.
    """
    captions, labels = images.captions, images.labels
    if reader is None:
        return None if labels is None else lambda rows: torch.from_numpy(labels[rows].astype(np.int64))
    if captions is None:
        return None
    if reader.width is None:
        return lambda rows: reader([captions[row] for row in rows])
    places = {caption: place for place, caption in enumerate(dict.fromkeys(captions))}
    states, of = _states(list(places), reader, out, device), np.array([places[caption] for caption in captions])
    return lambda rows: torch.from_numpy(states.floats(of[rows]))


def _states(captions: list[str | None], reader: TextReader, out: Artefact, device: str) -> Array:
    """Writes the states f16 (n,L,W) of captions."""
    shape = (len(captions), reader.length, reader.width or 0)
    chunk_rows = max(1, CHUNK_BYTES // (2 * shape[1] * shape[2]))
    states = out.create("states", shape, "float16", chunk_rows=chunk_rows)
    reader.to(device)

    def read(rows: range) -> list[str | None]:
        return captions[rows.start : rows.stop]

    fill([states], read, lambda _, texts: [reader(texts).numpy()], batch=chunk_rows, label="reading captions")
    return states


def asked_conditions(
    denoiser: Denoiser, labels: np.ndarray | None, prompts: list[str | None] | None, device: str
) -> Callable[[range], Tensor] | None:
    """Conditions (n,…) of samples by their rows, on the CPU; None where nothing is asked for.

    Raises UserError where the folder of the denoiser's text encoder has changed.
    """
    if labels is not None:
        ids = torch.from_numpy(labels.astype(np.int64))
        return lambda rows: ids[rows.start : rows.stop]
    if prompts is None or denoiser.text is None:
        return None
    if denoiser.text != BYTES and text_files(Path(denoiser.text)) != denoiser.facts["text"]:
        raise UserError(
            f"{denoiser.text} is not the text encoder that denoiser {denoiser.short} learned with; put it back"
        )
    reader = reader_of(denoiser.text, denoiser.facts["network"]["text_length"])
    reader.to(device)
    tell_cut(reader, prompts)
    places = {prompt: place for place, prompt in enumerate(dict.fromkeys(prompts))}
    read, of = reader(list(places)), torch.tensor([places[prompt] for prompt in prompts])
    return lambda rows: read[of[rows.start : rows.stop]]


def drawn_labels(denoiser: Denoiser, wanted: str, count: int, seed: int) -> np.ndarray:
    """Class ids (count,) i32: in turn (`balanced`), by the training shares (`empirical`), or all of one class."""
    names, rows = denoiser.classes, np.arange(count, dtype=np.int32)
    if wanted == "balanced":
        return rows % len(names)
    if wanted in names:
        return np.full_like(rows, names.index(wanted))
    return _in_blocks(len(names), denoiser.facts["shares"], count, seed).astype(np.int32)


def drawn_captions(denoiser: Denoiser, count: int, seed: int) -> list[str | None]:
    """Captions of training images at random."""
    rows, told = denoiser.training_rows(), denoiser.latents.images.captions or []
    return [told[rows[place]] for place in _in_blocks(len(rows), None, count, seed)]


def _in_blocks(choices: int, shares: list[float] | None, count: int, seed: int) -> np.ndarray:
    """Draws in blocks, as the noise, so that the first ones do not depend on the count."""
    draws = [
        np.random.default_rng(block_seed(seed, DRAW, block)).choice(choices, BLOCK, p=shares)
        for block in range(-(-count // BLOCK))
    ]
    return np.concatenate(draws)[:count]
