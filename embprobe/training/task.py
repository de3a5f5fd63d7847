"""What is trained: a network, its optimisers, its losses, and the random numbers of a step."""

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

Batches = Callable[[int], dict[str, Tensor]]
"""step → CPU tensors, a pure function."""


class Task(nn.Module):
    """What is trained; `network` is the product, its (EMA) weights become the artefact's.

    Networks `beside` it are kept too, in a file of their own: their tensors' names follow theirs.
    """

    network: nn.Module
    beside: dict[str, nn.Module]
    scalars: dict[str, Tensor | float]

    def __init__(self) -> None:
        super().__init__()
        self.scalars = {}
        self.beside = {}

    def weights_beside(self) -> dict[str, Tensor]:
        """Of the networks beside it."""
        return {f"{name}.{k}": v for name, module in self.beside.items() for k, v in module.state_dict().items()}

    def load_weights(self, every: Mapping[str, Tensor]) -> None:
        """Takes weights of the network and of those beside it. Raises RuntimeError where they are other networks'."""
        own = dict(every)
        for name, module in self.beside.items():
            theirs = [k for k in own if k.startswith(f"{name}.")]
            module.load_state_dict({k.removeprefix(f"{name}."): own.pop(k) for k in theirs})
        self.network.load_state_dict(own)

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name, with their base rates."""
        raise NotImplementedError

    def draws(self, batch: Mapping[str, Tensor], generator: torch.Generator) -> dict[str, Tensor]:
        """A step's random numbers, CPU tensors that join the batch, or take the place of what it holds.

        `generator` is seeded by (seed, step), so they are the same on every device. Runs ahead of the step, in a thread.
        """
        return {}

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimiser, loss); each is followed by that optimiser's update before the generator goes on.

        Draws nothing, and never waits for the device.
        """
        raise NotImplementedError

    def program(self, step: int) -> str | None:
        """Which sequence of operations a step is: steps of one name do the same to tensors of the same shapes.

        None where it changes from step to step, so that no recording of it can be replayed.
        """
        return ""

    def statistics(self) -> dict[str, Tensor | float]:
        """More scalars, taken where a row of the log is written."""
        return {}

    def after(self, step: int) -> None:
        """Runs after all updates of a step."""

    def validate(self) -> float | None:
        """A loss on held-out rows, for rates that fall on a plateau."""
        return None


class EMA:
    """Exponential moving average of a network's floating tensors."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        state = network.state_dict()
        self.values = {k: v.detach().clone() for k, v in state.items()}
        averaged = [k for k, v in state.items() if v.is_floating_point()]
        self._followed = [state[k].detach() for k in averaged], [self.values[k] for k in averaged]
        self._copied = [(state[k], self.values[k]) for k in state.keys() - set(averaged)]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Follows the network; the first steps count more, so that short runs don't keep the initialisation."""
        followed, averages = self._followed
        torch._foreach_lerp_(averages, followed, 1 - min(self.decay, (1 + step) / (10 + step)))
        for value, kept in self._copied:
            kept.copy_(value)

    @torch.no_grad()
    def load(self, values: Mapping[str, Tensor]) -> None:
        """Takes earlier values, in place."""
        for name, kept in self.values.items():
            kept.copy_(values[name])
