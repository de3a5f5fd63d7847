"""What is trained: a network, its optimisers and losses."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

Batches = Callable[[int], dict[str, Tensor]]
"""step → CPU tensors, a pure function."""


class Task(nn.Module):
    """What is trained; `network` is the product, its (EMA) weights become the artefact's."""

    network: nn.Module
    scalars: dict[str, Tensor | float]

    def __init__(self) -> None:
        super().__init__()
        self.scalars = {}

    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Optimisers by name, with their base rates."""
        raise NotImplementedError

    def losses(self, batch: dict[str, Tensor], step: int) -> Iterator[tuple[str, Tensor]]:
        """Yields (optimiser, loss); each is followed by that optimiser's update before the generator goes on."""
        raise NotImplementedError

    def after(self, step: int) -> None:
        """Runs after all updates of a step."""

    def validate(self) -> float | None:
        """A loss on held-out rows, for rates that fall on a plateau."""
        return None


class EMA:
    """Exponential moving average of a network's floating tensors."""

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in network.state_dict().items()}

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follows the network; the first steps count more, so that short runs don't keep the initialisation."""
        decay = min(self.decay, (1 + step) / (10 + step))
        state = network.state_dict()
        floating = [k for k, v in state.items() if v.is_floating_point()]
        torch._foreach_lerp_([self.values[k] for k in floating], [state[k].detach() for k in floating], 1 - decay)
        for key in state.keys() - set(floating):
            self.values[key].copy_(state[key])
