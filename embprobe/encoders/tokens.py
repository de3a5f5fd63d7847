"""Images to tokens as an extract artefact stores them: the forward pass, rounding, statistics; on the device they are on."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from embprobe.chunks import batches_of
from embprobe.encoders.load import Encoder
from embprobe.store import Array, Json, aligned
from embprobe.views import Images, blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

CHUNK_BYTES = 32 << 20
CALIBRATION = 1024  # images from which the int8 scales are taken
LARGEST = 65504.0  # of f16
BLOCK = 1 << 18  # numbers that a CPU takes at a time, so that they stay in its cache
DTYPES = {"f16": "float16", "bf16": "uint16", "int8": "int8"}  # as what numpy knows numbers are stored


class Embed:
    """Images to tokens on a device."""

    def __init__(self, encoder: Encoder, device: str, precision: str) -> None:
        self.encoder, self.device, self.precision = encoder.to(device), device, precision
        self.kind = torch.device(device).type
        if precision == "bf16":
            encoder.narrowed()

    def loaded(self, images_BHWC: np.ndarray) -> Tensor:
        """Images in memory from which the device can fetch them while it computes."""
        x = torch.from_numpy(images_BHWC)
        return x.pin_memory() if self.kind == "cuda" else x

    def __call__(self, images_BHWC: Tensor) -> Tensor:
        """u8 (B,H,W,C), at most a forward batch → f32 tokens (B,*grid,D) on the device."""
        x = images_BHWC.to(self.device, non_blocking=True)
        with torch.autocast(self.kind, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.encoder(x).float()


def layout(embed: Embed, images: Images, storage: str) -> tuple[tuple[int, ...], int]:
    """The shape (N,*grid,D) of the images' tokens, and the rows of a chunk."""
    shape = (*embed.encoder.grid, embed.encoder.width)
    row_bytes = math.prod(shape) * (1 if storage == "int8" else 2)
    return (len(images), *shape), max(1, min(len(images), CHUNK_BYTES // row_bytes))


def encoding(embed: Embed, images: Images, storage: str, seed: int, forward: int) -> dict[str, Json]:
    """Attributes that say how to read the stored numbers; int8 scales by a seeded pass over some images."""
    if storage != "int8":
        return {"encoding": storage}
    sample = np.sort(np.random.default_rng(seed).permutation(len(images))[:CALIBRATION])
    largest = torch.zeros(embed.encoder.width, device=embed.device)
    for rows in blocks(sample, forward):
        tokens = embed(embed.loaded(images.array.take(rows)))
        largest = torch.maximum(largest, tokens.abs().flatten(0, -2).amax(0))
    return {"encoding": "int8", "scale": (largest.clamp(min=1e-8) / 127).tolist()}


class Rounding:
    """Tokens as they are stored, and statistics of what is stored."""

    def __init__(self, attrs: dict[str, Json], device: str) -> None:
        self.storage: str = attrs["encoding"]
        self.scale = torch.tensor(attrs["scale"], device=device) if self.storage == "int8" else None
        self.kind = torch.device(device).type

    def of(self, values: np.ndarray) -> Tensor:
        """The numbers of an array (DTYPES) as those of the stored type; the same memory."""
        if self.storage == "bf16":
            return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(values)

    def widened(self, stored: Tensor) -> Tensor:
        """Stored numbers as f32; exact."""
        return stored.float() if self.scale is None else stored.float() * self.scale

    def encode(self, tokens: Tensor, train_B: Tensor, into: Tensor) -> Tensor:
        """Stores tokens (B,*grid,D) f32 in `into`; sums, squares and clipped numbers (3,D) f64.

        Sums and squares are those of the rows of `train_B`, as stored, and f64 throughout; clipped counts are of all,
        and of int8 alone. What f16 can't hold becomes the largest that it can.
        """
        flat, stored = tokens.flatten(0, -2), into.flatten(0, -2)
        weight = train_B.to(flat.device, torch.float64).repeat_interleave(math.prod(tokens.shape[1:-1]))
        if self.storage == "f16" and self.kind != "cpu":
            flat.clamp_(-LARGEST, LARGEST)  # else a look at the sums, which is cheaper, would wait for them
        moments, others = self._added(flat, stored, weight)
        if self.storage == "f16" and self.kind == "cpu" and not (moments.isfinite().all() and others.isfinite().all()):
            flat.clamp_(-LARGEST, LARGEST)
            moments, _ = self._added(flat, stored, weight)
        return moments

    def _added(self, flat: Tensor, stored: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """The moments (3,D) of the rows that have weight 1, and the sums (D,) of those that have 0."""
        count, width = flat.shape
        size = max(1, min(count, BLOCK // width if self.kind == "cpu" else count))
        moments = torch.zeros(3, width, dtype=torch.float64, device=flat.device)
        others, all_train = torch.zeros_like(moments[0]), bool(weight.all()) if self.kind == "cpu" else True
        narrow, wide = (torch.empty(size, width, dtype=t, device=flat.device) for t in (torch.float32, torch.float64))
        for start in range(0, count, size):
            part, share = stored[start : start + size], weight[start : start + size]
            x, y = narrow[: len(part)], wide[: len(part)]
            if self.scale is None:
                part.copy_(flat[start : start + size])
                x.copy_(part)
            else:
                torch.div(flat[start : start + size], self.scale, out=x)
                moments[2] += (x.abs() > 127.5).sum(0)
                part.copy_(x.round_().clamp_(-127, 127))
                x *= self.scale
            y.copy_(x)
            moments[0].addmv_(y.mT, share)
            if not all_train:
                others.addmv_(y.mT, 1 - share)
            moments[1].addmv_(y.square_().mT, share)
        return moments, others


class Storing:
    """What `chunks.pour` computes of images: the rows of an `embeddings` array, and the moments of its chunks.

    On a CUDA device what is stored leaves by a stream of its own while the next forward pass runs.
    """

    def __init__(self, embed: Embed, array: Array, train: np.ndarray) -> None:
        self.embed, self.chunk_rows = embed, array.chunk_rows
        self.at = embed.device if embed.kind == "cuda" else "cpu"  # other devices have no f64
        self.rounding = Rounding(array.attrs, self.at)
        train_N = torch.zeros(len(array), dtype=torch.bool)
        train_N[torch.from_numpy(train)] = True
        self.train_N = train_N.to(self.at)
        self.leaving = torch.cuda.Stream(embed.device) if embed.kind == "cuda" else None  # type: ignore[no-untyped-call]

    def room(self, shape: tuple[int, ...], dtype: Any) -> np.ndarray:  # Any: a numpy dtype
        """Memory to store in, which a CUDA device writes to by itself."""
        if self.leaving is None:
            return aligned(shape, dtype)
        size = math.prod(shape) * dtype.itemsize
        room: np.ndarray = torch.empty(size, dtype=torch.uint8, pin_memory=True).numpy().view(dtype).reshape(shape)
        return room

    def __call__(self, rows: range, images_BHWC: Tensor, into: "Sequence[np.ndarray]") -> Callable[[], None] | None:
        """Rows of one chunk, or of several whole ones, with their moments (chunks,3,D) added."""
        tokens, train_B = self.embed(images_BHWC).to(self.at), self.train_N[rows.start : rows.stop]
        values = self.rounding.of(into[0])
        stored = values if self.leaving is None else torch.empty_like(values, device=self.at)
        parts = [slice(p.start - rows.start, p.stop - rows.start) for p in batches_of(rows, self.chunk_rows)]
        moments = torch.stack([self.rounding.encode(tokens[p], train_B[p], stored[p]) for p in parts])
        if self.leaving is None:
            into[1][...] += moments.numpy()
            return None
        arrived = torch.empty_like(moments, device="cpu", pin_memory=True)
        self.leaving.wait_stream(torch.cuda.current_stream(self.embed.device))
        with torch.cuda.stream(self.leaving):
            for value, target in ((stored, values), (moments, arrived)):
                target.copy_(value, non_blocking=True)
                value.record_stream(self.leaving)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(self.leaving)

        def wait() -> None:
            done.synchronize()
            into[1][...] += arrived.numpy()

        return wait
