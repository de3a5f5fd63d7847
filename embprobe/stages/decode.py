"""Decode: train a light decoder from latents (N,*grid,d) to pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.chunks import fill
from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Array, Artefact, Json
from embprobe.training.stage import COMPILE, Training
from embprobe.views import Images, Latents, Learned, blocks, evenly, pixels_in

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from embprobe.nn.decoder import PixelDecoder
    from embprobe.training.task import Batches, Task

SNAPSHOTS = (64, 256, 1000, 4000, 7000)
SHOWN = 8
RECONSTRUCTED = 2048  # held-out images at most
AVERAGED = 1024  # training images in the mean image
BATCH = 64  # images decoded at a time


@dataclass(frozen=True, kw_only=True)
class Decode(Training):
    """Train a decoder from latents to images, and reconstruct held-out images.

    Loss: L1, a perceptual distance, and from --gan-start on a patch discriminator with adaptive weight. The LPIPS heads
    belong to torchvision's trunk; without them features count unweighted. Either way it is a training loss only.
    The same held-out images are kept as snapshots after 64, 256, 1000, 4000, 7000 and all steps.
    """

    version = 3

    latents: Artefact = option("a compress artefact", made_by=("compress",))
    images: Artefact = option("the data set; else the one the latents were made from", None, made_by=("ingest",))
    size: int | None = option(
        "side of the decoded images in pixels; else that of the data set", None, least=8, most=8192
    )
    width: int = option("channels of the decoder's last level", 64, least=1, most=8192)
    posterior: Literal["mean", "sample"] = option(
        "learn from the posterior's means, or from samples of it, drawn anew at every step", "mean", later=True
    )
    noise: float = option("latents get noise of σ ~ U(0, this), in their own std", 0.3, least=0)
    perceptual: Literal["lpips-vgg", "lpips-squeeze", "classifier", "none"] = option(
        "perceptual distance; else classifier or lpips-vgg where its network is given, else none", None
    )
    perceptual_weights: Path | None = option("torchvision's VGG16 or SqueezeNet 1.1 weights file", None)
    lpips_heads: Path | None = option("weights file of the LPIPS heads", None)
    classifier: Artefact | None = option(
        "a classify artefact, for --perceptual classifier", None, made_by=("classify",)
    )
    perceptual_weight: float = option("weight of the perceptual distance", 1.0, least=0)
    gan_start: int = option("step from which the discriminator takes part", 5000, least=0)
    gan_weight: float = option("weight of the adversarial loss, times the adaptive factor; 0 for none", 0.5, least=0)
    gan_width: int = option("channels of the discriminator's first layer", 64, least=1, most=8192)
    warmup: int = option("steps in which the rate rises", 100, least=0)
    steps: int = option("optimiser steps", 20_000, least=1)
    batch: int = option("images per step", 24, least=1, most=65_536)
    rate: float = option("learning rate of Adam at its peak", 2e-4, above=0)
    compile: bool = option(COMPILE, False, runtime=True)

    def resolved(self) -> dict[str, object]:
        images = self.images or Latents(self.latents).images.artefact
        usual = "classifier" if self.classifier else "lpips-vgg" if self.perceptual_weights else "none"
        return {"images": images, "perceptual": self.perceptual or usual}

    def validate(self) -> None:
        if self.perceptual == "classifier" and self.classifier is None:
            raise UserError("--perceptual classifier needs --classifier, a classify artefact")
        if self.perceptual.startswith("lpips") and self.perceptual_weights is None:
            raise UserError(missing_weights(self.perceptual))

    def check(self) -> None:
        latents, images = Latents(self.latents), Images(self.images)
        if len(latents) != len(images):
            raise UserError(
                f"latents {latents.short} have {len(latents)} rows, images {images.short} have "
                f"{len(images)}; give the --images they were made from, or leave it out"
            )

    def work(self) -> float:
        """Pixels seen."""
        return super().work() * pixels_in(Latents(self.latents).images.artefact)

    def run(self, out: Artefact) -> None:
        from embprobe.device import device_of
        from embprobe.nn.decoder import DecoderTask, Losses, PixelDecoder
        from embprobe.training.engine import warmup_constant

        latents, images, device = Latents(self.latents), Images(self.images), device_of(self.device)
        learned = latents.learned(self.posterior)
        held, size = images.held_out, (self.size, self.size) if self.size else images.size
        network: dict[str, Json] = {"channels": latents.channels, "grid": latents.grid, "size": size}
        network |= {"width": self.width, "out_channels": images.channels}
        out.write_json("decoder.json", {"network": network, **learned.scale.json()})
        losses = Losses(
            distance=self.distance(device),
            perceptual_weight=self.perceptual_weight,
            gan_weight=self.gan_weight,
            gan_start=self.gan_start if self.gan_weight > 0 and self.gan_start < self.steps else None,
            gan_width=self.gan_width,
        )
        on_step = self.snapshots(learned, evenly(held, SHOWN), size, out, device)

        def build() -> "Task":
            return DecoderTask(PixelDecoder(**network), losses, rate=self.rate, noise=self.noise, on_step=on_step)

        batches, rate = self.batches(learned, images), warmup_constant(self.warmup)
        decoder = self.train(build, batches, rate, out, label="decoding")
        out.note(size=size[0] if size[0] == size[1] else list(size), held_out=len(held))
        if len(held):
            assert isinstance(decoder, PixelDecoder)
            rows = evenly(held, RECONSTRUCTED)
            self.reconstruct(decoder, learned, rows, out, device)
            out.note(**fidelity(out.array("reconstructions"), images, rows, evenly(images.train, AVERAGED)))

    def batches(self, learned: Learned, images: Images) -> "Batches":
        """Normalised latents, the posterior's spread where it is sampled, and u8 images, a pure function of the step."""
        import torch

        from embprobe.training.batches import RowBatches

        order = RowBatches({"images": images.array, "latents": learned.of.array}, images.train, self.batch, self.seed)

        def batches(step: int) -> "dict[str, Tensor]":
            rows = order.rows_of(step)
            given = learned.values(rows) | {"images": images.array.take(rows)}
            return {name: torch.from_numpy(values) for name, values in given.items()}

        return batches

    def distance(self, device: str) -> "Callable[[Tensor, Tensor], Tensor] | None":
        """The perceptual distance, on the device."""
        from embprobe.nn.perceptual import ClassifierFeatures, load_lpips
        from embprobe.nn.weights import read_weights

        if self.perceptual == "none":
            return None
        if self.perceptual == "classifier" and self.classifier is not None:
            return ClassifierFeatures(read_weights(self.classifier.weights())).to(device)
        trunk: Literal["lpips-vgg", "lpips-squeeze"] = (
            "lpips-vgg" if self.perceptual == "lpips-vgg" else "lpips-squeeze"
        )
        return load_lpips(trunk, self.perceptual_weights, self.lpips_heads).to(device)

    def snapshots(
        self, learned: Learned, rows: "np.ndarray", size: tuple[int, int], out: Artefact, device: str
    ) -> "Callable[[PixelDecoder, int], None]":
        """What writes the snapshot of a step when it is reached: u8 `snapshots` (S,8,H,W,C), one chunk a step."""
        import torch

        from embprobe.pixels import to_u8

        steps = [s for s in SNAPSHOTS if s < self.steps] + [self.steps]
        if not len(rows):
            return lambda decoder, step: None
        shape = (len(steps), len(rows), *size, Images(self.images).channels)
        array = out.create("snapshots", shape, "uint8", chunk_rows=1, attrs={"steps": steps, "rows": rows.tolist()})
        shown = torch.from_numpy(learned.values(rows)["latents"]).to(device)
        missing = {steps[chunk]: chunk for chunk in array.missing()}

        def on_step(decoder: "PixelDecoder", step: int) -> None:
            chunk = missing.pop(step, None)
            if chunk is not None:
                with torch.no_grad():
                    array.write_chunk(chunk, to_u8(decoder(shown)).cpu().numpy()[None])

        return on_step

    def reconstruct(
        self, decoder: "PixelDecoder", learned: Learned, rows: "np.ndarray", out: Artefact, device: str
    ) -> None:
        """Writes `reconstructions` u8 (n,H,W,C) of held-out images and `rows`, which images they are."""
        import torch

        from embprobe.pixels import to_u8

        out.create("rows", (len(rows),), "int64").write(rows)
        shape = (len(rows), *decoder.size, Images(self.images).channels)
        array = out.create("reconstructions", shape, "uint8", chunk_rows=BATCH, kind="images")

        def decoded(_: range, normalised: "np.ndarray") -> "list[np.ndarray]":
            with torch.no_grad():
                return [to_u8(decoder(torch.from_numpy(normalised).to(device))).cpu().numpy()]

        def read(part: range) -> "np.ndarray":
            return learned.values(rows[part.start : part.stop])["latents"]

        fill([array], read, decoded, batch=BATCH, label="reconstructing")


