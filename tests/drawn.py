"""What the training loop adds to a batch, for tests that ask a task for its losses by themselves."""

import torch
from torch import Tensor

from embprobe.training.task import Task


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def complete(task: Task, batch: dict[str, Tensor], seed: int = 0) -> dict[str, Tensor]:
    """The batch with its random numbers."""
    return batch | task.draws(batch, seeded(seed))


def losses(task: Task, batch: dict[str, Tensor], step: int = 0, seed: int = 0) -> list[tuple[str, Tensor]]:
    return list(task.losses(complete(task, batch, seed), step))
