"""CUDA graphs: work recorded once and started at once, where starting it piece by piece takes longer than doing it."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from embprobe import console
from embprobe.device import is_cuda

WARM_UP = 3  # runs before a recording, in which libraries take their workspaces
Out = TypeVar("Out")


def recorded(
    run: Callable[[], Out], device: str, restore: Callable[[], None] = lambda: None
) -> tuple[Out, Callable[[], None]]:
    """What `run` gave, at the addresses where every replay leaves it, and the replay; `restore` undoes a run.

    Nothing is computed while it is recorded, so that its first values come from the first replay. Raises RuntimeError
    for what can't be recorded, such as work that waits for the device.
    """
    aside = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
    aside.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(aside):
        for _ in range(WARM_UP):
            restore()
            run()
    torch.cuda.current_stream(device).wait_stream(aside)
    restore()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, capture_error_mode="thread_local"):
        out = run()
    return out, graph.replay


def refused(what: str, why: object) -> None:
    """Says that work goes on unrecorded."""
    console.say(f"{what} is not recorded as a CUDA graph ({str(why).splitlines()[0]}); it runs step by step")


class Replayed:
    """A frozen network; on a GPU each shape of its inputs is recorded when it first comes, and replayed from then on.

    What it gives lies where the next call writes: use it before. A recording that gives other bits is not used.
    """

    def __init__(self, network: nn.Module, device: str) -> None:
        self.network, self.device, self.on_gpu = network, device, is_cuda(device)
        self.calls: dict[object, tuple[list[Tensor | None], Tensor, Callable[[], None]] | None] = {}

    def __call__(self, *inputs: Tensor | None) -> Tensor:
        key = tuple(None if x is None else (x.shape, x.dtype) for x in inputs)
        if self.on_gpu and key not in self.calls:
            self.calls[key] = self._record(inputs)
        call = self.calls.get(key)
        if call is None:
            given: Tensor = self.network(*inputs)
            return given
        places, out, replay = call
        for place, x in zip(places, inputs, strict=True):
            if place is not None and x is not None:
                place.copy_(x, non_blocking=True)
        replay()
        return out

    def _record(
        self, inputs: tuple[Tensor | None, ...]
    ) -> tuple[list[Tensor | None], Tensor, Callable[[], None]] | None:
        places = [None if x is None else x.clone() for x in inputs]
        wanted = self.network(*inputs)
        try:
            out, replay = recorded(lambda: self.network(*places), self.device)
        except RuntimeError as error:
            refused("the network", error)
            return None
        replay()
        if torch.equal(out, wanted):
            return places, out, replay
        refused("the network", "a replay gives other bits")
        return None
