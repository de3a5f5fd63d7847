"""Extract: the patch tokens of every image by a frozen encoder, (N,*grid,D)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from embprobe.chunks import fill
from embprobe.encoders import names
from embprobe.errors import UserError
from embprobe.stage import Make, Stage, dashed, option
from embprobe.store import Array, Artefact, Json
from embprobe.views import Images, blocks

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.encoders.load import Encoder

CHUNK_BYTES = 32 << 20
CALIBRATION = 1024  # images from which the int8 scales are taken
GIVEN = ("mean", "std", "heads", "input_size")  # what the user may know better than timm
DTYPES = {"f16": "float16", "bf16": "uint16", "int8": "int8"}


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Embed every image with a frozen encoder: all patch tokens of a layer, after the final norm."""

    version = 2

    images: Artefact = option("an ingested data set, or a folder or zip to ingest first", made_by=("ingest",))
    encoder: Artefact | str = option(names.GRAMMAR, made_by=("pretrain",))
    weights: Path | None = option(
        "a local weights file for the encoder (.safetensors, or .pth with tensors only)", None
    )
    mean: tuple[float, ...] | None = option(
        "of each channel in [0, 1], by which a timm encoder's images are normalised", None
    )
    std: tuple[float, ...] | None = option("the same, given with --mean; else both are timm's", None)
    heads: int | None = option(
        "attention heads of a timm encoder, which no weights file tells", None, least=1, most=1024
    )
    input_size: int | None = option("side in pixels that a timm encoder was made for", None, least=1, most=8192)
    layer: int | None = option("which block's tokens, from 1; else the last", None)
    storage: Literal["f16", "bf16", "int8"] = option("how numbers are stored; int8 with one scale a channel", "f16")
    seed: int = option("seed of a random encoder's weights and of int8 calibration", 0, least=0)
    precision: Literal["f32", "bf16"] = option("of the forward pass", "f32")
    forward: int = option("images per forward pass", 128, runtime=True, least=1, most=65_536)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def validate(self) -> None:
        if isinstance(self.encoder, str):
            names.check_name(self.encoder)
            if self.weights is not None and names.is_control(self.encoder):
                raise UserError(f"--weights has no meaning for encoder {self.encoder}; leave it out")
        elif self.weights is not None:
            raise UserError("--weights has no meaning with a pretrain artefact, which holds its own; leave it out")
        self.validate_given()

    def validate_given(self) -> None:
        """Raises UserError for what is given of an encoder that it can't be given of, or that can't be."""
        given = [dashed(name) for name in GIVEN if getattr(self, name) is not None]
        if given and (not isinstance(self.encoder, str) or names.timm_name(self.encoder) is None):
            what = f"encoder {self.encoder}" if isinstance(self.encoder, str) else "a pretrain artefact"
            raise UserError(f"{given[0]} is for timm's encoders and has no meaning with {what}; leave it out")
        if (self.mean is None) != (self.std is None):
            raise UserError(f"{given[0]} alone is half a normalisation; give --mean and --std, or neither")
        for name, values in (("--mean", self.mean or ()), ("--std", self.std or ())):
            shown = ",".join(f"{value:g}" for value in values)
            if values and len(values) != 3:
                raise UserError(f"{name} {shown} has {len(values)} numbers; give one for each of red, green and blue")
            if not all(0 <= value <= 1 for value in values) or (name == "--std" and 0 in values):
                raise UserError(f"{name} {shown} is not of pixels in [0, 1]; divide what is of 0 to 255 by 255")

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With the weights of a hub checkpoint as the file they are, so that they count by content."""
        if self.weights is None and isinstance(self.encoder, str):
            return replace(self, weights=names.hub_file(self.encoder, download=download))
        return self

    def spec(self) -> dict[str, Json]:
        """The encoder by its full name, and by the version of the package that provides it; no seed where none is drawn.

        What may be given of timm's encoders counts where it is given.
        """
        spec = {key: value for key, value in super().spec().items() if key not in GIVEN or value is not None}
        if isinstance(self.encoder, str):
            spec |= {"encoder": names.full_name(self.encoder), "family": names.family_version(self.encoder)}
            if not names.draws(self.encoder) and self.storage != "int8":
                spec["seed"] = None
        elif self.storage != "int8":
            spec["seed"] = None
        return spec

    def work(self) -> float:
        """Images to embed."""
        return float(self.images.metrics["count"]) if self.images.complete else 0.0

    def run(self, out: Artefact) -> None:
        import numpy as np
        import torch

        from embprobe.device import device_of
        from embprobe.encoders.load import Given, load_encoder

        images, device = Images(self.images), device_of(self.device)
        encoder = load_encoder(
            self.encoder,
            image_size=images.size,
            channels=images.channels,
            weights=self.weights,
            layer=self.layer,
            seed=self.seed,
            given=Given(**{name: getattr(self, name) for name in GIVEN}),
        ).to(device)
        embed = Embed(encoder, device, self.precision)
        array, moments = self.create(encoder, embed, images, out)
        is_train = np.zeros(len(images), bool)
        is_train[images.train] = True

        def compute(rows: range, pixels: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
            return encode(embed(pixels), array, is_train[rows.start : rows.stop])

        fill([array], lambda rows: images.array.read(rows.start, rows.stop), compute, batch=self.forward,
             label="extracting", sums=moments)  # fmt: skip
        facts = write_statistics(array, moments, int(is_train.sum()), out)
        out.note(
            encoder=encoder.facts | {"size": list(encoder.size), "mean": encoder.mean, "std": encoder.std},
            count=len(images),
            grid=list(encoder.grid),
            width=encoder.width,
            storage=self.storage,
            upscaled=any(own > given for own, given in zip(encoder.size, images.size, strict=True)),
            parameters=sum(p.numel() for p in encoder.network.parameters()),
            **facts,
        )
        if torch.device(device).type == "cuda":
            out.note(device=torch.cuda.get_device_name())

    def create(self, encoder: "Encoder", embed: "Embed", images: Images, out: Artefact) -> tuple[Array, Array]:
        """The arrays `embeddings` (N,*grid,D) and `moments` (n_chunks,3,D): sums, squares, clipped."""
        import math

        shape = (*encoder.grid, encoder.width)
        rows = max(1, min(len(images), CHUNK_BYTES // (math.prod(shape) * (1 if self.storage == "int8" else 2))))
        begun = out.begun_array("embeddings")
        attrs = out.array("embeddings").attrs if begun else self.encoding(embed, images)
        array = out.create("embeddings", (len(images), *shape), DTYPES[self.storage], chunk_rows=rows, attrs=attrs)
        return array, out.create("moments", (array.n_chunks, 3, encoder.width), "float64", chunk_rows=1)

    def encoding(self, embed: "Embed", images: Images) -> dict[str, Json]:
        """Attributes that say how to read the stored numbers; int8 scales by a seeded pass over some images."""
        if self.storage != "int8":
            return {"encoding": self.storage}
        import numpy as np

        rng = np.random.default_rng(self.seed)
        sample = np.sort(rng.permutation(len(images))[:CALIBRATION])
        largest = np.zeros(embed.encoder.width, np.float32)
        for rows in blocks(sample, self.forward):
            largest = np.maximum(largest, embed(images.array.take(rows)).abs().flatten(0, -2).amax(0).numpy())
        return {"encoding": "int8", "scale": (np.maximum(largest, 1e-8) / 127).tolist()}


class Embed:
    """Images to tokens on a device."""

    def __init__(self, encoder: "Encoder", device: str, precision: str) -> None:
        self.encoder, self.device, self.precision = encoder, device, precision

    def __call__(self, images_BHWC: "np.ndarray") -> "Tensor":
        """u8 (B,H,W,C), at most a forward batch → f32 tokens (B,*grid,D) on the CPU."""
        import torch

        kind = torch.device(self.device).type
        x = torch.from_numpy(images_BHWC)
        x = (x.pin_memory() if kind == "cuda" else x).to(self.device, non_blocking=True)
        with torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.encoder(x).float().cpu()


def encode(tokens: "Tensor", array: Array, is_train: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """Tokens (B,*grid,D) as they are stored, and the training rows' sums, squares and clipped counts (3,D) f64."""
    import numpy as np
    import torch

    clipped = np.zeros(array.shape[-1])
    if array.dtype == np.int8:
        scale = torch.tensor(array.attrs["scale"])
        scaled = tokens / scale
        clipped = (scaled.abs() > 127.5).flatten(0, -2).sum(0).numpy().astype(np.float64)
        stored = scaled.round().clamp(-127, 127).to(torch.int8)
        values, raw = stored.float() * scale, stored.numpy()
    elif array.dtype == np.uint16:
        stored = tokens.bfloat16()
        values, raw = stored.float(), stored.view(torch.int16).numpy().view(np.uint16)
    else:
        stored = tokens.clamp(-65504, 65504).half()
        values, raw = stored.float(), stored.numpy()
    flat = values[torch.from_numpy(is_train)].flatten(0, -2).double()
    return raw, np.stack([flat.sum(0).numpy(), flat.square().sum(0).numpy(), clipped])


def write_statistics(array: Array, moments: Array, train: int, out: Artefact) -> dict[str, Json]:
    """Writes `mean` and `std` (D,) f32 of the training tokens; the share of clipped numbers."""
    import math

    total, tokens = moments.read().sum(0), math.prod(array.shape[1:-1])
    mean = total[0] / (train * tokens)
    std = (total[1] / (train * tokens) - mean**2).clip(min=0) ** 0.5
    for name, values in (("mean", mean), ("std", std)):
        out.create(name, values.shape, "float32").write(values)
    return {"clipped": float(total[2].sum() / (len(array) * tokens * array.shape[-1]))}
