"""Dropout of which what is dropped follows from a key alone, on every device and under every program."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

SPAN = 2**31


class KeyedDropout(nn.Module):
    """Sets a share p of the numbers to zero and scales the others by 1/(1 − p); which ones, the key decides.

    The number at place i is dropped if a hash of i and the key falls below p·2³¹: 32-bit integers come out alike
    everywhere, where a device's own generator follows its number of processors. The hash is two rounds of a
    xorshift-multiply finaliser (its constants: Wellons 2018, lowbias32).
    """

    key: Tensor

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p
        self.register_buffer("key", torch.zeros((), dtype=torch.int32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        place = torch.arange(x.numel(), dtype=torch.int32, device=x.device)
        drawn = _scrambled(_scrambled(place) ^ self.key) & (SPAN - 1)
        kept = (drawn >= round(self.p * SPAN)).view(x.shape)
        return x * (kept.to(x.dtype) / (1 - self.p))


def _scrambled(x: Tensor) -> Tensor:
    x = (x ^ (x >> 16 & 0xFFFF)) * 0x7FEB352D
    x = (x ^ (x >> 15 & 0x1FFFF)) * (0x846CA68B - 2**32)
    return x ^ (x >> 16 & 0xFFFF)


@dataclass(frozen=True)
class Dropouts:
    """All dropouts of a network, each with a key of its own at every step."""

    layers: tuple[KeyedDropout, ...]

    @staticmethod
    def of(network: nn.Module) -> "Dropouts":
        """Puts keyed ones in the place of a network's dropouts."""
        for name, module in list(network.named_modules()):
            if isinstance(module, nn.Dropout) and module.p > 0:
                network.set_submodule(name, KeyedDropout(module.p))
        return Dropouts(tuple(m for m in network.modules() if isinstance(m, KeyedDropout)))

    def draws(self, generator: torch.Generator) -> dict[str, Tensor]:
        """The step's `keys` (layers,) i32, where there are layers."""
        if not self.layers:
            return {}
        return {"keys": torch.randint(-SPAN, SPAN, (len(self.layers),), generator=generator).int()}

    def follow(self, batch: Mapping[str, Tensor]) -> None:
        """Takes the keys of a batch."""
        if self.layers:
            torch._foreach_copy_([layer.key for layer in self.layers], list(batch["keys"].unbind()))
