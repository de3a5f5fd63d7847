"""Extract: the patch tokens of every image by a frozen encoder, (N,K,K,D)."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Array, Artefact

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.encoders.load import Encoder

CHUNK_BYTES = 32 << 20
CALIBRATION = 1024  # images from which the int8 scales are taken


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Embed every image with a frozen encoder: all patch tokens of a layer, after the final norm."""

    images: Artefact = opt("an ingested data set, or a folder or zip to ingest first", kinds=("ingest",))
    encoder: Artefact | str = opt(
        "mae, ijepa, dinov2, dinov3, siglip2, supervised, timm:NAME, a pretrain artefact, pixels[:PATCH], random:NAME",
        kinds=("pretrain",),
    )
    weights: Path | None = opt("a local weights file for the encoder (.safetensors, or .pth with tensors only)", None)
    layer: int | None = opt("which block's tokens, from 1; else the last", None)
    storage: Literal["f16", "bf16", "int8"] = opt("how numbers are stored; int8 with one scale a channel", "f16")
    seed: int = opt("seed of a random encoder's weights and of int8 calibration", 0)
    precision: Literal["f32", "bf16"] = opt("of the forward pass", "f32")
    batch: int = opt("images per forward pass", 128, runtime=True)
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        if self.batch < 1:
            raise UserError(f"--batch is {self.batch}; it must be at least 1")
        if isinstance(self.encoder, str):
            known = ("mae", "ijepa", "dinov2", "dinov3", "siglip2", "supervised", "pixels")
            if self.encoder not in known and not self.encoder.startswith(("timm:", "random:", "pixels:")):
                from embprobe.errors import did_you_mean

                raise UserError(
                    f'encoder "{self.encoder}" is unknown{did_you_mean(self.encoder, known)} (known: {", ".join(known)}, '
                    "timm:NAME, random:NAME, or a pretrain artefact)"
                )
            if self.weights is not None and self.encoder.startswith(("pixels", "random:")):
                raise UserError(f"--weights has no meaning for encoder {self.encoder}; leave it out")
        elif self.weights is not None:
            raise UserError("--weights has no meaning with a pretrain artefact, which holds its own; leave it out")

    def work(self) -> float:
        return float(self.images.metrics["count"]) if self.images.complete else 0.0

    def run(self, out: Artefact) -> None:
        import torch

        from embprobe.encoders.load import load_encoder
        from embprobe.training.engine import device_of

        images = self.images.array("images")
        device = device_of(self.device)
        encoder = load_encoder(
            self.encoder, image_size=images.shape[1], weights=self.weights, layer=self.layer, seed=self.seed
        ).to(device)
        embed = Embed(encoder, device, self.precision, self.batch)
        k, d = encoder.grid, encoder.width
        rows = max(1, min(len(images), CHUNK_BYTES // (k * k * d * (1 if self.storage == "int8" else 2))))
        attrs = self.encoding(embed, images, out)
        array = out.create(
            "embeddings",
            (len(images), k, k, d),
            {"f16": "float16", "bf16": "uint16", "int8": "int8"}[self.storage],
            chunk_rows=rows,
            attrs=attrs,
        )
        moments = out.create("moments", (array.n_chunks, 3, d), "float64", chunk_rows=1)
        split = self.images.array("split").read()
        write_chunks(embed, images, array, moments, split == 0)
        total = moments.read().sum(0)
        count = int((split == 0).sum()) * k * k
        mean = total[0] / count
        std = (total[1] / count - mean**2).clip(min=0) ** 0.5
        out.create("mean", (d,), "float32").write(mean)
        out.create("std", (d,), "float32").write(std)
        out.note(
            encoder=encoder.facts | {"size": encoder.size, "mean": encoder.mean, "std": encoder.std},
            count=len(images),
            grid=k,
            width=d,
            storage=self.storage,
            clipped=float(total[2].sum() / (len(images) * k * k * d)),
            upscaled=encoder.size > images.shape[1],
            parameters=sum(p.numel() for p in encoder.network.parameters()) if encoder.network else 0,
        )
        if torch.device(device).type == "cuda":
            out.note(device=torch.cuda.get_device_name())

    def encoding(self, embed: "Embed", images: Array, out: Artefact) -> dict[str, object]:
        """Attributes that tell how to read the stored numbers."""
        if self.storage != "int8":
            return {"encoding": self.storage}
        if out.ledger.whole("data.zarr/embeddings/zarr.json"):
            return out.array("embeddings").attrs
        import numpy as np

        rng = np.random.default_rng(self.seed)
        sample = np.sort(rng.permutation(len(images))[:CALIBRATION])
        largest = np.zeros(embed.encoder.width, np.float32)
        for part in np.array_split(sample, -(-len(sample) // embed.batch)):
            tokens = embed(images.take(part)).abs().flatten(0, 2).amax(0).numpy()
            largest = np.maximum(largest, tokens)
        return {"encoding": "int8", "scale": (np.maximum(largest, 1e-8) / 127).tolist()}


class Embed:
    """Images to tokens on a device."""

    def __init__(self, encoder: "Encoder", device: str, precision: str, batch: int) -> None:
        self.encoder, self.device, self.precision, self.batch = encoder, device, precision, batch

    def __call__(self, images_BHWC: "np.ndarray") -> "Tensor":
        """u8 (B,H,W,3), at most a forward batch → f32 tokens (B,K,K,D) on the CPU."""
        import torch

        kind = torch.device(self.device).type
        x = torch.from_numpy(images_BHWC)
        x = (x.pin_memory() if kind == "cuda" else x).to(self.device, non_blocking=True)
        with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.encoder(x).float().cpu()


def write_chunks(embed: Embed, images: Array, array: Array, moments: Array, train: "np.ndarray") -> None:
    """Embeds the chunks that are missing; reading ahead, computing and writing overlap.

    Memory holds two forward batches of images and at most three chunks as they are stored.
    """
    from concurrent.futures import Future, ThreadPoolExecutor

    import numpy as np

    from embprobe import console, signals

    todo = sorted({*array.missing(), *moments.missing()})
    left = sum(len(array.rows_of(c)) for c in todo)
    with (
        ThreadPoolExecutor(1) as reader,
        ThreadPoolExecutor(2) as writer,
        console.progress("extracting", total=len(images), unit="img", start=len(images) - left) as bar,
    ):
        writes: list[Future[None]] = []
        for chunk in todo:
            rows = array.rows_of(chunk)
            raw = np.empty((len(rows), *array.shape[1:]), array.dtype)
            sums = np.zeros((3, array.shape[-1]))
            starts = range(rows.start, rows.stop, embed.batch)
            ahead = reader.submit(images.read, rows.start, min(rows.start + embed.batch, rows.stop))
            for start in starts:
                pixels = ahead.result()
                following = start + embed.batch
                if following < rows.stop:
                    ahead = reader.submit(images.read, following, min(following + embed.batch, rows.stop))
                stop = start + len(pixels)
                raw[start - rows.start : stop - rows.start], part = encode(embed(pixels), array, train[start:stop])
                sums += part
                bar.advance(len(pixels))
            writes.append(writer.submit(store_chunk, raw, chunk, array, moments, sums))
            while len(writes) > 2 or (writes and signals.requested()):
                writes.pop(0).result()
            signals.check()
        for write in writes:
            write.result()


def encode(tokens_BKKD: "Tensor", array: Array, train: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Tokens as they are stored, and the training rows' sums, squares and clipped counts per channel (3,D) f64."""
    import numpy as np
    import torch

    clipped = np.zeros(array.shape[-1])
    if array.dtype == np.int8:
        scale = torch.tensor(array.attrs["scale"])
        scaled = tokens_BKKD / scale
        clipped = (scaled.abs() > 127.5).flatten(0, 2).sum(0).numpy().astype(np.float64)
        stored = scaled.round().clamp(-127, 127).to(torch.int8)
        values, raw = stored.float() * scale, stored.numpy()
    elif array.dtype == np.uint16:
        stored = tokens_BKKD.bfloat16()
        values, raw = stored.float(), stored.view(torch.int16).numpy().view(np.uint16)
    else:
        stored = tokens_BKKD.clamp(-65504, 65504).half()
        values, raw = stored.float(), stored.numpy()
    flat = values[torch.from_numpy(train)].flatten(0, 2).double()
    return raw, np.stack([flat.sum(0).numpy(), flat.square().sum(0).numpy(), clipped])


def store_chunk(raw: "np.ndarray", chunk: int, array: Array, moments: Array, sums: "np.ndarray") -> None:
    """Writes one chunk, after its sums: a chunk that is there has them."""
    moments.write_chunk(chunk, sums[None])
    array.write_chunk(chunk, raw)