def fidelity(reconstructions: Array, images: Images, rows: "np.ndarray", train: "np.ndarray") -> dict[str, float]:
    """PSNR in dB over all held-out pixels, of the reconstructions and of the mean training image, and L1 of 0-255."""
    import math

    import numpy as np
    import torch

    from embprobe.pixels import to_signed

    _, height, width, channels = reconstructions.shape

    def pixels(here: "np.ndarray") -> "np.ndarray":
        signed = to_signed(torch.from_numpy(images.array.take(here)), (height, width))
        values: np.ndarray = ((signed + 1) * 127.5).numpy()
        return values.transpose(0, 2, 3, 1)

    mean = np.sum([pixels(part).sum(0, dtype=np.float64) for part in blocks(train, BATCH)], 0) / len(train)
    square = distance = blank = 0.0
    for place, part in zip(range(0, len(rows), BATCH), blocks(rows, BATCH), strict=True):
        truth = pixels(part).astype(np.float64)
        error = reconstructions.read(place, place + BATCH) - truth
        square += float((error**2).sum())
        distance += float(np.abs(error).sum())
        blank += float(((mean - truth) ** 2).sum())
    count = len(rows) * height * width * channels
    psnr, floor = (10 * math.log10(255**2 / max(s / count, 1e-12)) for s in (square, blank))
    return {"psnr": psnr, "psnr_mean_image": floor, "psnr_gain": psnr - floor, "l1": distance / count}


def missing_weights(trunk: str) -> str:
    """What to do where the perceptual network's weights are not given."""
    name = "vgg16-397923af.pth" if trunk == "lpips-vgg" else "squeezenet1_1-b8a52dc0.pth"
    return (
        f"--perceptual {trunk} needs --perceptual-weights; download {name} from download.pytorch.org/models and give "
        "it, or use --perceptual none"
    )
