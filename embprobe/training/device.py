"""Which device, and seeds that depend on nothing else."""

import hashlib
import json

import torch

from embprobe.errors import UserError


def device_of(name: str) -> str:
    """`auto` resolved. Raises UserError for a device this machine lacks."""
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.zeros(1, device=name).item()  # `meta` has no values
    except (RuntimeError, AssertionError):
        raise UserError(
            f"--device {name} isn't there; this machine offers {'cuda, ' if torch.cuda.is_available() else ''}cpu"
        ) from None
    return name


def mix(*parts: int | str) -> int:
    """A 63-bit seed from several values."""
    return int.from_bytes(hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).digest(), "little") >> 1
