"""Readers that are trained: their batches of stored tokens, and how they do on held-out images."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from embprobe.evaluation.readers import ProbeRows
from embprobe.metrics.probes import accuracy
from embprobe.nn.attentive import Attending, AttentiveProbe
from embprobe.store import Json
from embprobe.training.batches import RowBatches

if TYPE_CHECKING:
    from embprobe.training.task import Batches


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


@torch.no_grad()
def judge_tokens(data: ProbeRows, network: nn.Module) -> dict[str, Json]:
    """Accuracy of a network from tokens to logits on the held-out images."""
    judged = torch.empty(len(data.held), dtype=torch.long)
    for places, tokens in data.measured():
        judged[torch.from_numpy(places)] = network(tokens).argmax(1).cpu()
    return accuracy(judged == data.labels[1].cpu(), data.chance).json()
