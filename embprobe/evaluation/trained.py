"""Readers that are trained: their batches of stored tokens, and how they do on held-out images."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from embprobe import signals
from embprobe.encoders.live import asked_encoder
from embprobe.encoders.tuning import Tuning
from embprobe.evaluation.readers import ProbeRows
from embprobe.metrics.probes import accuracy
from embprobe.nn.attentive import Attending, AttentiveProbe
from embprobe.store import Json
from embprobe.training.batches import RowBatches
from embprobe.views import blocks as blocks_of

if TYPE_CHECKING:
    from embprobe.training.task import Batches

TOGETHER = 256  # images a forward pass


def token_batches(data: ProbeRows, batch: int, seed: int) -> "Batches":
    """Tokens (b,*grid,D) f32 and labels of the training images; grids are read batch by batch."""
    array = data.fitted.array
    order = RowBatches({"embeddings": array}, data.train, batch, seed)
    label = torch.from_numpy(data.fitted.images.ids_of(data.classes))

    def batches(step: int) -> dict[str, Tensor]:
        rows = order.rows_of(step)
        return {"tokens": torch.from_numpy(array.floats(rows)), "label": label[torch.from_numpy(rows)]}

    return batches


def attending(data: ProbeRows, rate: float) -> Attending:
    """An attentive probe of these classes, untrained; drawn from the global generator."""
    mean, std = torch.from_numpy(data.fitted.mean), torch.from_numpy(data.fitted.std)
    return Attending(AttentiveProbe(len(data.classes), mean, std), rate)


def image_batches(data: ProbeRows, batch: int, seed: int) -> "Batches":
    """Images (b,H,W,C) u8 and labels of the training images."""
    array = data.embeddings.images.array
    order = RowBatches({"images": array}, data.train, batch, seed)
    label = torch.from_numpy(data.embeddings.images.ids_of(data.classes))

    def batches(step: int) -> dict[str, Tensor]:
        taken = order(step)
        return {"images": torch.from_numpy(taken["images"]), "label": label[torch.from_numpy(taken["row"])]}

    return batches


def tuning(data: ProbeRows, blocks: int, rate: float, seed: int) -> Tuning:
    """The encoder of the embeddings with a new head; only its last blocks, its norm and the head learn."""
    encoder = asked_encoder(data.embeddings.artefact, data.embeddings.images).to(data.device)
    torch.manual_seed(seed)  # the encoder may have drawn
    return Tuning(encoder, blocks, len(data.classes), rate)


@torch.no_grad()
def judge_images(data: ProbeRows, task: Tuning) -> dict[str, Json]:
    """Accuracy of a fine-tuned encoder on the held-out images."""
    images, judged = data.embeddings.images.array, []
    for rows in blocks_of(data.held, TOGETHER):
        signals.check()
        judged.append(task.logits(torch.from_numpy(images.take(rows)).to(data.device)).argmax(1).cpu())
    return accuracy(torch.cat(judged) == data.labels[1].cpu(), data.chance).json()


@torch.no_grad()
def judge_tokens(data: ProbeRows, network: nn.Module) -> dict[str, Json]:
    """Accuracy of a network from tokens to logits on the held-out images."""
    judged = torch.empty(len(data.held), dtype=torch.long)
    for places, tokens in data.measured():
        judged[torch.from_numpy(places)] = network(tokens).argmax(1).cpu()
    return accuracy(judged == data.labels[1].cpu(), data.chance).json()
