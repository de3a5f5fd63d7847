"""Which device, what it must promise, what it is, and seeds that depend on nothing else."""

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

import torch

from embprobe import console
from embprobe.errors import UserError

DRIVER = Path("/proc/driver/nvidia/version")


def device_of(name: str, *, deterministic: bool = True) -> str:
    """`auto` resolved, and said once. Raises UserError for a device this machine lacks.

    On a GPU, f32 means f32 from here on (no TF32), and `deterministic` allows only operations whose result is always the
    same. Seeds and starting weights come from the CPU, so that a device changes rounding alone.
    """
    chosen = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.zeros(1, device=chosen).item()  # `meta` has no values
    except (RuntimeError, AssertionError):
        raise UserError(
            f"--device {name} isn't there; this machine offers {'cuda, ' if torch.cuda.is_available() else ''}cpu"
        ) from None
    if is_cuda(chosen):
        _promise(deterministic)
        chosen = chosen if ":" in chosen else f"cuda:{torch.cuda.current_device()}"
    if name == "auto":
        _tell(chosen)
    return chosen


def is_cuda(device: str) -> bool:
    """Whether it is a GPU of CUDA."""
    return torch.device(device).type == "cuda"


def facts_of(device: str) -> dict[str, str | int | bool | None]:
    """What rounding depends on: the device, the GPU's name, its driver, TF32, determinism, and the CPU's threads."""
    facts: dict[str, str | int | bool | None] = {"device": device, "threads": torch.get_num_threads()}
    if is_cuda(device):
        facts |= {"gpu": torch.cuda.get_device_name(device), "driver": _driver(), "cuda": torch.version.cuda}
        facts |= {"tf32": torch.backends.cudnn.allow_tf32 or torch.backends.cuda.matmul.allow_tf32}
        facts |= {"deterministic": torch.are_deterministic_algorithms_enabled()}
    return facts


def room_on(device: str) -> int:
    """Bytes of data that may stay on a device while it trains: half of what is free on a GPU, 4 GiB of the CPU's memory."""
    return torch.cuda.mem_get_info(device)[0] // 2 if is_cuda(device) else 4 << 30


def peak_of(device: str) -> int | None:
    """Most bytes held on a GPU since `forget_peak`; None for the CPU."""
    return torch.cuda.max_memory_allocated(device) if is_cuda(device) else None


def forget_peak(device: str) -> None:
    """Measures the most memory anew from here on."""
    if is_cuda(device):
        torch.cuda.reset_peak_memory_stats(device)


def mix(*parts: int | str) -> int:
    """A 63-bit seed from several values."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest(), "little") >> 1


def _promise(deterministic: bool) -> None:
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = not deterministic
    torch.use_deterministic_algorithms(deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # nothing here reads any


@lru_cache
def _tell(device: str) -> None:
    """What `auto` took; and where there is a GPU that PyTorch can't use, that."""
    if is_cuda(device):
        console.say(f"on {torch.cuda.get_device_name(device)}")
        return
    unused = f"; there is an NVIDIA driver ({_driver()}), which this PyTorch can't use" if _driver() else ""
    threads = torch.get_num_threads()
    console.say(f"on the CPU with {threads} thread{'s' * (threads > 1)}{unused}")


def _driver() -> str | None:
    """The NVIDIA driver's version, where one is loaded."""
    if not DRIVER.is_file():
        return None
    words = DRIVER.read_text().split()
    return next((word for word in words if word[0].isdigit() and "." in word), "unknown")
