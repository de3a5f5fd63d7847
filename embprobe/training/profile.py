"""Where a training's time goes: a trace of a few steps, and one line of what it says."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from embprobe import console
from embprobe.device import is_cuda
from embprobe.errors import UserError

SKIPPED, TIMED, TRACED = 20, 20, 3  # steps: until all is warm, for the rate, and for phases
PHASES = ("losses", "gradients", "clipping", "updates", "averaging")
SIDE = 4096  # of the matrices whose product tells what the device can do; a quarter of it on a CPU


class Profile:
    """Follows a loop from its first step on; after `SKIPPED + TIMED + TRACED` steps it says what it saw.

    One step's operations are counted (PyTorch's own counter: products and convolutions), the next ones are timed without
    a profiler, then `TRACED` steps are traced operation by operation, unrecorded.
    """

    def __init__(self, folder: Path | None, label: str, device: str, *, bf16: bool) -> None:
        self.folder, self.label, self.device = folder, label, device
        self.dtype = torch.bfloat16 if bf16 else torch.float32
        self.seen, self.operations, self.waited, self.began, self.seconds = 0, 0, 0.0, 0.0, 0.0
        self.waiting = 0.0
        if folder is not None:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"--profile {folder} can't be written ({error.strerror}); give another folder"
                ) from None

    @property
    def unrecorded(self) -> bool:
        """Whether the step is to be run operation by operation."""
        return self.folder is not None and (self.seen == SKIPPED or self.seen > SKIPPED + TIMED) and not self.done

    @property
    def done(self) -> bool:
        return self.seen > SKIPPED + TIMED + TRACED

    @contextlib.contextmanager
    def wait(self) -> Iterator[None]:
        """Around the wait for a batch."""
        began = time.perf_counter()
        yield
        self.waiting += time.perf_counter() - began

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around a step."""
        if self.folder is None or self.done:
            yield
            return
        if self.seen == SKIPPED:
            with FlopCounterMode(display=False) as counter:
                yield
            self.operations = counter.get_total_flops()
            self._settle()
            self.began, self.waited, self.waiting = time.perf_counter(), self.waiting, 0.0
        elif self.seen == SKIPPED + TIMED:
            yield
            self._settle()
            self.seconds, self.waited = time.perf_counter() - self.began, self.waiting
            self.tracer = torch.profiler.profile()
            self.tracer.start()
        elif self.seen == SKIPPED + TIMED + TRACED:
            yield
            self._settle()
            self.tracer.stop()
            self._tell(self.folder)
        else:
            yield
        self.seen += 1

    def _settle(self) -> None:
        if is_cuda(self.device):
            torch.cuda.synchronize(self.device)

    def _tell(self, folder: Path) -> None:
        path = folder / f"{self.label.replace(' ', '_')}.json"
        self.tracer.export_chrome_trace(str(path))
        spent = {event.key: event.device_time_total or event.cpu_time_total for event in self.tracer.key_averages()}
        phases = {name: spent[name] for name in PHASES if name in spent}
        total = sum(phases.values()) or 1
        shares = ", ".join(f"{name} {value / total:.0%}" for name, value in phases.items())
        rate = self.operations * TIMED / self.seconds
        peak, kind = peak_rate(self.device, self.dtype), "bf16" if self.dtype == torch.bfloat16 else "f32"
        console.say(
            f"{self.label}: {TIMED / self.seconds:.3g} step/s; {rate / peak:.0%} of the {peak / 1e12:.3g} TFLOP/s that a {kind} "
            f"matrix product reaches here; waiting for data {self.waited / self.seconds:.0%}; {shares}; trace in {path}"
        )


def peak_rate(device: str, dtype: torch.dtype) -> float:
    """Operations a second of a large matrix product, the best of some."""
    side = SIDE if is_cuda(device) else SIDE // 4
    a, best = torch.ones(side, side, device=device, dtype=dtype), float("inf")
    for _ in range(5):
        began = time.perf_counter()
        float((a @ a)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best
