"""Retrieval between images and their captions: by a joint model's own head, or by a linear map into a text encoder's space."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from embprobe.encoders.joint import image_head
from embprobe.encoders.text import FolderReader, tell_cut
from embprobe.errors import UserError
from embprobe.evaluation.readers import ProbeRows, mean_tokens
from embprobe.metrics.probes import FOLDS, Normal, tuned_ridge
from embprobe.metrics.retrieval import recalls
from embprobe.store import Json

MOST_TOKENS = 256  # of a caption, where the network takes more
OWN_HEAD = "image vectors by the text encoder's own head, nothing fitted"
MAPPED = "image vectors by ridge from the mean token to the centred, unit-length caption vectors of training images"


def read_retrieval(data: ProbeRows, folder: Path) -> dict[str, Json]:
    """R@1 of held-out images and their captions, both ways, by the text encoder of a folder.

    Raises UserError where the held-out captions are all alike.
    """
    captions = data.embeddings.images.captions or []
    told, left_out = with_caption(data, captions)
    mine, known = ([captions[row] or "" for row in rows] for rows in (told.held, told.train))
    if len(set(mine)) < 2:
        raise UserError(
            f"all held-out captions are {mine[0]!r}: there is nothing to tell apart; leave reader retrieval out"
        )
    head = image_head(folder, data.embeddings, data.device)
    distinct = list(dict.fromkeys(mine if head else [*mine, *known]))
    vectors = caption_vectors(folder, distinct, data.device)
    place = {caption: number for number, caption in enumerate(distinct)}
    held, train = (torch.tensor([place[c] for c in each], device=data.device) for each in (mine, () if head else known))
    if head is not None:
        images = torch.cat([head(tokens) for _, tokens in told.measured()])  # `held` rises, as the file does
        how = OWN_HEAD
    else:
        vectors = nn.functional.normalize(vectors - vectors[train].mean(0), dim=1)
        images, strength = mapped(told, vectors[train])
        how = f"{MAPPED}, strength {strength:g}"
    found = recalls(images, vectors[: len(set(mine))], held)
    facts = {"without_caption": left_out, "zero_shot": head is not None}
    protocol = {
        "protocol": {"retrieval": f"{how}; by cosine; intervals over captions, among the candidates as they are"}
    }
    return {name: estimate.json() | facts for name, estimate in found.items()} | protocol


def with_caption(data: ProbeRows, captions: list[str | None]) -> tuple[ProbeRows, int]:
    """The rows that have a caption, and how many held-out ones have none."""
    train, held = (np.array([row for row in rows if captions[row]], np.int64) for rows in (data.train, data.held))
    return replace(data, train=train, fold=np.arange(len(train)) % FOLDS, held=held), len(data.held) - len(held)


def caption_vectors(folder: Path, captions: list[str], device: str) -> Tensor:
    """One vector for each caption (n,W) f32 on the device; says what is cut."""
    reader = FolderReader(folder, MOST_TOKENS)
    reader.to(device)
    tell_cut(reader, captions)
    return reader.vectors(captions)


def mapped(data: ProbeRows, target_NW: Tensor) -> tuple[Tensor, float]:
    """Vectors of held-out images (M,W) f64 by ridge from standardised mean tokens, and its strength, chosen in folds."""
    train, held = mean_tokens(data)
    sums = [Normal(train.shape[1], target_NW.shape[1], data.device) for _ in range(FOLDS)]
    fold = torch.from_numpy(data.fold).to(data.device)
    for number, part in enumerate(sums):
        part.add(train[fold == number], target_NW[fold == number])
    weight, bias, strength = tuned_ridge(sums)
    return held.double() @ weight + bias, strength
