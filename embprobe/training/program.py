"""What one step does on the device: run operation by operation, or recorded once as a CUDA graph and replayed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.profiler import record_function

from embprobe import console
from embprobe.training.graphs import recorded, refused
from embprobe.training.task import Task


class Program:
    """Losses, gradients, clipping and updates of one step. Nothing in it waits for the device."""

    def __init__(
        self,
        task: Task,
        optimisers: Mapping[str, torch.optim.Optimizer],
        device: str,
        *,
        bf16: bool,
        clip: float | None,
    ) -> None:
        self.task, self.optimisers, self.clip, self.bf16 = task, optimisers, clip, bf16
        self.kind = torch.device(device).type
        self.owned = {
            n: [p for g in o.param_groups for p in g["params"] if p.requires_grad] for n, o in optimisers.items()
        }

    def __call__(self, batch: dict[str, Tensor], step: int) -> None:
        """One update of every optimiser; the losses are left among the task's scalars."""
        losses = self.task.losses(batch, step)
        while True:
            with record_function("losses"), torch.autocast(self.kind, torch.bfloat16, enabled=self.bf16):
                item = next(losses, None)
            if item is None:
                return
            name, loss = item
            for parameter in self.owned[name]:
                parameter.grad = None
            with record_function("gradients"):
                torch.autograd.backward(loss, inputs=self.owned[name])
            if self.clip is not None:
                with record_function("clipping"):
                    nn.utils.clip_grad_norm_(self.owned[name], self.clip)
            with record_function("updates"):
                self.optimisers[name].step()
            self.task.scalars[f"loss_{name}" if len(self.optimisers) > 1 else "loss"] = loss.detach()

    def tensors(self) -> list[Tensor]:
        """All that a step may change: parameters, buffers and what the optimisers keep."""
        kept = [v for o in self.optimisers.values() for s in o.state.values() for v in s.values()]
        return [*self.task.parameters(), *self.task.buffers(), *(v for v in kept if isinstance(v, Tensor))]


class Kept:
    """All that a step may change, as it was."""

    @torch.no_grad()
    def __init__(self, program: Program) -> None:
        self.program = program
        self.values = {id(t): t.clone() for t in program.tensors()}

    @torch.no_grad()
    def restore(self) -> None:
        """Takes back what has changed since; what an optimiser keeps only now was 0."""
        for tensor in self.program.tensors():
            tensor.copy_(self.values[id(tensor)]) if id(tensor) in self.values else tensor.zero_()


def rehearse(program: Program, batch: dict[str, Tensor], step: int) -> None:
    """Runs a step and takes it back.

    Where an operation has no deterministic implementation, it is allowed from here on, and said: better a result that may
    differ in its last bits from one that was not interrupted than none.
    """
    kept = Kept(program)
    try:
        program(batch, step)
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        torch.use_deterministic_algorithms(True, warn_only=True)
        console.say(
            f"{str(error).split(' ')[0]} can't be computed the same way every time; what is continued may differ in its last "
            "bits from what was not"
        )
    finally:
        kept.restore()


@dataclass
class Recorded:
    """A program as a CUDA graph: the same operations on the same memory, started at once."""

    replay: Callable[[], None]
    batch: dict[str, Tensor]  # where the graph reads from
    scalars: dict[str, Tensor | float]  # where it writes to

    def fits(self, batch: Mapping[str, Tensor]) -> bool:
        """Whether it was recorded for tensors like these."""
        return {k: (v.shape, v.dtype) for k, v in batch.items()} == {
            k: (v.shape, v.dtype) for k, v in self.batch.items()
        }

    def __call__(self, task: Task, batch: Mapping[str, Tensor]) -> None:
        """One step on another batch."""
        for name, value in batch.items():
            self.batch[name].copy_(value, non_blocking=True)
        self.replay()
        task.scalars |= self.scalars


@torch.no_grad()
def record(program: Program, batch: Mapping[str, Tensor], step: int, device: str) -> Recorded | None:
    """The program of a step as a graph, or None, said, where it can't be recorded or does not do the same.

    It is run, recorded and replayed from one state, to which everything returns, and the two results are compared bit by
    bit: a recording that would change the result is not used.
    """
    static = {name: value.to(device, copy=True) for name, value in batch.items()}
    kept = Kept(program)
    try:
        with torch.enable_grad():
            program(static, step)
            wanted = [t.clone() for t in program.tensors()]
            _, replay = recorded(lambda: program(static, step), device, kept.restore)
        found = Recorded(replay, static, dict(program.task.scalars))
        replay()
        same = all(torch.equal(t, w) for t, w in zip(program.tensors(), wanted, strict=True))
    except RuntimeError as error:
        refused("a step", error)
        kept.restore()
        return None
    kept.restore()
    if not same:
        refused("a step", "a replay gives other bits")
        return None
    return found
