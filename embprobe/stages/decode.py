"""Decode: train a light decoder from latents (N,K,K,d) to pixels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Array, Artefact, Json

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from embprobe.nn.decoder import Decoder

SNAPSHOTS = (64, 256, 1000, 4000, 7000)
SHOWN = 8
RECONSTRUCTED = 2048  # held-out images at most
AVERAGED = 1024  # training images in the mean image


@dataclass(frozen=True, kw_only=True)
class Decode(Stage):
    """Train a decoder from latents to images, and reconstruct held-out images.

    Loss: L1, a perceptual distance, and from --gan-start on a patch discriminator with adaptive weight. The LPIPS heads
    belong to torchvision's trunk; without them features count unweighted. Either way it is a training loss only.
    The same held-out images are kept as snapshots after 64, 256, 1000, 4000, 7000 and all steps.
    """

    latents: Artefact = opt("a compress artefact", kinds=("compress",))
    images: Artefact | None = opt("the data set; else the one the latents were made from", None, kinds=("ingest",))
    steps: int = opt("optimiser steps", 20_000)
    size: int | None = opt("side of the decoded images in pixels; else that of the data set", None)
    width: int = opt("channels of the decoder's last level", 64)
    noise: float = opt("latents get noise of σ ~ U(0, this), in their own std", 0.3)
    perceptual: Literal["lpips-vgg", "lpips-squeeze", "classifier", "none"] | None = opt(
        "perceptual distance; else classifier or lpips-vgg where its network is given, else none", None
    )
    perceptual_weights: Path | None = opt("torchvision's VGG16 or SqueezeNet 1.1 weights file", None)
    lpips_heads: Path | None = opt("weights file of the LPIPS heads", None)
    classifier: Artefact | None = opt("a classify artefact, for --perceptual classifier", None, kinds=("classify",))
    perceptual_weight: float = opt("weight of the perceptual distance", 1.0)
    gan_start: int = opt("step from which the discriminator takes part", 5000)
    gan_weight: float = opt("weight of the adversarial loss, times the adaptive factor; 0 for none", 0.5)
    gan_width: int = opt("channels of the discriminator's first layer", 64)
    batch: int = opt("images per step", 24)
    rate: float = opt("peak rate of Adam", 2e-4)
    warmup: int = opt("steps in which the rate rises", 100)
    seed: int = opt("seed of initialisation, batches and noise", 0)
    precision: Literal["f32", "bf16"] = opt("of the forward and backward pass", "f32")
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("steps", "width", "gan_width", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")
        for name in ("noise", "perceptual_weight", "gan_weight", "gan_start", "warmup", "seed"):
            if getattr(self, name) < 0:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be 0 or more")
        if self.size is not None and self.size < 8:
            raise UserError(f"--size is {self.size}; it must be at least 8")
        if self.rate <= 0:
            raise UserError(f"--rate is {self.rate}; it must be above 0")
        if self.chosen() == "classifier" and self.classifier is None:
            raise UserError("--perceptual classifier needs --classifier, a classify artefact")
        if self.chosen().startswith("lpips") and self.perceptual_weights is None:
            raise UserError(missing_weights(self.chosen()))

    def chosen(self) -> str:
        """The perceptual distance: as given, else by the network that is given, else none."""
        if self.perceptual is not None:
            return self.perceptual
        if self.classifier is not None:
            return "classifier"
        return "none" if self.perceptual_weights is None else "lpips-vgg"

    def spec(self) -> dict[str, Json]:
        """The perceptual distance counts as resolved."""
        return super().spec() | {"perceptual": self.chosen()}

    def check(self) -> None:
        latents, images = self.latents.array("latents"), self.source().array("images")
        if len(latents) != len(images):
            raise UserError(
                f"latents {self.latents.short} have {len(latents)} rows, images {self.source().short} have "
                f"{len(images)}; give the --images they were made from, or leave it out"
            )

    def work(self) -> float:
        return float(self.steps * self.batch)

    def source(self) -> Artefact:
        """The data set."""
        return self.images or self.latents.inputs["embeddings"].inputs["images"]

    def run(self, out: Artefact) -> None:
        import numpy as np
        import torch

        from embprobe import console
        from embprobe.training.engine import Fit, device_of, fit, log_spaced
        from embprobe.nn.decoder import Decoder, DecoderTask

        if self.perceptual is None:
            console.say(f"--perceptual {self.chosen()} (not given)")

        latents, images = self.latents.array("latents"), self.source().array("images")
        split = self.source().array("split").read()
        train, held = np.nonzero(split == 0)[0], held_out(split)
        device, size = device_of(self.device), self.size or images.shape[1]
        shape = {"channels": latents.shape[3], "side": latents.shape[1], "size": size, "width": self.width}
        out.write_json("decoder.json", {"network": shape, **self.scales()})
        torch.manual_seed(self.seed)
        task = DecoderTask(
            Decoder(**shape),
            rate=self.rate,
            noise=self.noise,
            distance=self.distance(device),
            perceptual_weight=self.perceptual_weight,
            gan_weight=self.gan_weight,
            gan_start=self.gan_start if self.gan_weight > 0 and self.gan_start < self.steps else None,
            gan_width=self.gan_width,
            seen=self.snapshots(evenly(held, SHOWN), size, out, device),
        )
        warmup = max(1, self.warmup)
        config = Fit(
            steps=self.steps,
            seed=self.seed,
            images_per_step=self.batch,
            device=device,
            precision=self.precision,
            rate=lambda step: min(1.0, (step + 1) / warmup),
            milestones=log_spaced(self.steps),
            label="decoding",
        )
        fit(task, self.batches(images, train), config, out)
        parameters = sum(p.numel() for p in task.network.parameters())
        out.note(parameters=parameters, size=size, images_seen=self.steps * self.batch, held_out=len(held))
        if len(held):
            rows = evenly(held, RECONSTRUCTED)
            self.reconstruct(task.network, rows, out, device)
            out.note(**fidelity(out.array("reconstructions"), images, rows, evenly(train, AVERAGED)))

    def scales(self) -> dict[str, list[float]]:
        """How latents are normalised."""
        from embprobe.diffusion import latent_scale

        mean, std = (self.latents.array(name).read() for name in ("mean", "std"))
        return {"mean": mean.tolist(), "scale": latent_scale(std).tolist()}

    def normalised(self, rows: "np.ndarray") -> "Tensor":
        """Latents of these rows (B,K,K,d), zero mean and unit variance per channel."""
        import torch

        scales = {k: torch.tensor(v) for k, v in self.scales().items()}
        return (torch.from_numpy(self.latents.array("latents").floats(rows)) - scales["mean"]) / scales["scale"]

    def batches(self, images: Array, train: "np.ndarray") -> "Callable[[int], dict[str, Tensor]]":
        """Normalised latents and u8 images, a pure function of the step."""
        import torch

        from embprobe.training.batches import RowBatches

        latents = self.latents.array("latents")
        order = RowBatches({"images": images, "latents": latents}, train, self.batch, self.seed)
        scales = {k: torch.tensor(v) for k, v in self.scales().items()}

        def batches(step: int) -> "dict[str, Tensor]":
            found = order(step)
            normalised = (torch.from_numpy(found["latents"]) - scales["mean"]) / scales["scale"]
            return {"latents": normalised, "images": torch.from_numpy(found["images"])}

        return batches

    def distance(self, device: str) -> "Callable[[Tensor, Tensor], Tensor] | None":
        """The perceptual distance, on the device."""
        from embprobe.nn.perceptual import ClassifierFeatures, load_lpips, read_tensors

        if self.chosen() == "none":
            return None
        if self.chosen() == "classifier" and self.classifier is not None:
            return ClassifierFeatures(read_tensors(self.classifier.file("weights.safetensors"))).to(device)
        trunk: Literal["lpips-vgg", "lpips-squeeze"] = (
            "lpips-vgg" if self.chosen() == "lpips-vgg" else "lpips-squeeze"
        )
        return load_lpips(trunk, self.perceptual_weights, self.lpips_heads).to(device)

    def snapshots(self, rows: "np.ndarray", size: int, out: Artefact, device: str) -> "Callable[[Decoder, int], None]":
        """What writes the snapshot of a step when it is reached: u8 `snapshots` (S,8,H,W,3), one chunk a step."""
        import torch

        from embprobe.nn.decoder import to_u8

        steps = [s for s in SNAPSHOTS if s < self.steps] + [self.steps]
        if not len(rows):
            return lambda decoder, step: None
        attrs = {"steps": steps, "rows": rows.tolist()}
        array = out.create("snapshots", (len(steps), len(rows), size, size, 3), "uint8", chunk_rows=1, attrs=attrs)
        latents = self.normalised(rows).to(device)
        missing = {steps[chunk]: chunk for chunk in array.missing()}

        def seen(decoder: "Decoder", step: int) -> None:
            chunk = missing.pop(step, None)
            if chunk is not None:
                with torch.no_grad():
                    array.write_chunk(chunk, to_u8(decoder(latents)).cpu().numpy()[None])

        return seen

    def reconstruct(self, decoder: "Decoder", rows: "np.ndarray", out: Artefact, device: str) -> None:
        """Writes `reconstructions` u8 (n,S,S,3) of held-out images and `rows`, which images they are."""
        import torch

        from embprobe import console, signals
        from embprobe.nn.decoder import to_u8

        out.create("rows", (len(rows),), "int64").write(rows)
        shape = (len(rows), decoder.size, decoder.size, 3)
        array = out.create("reconstructions", shape, "uint8", chunk_rows=64)
        with console.progress("reconstructing", total=array.n_chunks, unit="chunk") as bar:
            for chunk in array.missing():
                here = array.rows_of(chunk)
                with torch.no_grad():
                    images = to_u8(decoder(self.normalised(rows[here.start : here.stop]).to(device)))
                array.write_chunk(chunk, images.cpu().numpy())
                bar.advance()
                signals.check()


def held_out(split: "np.ndarray") -> "np.ndarray":
    """Rows of the validation split, or of the test split where there is none."""
    import numpy as np

    rows = np.nonzero(split == 1)[0]
    return rows if len(rows) else np.nonzero(split == 2)[0]


def evenly(rows: "np.ndarray", count: int) -> "np.ndarray":
    """At most `count` of the rows, evenly spaced."""
    import numpy as np

    if len(rows) <= count:
        return rows
    spaced: np.ndarray = rows[np.linspace(0, len(rows) - 1, count).round().astype(np.int64)]
    return spaced


def fidelity(reconstructions: Array, images: Array, rows: "np.ndarray", train: "np.ndarray") -> dict[str, float]:
    """PSNR in dB over all held-out pixels, of the reconstructions and of the mean training image, and L1 of 0-255."""
    import numpy as np
    import torch

    from embprobe.nn.decoder import to_signed

    size = reconstructions.shape[1]

    def pixels(here: "np.ndarray") -> "np.ndarray":
        signed: np.ndarray = ((to_signed(torch.from_numpy(images.take(here)), size) + 1) * 127.5).numpy()
        return signed.transpose(0, 2, 3, 1)

    parts = [train[start : start + 64] for start in range(0, len(train), 64)]
    mean = np.sum([pixels(part).sum(0, dtype=np.float64) for part in parts], 0) / len(train)
    square = apart = blank = 0.0
    for start in range(0, len(rows), 64):
        truth = pixels(rows[start : start + 64]).astype(np.float64)
        error = reconstructions.read(start, start + 64) - truth
        square += float((error**2).sum())
        apart += float(np.abs(error).sum())
        blank += float(((mean - truth) ** 2).sum())
    count = len(rows) * size * size * 3
    psnr, floor = (float(10 * np.log10(255**2 / max(s / count, 1e-12))) for s in (square, blank))
    return {"psnr": psnr, "psnr_mean_image": floor, "psnr_gain": psnr - floor, "l1": apart / count}


def missing_weights(trunk: str) -> str:
    """What to do where the perceptual network's weights are not given."""
    name = "vgg16-397923af.pth" if trunk == "lpips-vgg" else "squeezenet1_1-b8a52dc0.pth"
    return (
        f"--perceptual {trunk} needs --perceptual-weights; download {name} from download.pytorch.org/models and give "
        "it, or use --perceptual none"
    )
