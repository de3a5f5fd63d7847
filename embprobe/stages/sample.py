"""Sample: noise to latents by a denoiser, latents to images by a decoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.chunks import fill
from embprobe.errors import UserError, did_you_mean
from embprobe.stage import DETERMINISTIC, Stage, option
from embprobe.store import Array, Artefact, Json
from embprobe.views import Decoder, Denoiser

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    Condition = Callable[[range], Tensor]

CHUNK_ROWS = 256
DECODED = 64  # images decoded at a time


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Draw latents from a denoiser and decode them to images.

    Noise and labels depend on the seed alone, never on the forward batch, which changes only rounding.
    """

    version = 3

    denoiser: Artefact = option("a diffuse artefact", made_by=("diffuse",))
    decoder: Artefact = option("a decode artefact made from the same latents", made_by=("decode",))
    count: int = option("how many", 5000, least=1, most=10_000_000)
    steps: int = option("steps of the sampler", 50, least=1, most=1000)
    sampler: Literal["ddim", "dpm++", "euler", "gaussian"] = option(
        "ddim or dpm++ for epsilon and v, euler or dpm++ for flow; gaussian draws each channel alone, as a control",
        None,
    )
    eta: float = option("share of fresh noise in DDIM; 0 is deterministic", 0.0, least=0, most=1)
    guidance: float = option("classifier-free guidance; 1 is none", 1.0, least=0)
    guidance_interval: tuple[float, ...] = option(
        "noise interval with guidance, in shares of the time, low and high", (0.0, 1.0)
    )
    labels: str | None = option("balanced, empirical, or a class; for denoisers with classes", None)
    prompt: str | None = option(
        "the caption of every sample, for denoisers that read text; empty for none; left out: captions of training images",
        None,
        later=True,
    )
    prompts: Path | None = option(
        "a file of prompts, one a line or as JSON lines, which samples take in turn", None, path="file", later=True
    )
    milestone: float | None = option(
        "the denoiser at this saved step, or nearest to this share of its run; else the last", None, above=0
    )
    epoch: float | None = option(
        "the denoiser after this epoch, one of those kept by diffuse --keep-epochs", None, above=0, later=True
    )
    seed: int = option("seed of noise and labels", 0, least=0)
    precision: Literal["f32", "bf16"] = option("of the denoiser's forward pass", "f32")
    forward: int | None = option(
        "samples per forward pass; else 1024 on a GPU, 128 on a CPU", None, runtime=True, least=1, most=65_536
    )
    png: Path | None = option("also write the images as PNG files into this folder", None, runtime=True, path="folder")
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)
    deterministic: bool = option(DETERMINISTIC, True, runtime=True)

    def resolved(self) -> dict[str, object]:
        denoiser = Denoiser(self.denoiser)
        sampler = self.sampler or ("euler" if denoiser.objective == "flow" else "ddim")
        labels, step, epoch = self.labels, self.milestone, self.epoch
        if sampler == "gaussian":
            labels = None
        elif denoiser.conditional:
            labels = labels or "balanced"
        if epoch is not None and step is None and denoiser.artefact.complete:
            at = denoiser.step_at(epoch)
            step, epoch = (at, None) if at in denoiser.milestones else (None, epoch)
        if step is not None and step < 1:  # a share of the run stands for the saved step nearest to it
            share = step * denoiser.steps
            step = min(denoiser.milestones, key=lambda saved: abs(saved - share))
        if step is not None and step == int(step):
            step = None if step == denoiser.steps else int(step)
        interval = tuple(float(share) for share in self.guidance_interval)
        decided = {"sampler": sampler, "labels": labels, "milestone": step, "epoch": epoch}
        return decided | {"guidance_interval": interval}

    def validate(self) -> None:
        if self.epoch is not None and self.milestone is not None:
            raise UserError("--epoch and --milestone both say when; give one of them")
        if self.prompt is not None and self.prompts is not None:
            raise UserError("--prompt and --prompts both say what to draw; give one of them")
        interval = self.guidance_interval
        if len(interval) != 2 or not 0 <= interval[0] <= interval[1] <= 1:
            raise UserError("--guidance-interval must be two shares, low then high, such as 0.2,0.8")
        if self.eta > 0 and self.sampler != "ddim":
            raise UserError(f"--eta has no meaning for --sampler {self.sampler}; leave it out, or use ddim")

    def check(self) -> None:
        from embprobe.sampling import check_sampler

        denoiser, decoder = Denoiser(self.denoiser), Decoder(self.decoder)
        ours, theirs = denoiser.latents.artefact, decoder.latents.artefact
        if ours != theirs:
            raise UserError(
                f"denoiser {denoiser.short} was trained on latents {ours.short}, decoder {decoder.short} on "
                f"{theirs.short}; give a --decoder made from {ours.short}"
            )
        if self.sampler != "gaussian":
            check_sampler(self.sampler, denoiser.objective)
        self.check_labels(denoiser)
        if self.epoch is not None:
            listed = ", ".join(f"{denoiser.epochs(step):.4g}" for step in denoiser.milestones)
            raise UserError(
                f"--epoch {self.epoch:g} was not kept; there are {listed} (diffuse --keep-epochs adds others)"
            )
        if self.milestone is not None and self.milestone not in denoiser.milestones:
            listed = ", ".join(str(step) for step in denoiser.milestones)
            raise UserError(f"--milestone {self.milestone:g} was not saved; there are {listed}")

    def check_labels(self, denoiser: Denoiser) -> None:
        """Labels, prompts and guidance fit the denoiser."""
        prompted = self.prompt is not None or self.prompts is not None
        if prompted and denoiser.text is None:
            raise UserError(f"denoiser {denoiser.short} reads no text; leave --prompt and --prompts out")
        if self.labels is not None and denoiser.text is not None:
            raise UserError(f"denoiser {denoiser.short} knows captions, not classes; give --prompt for --labels")
        if not denoiser.learns_condition and (self.labels is not None or self.guidance != 1):
            raise UserError(f"denoiser {denoiser.short} knows no classes; leave --labels and --guidance out")
        if self.guidance != 1 and denoiser.label_dropout == 0:
            raise UserError(
                f"denoiser {denoiser.short} learned no null {'caption' if denoiser.text else 'class'}; leave --guidance out"
            )
        if denoiser.conditional and self.labels not in (None, "balanced", "empirical", *denoiser.classes):
            names = denoiser.classes
            hint = did_you_mean(str(self.labels), names)
            raise UserError(f"--labels {self.labels!r} is no class{hint} (balanced, empirical, {', '.join(names)})")

    def work(self) -> float:
        """Forward passes."""
        return float(self.count * self.steps * (1 if self.guidance == 1 else 2))

    def run(self, out: Artefact) -> None:
        from embprobe.device import device_of
        from embprobe.encoders import conditions

        device = device_of(self.device, deterministic=self.deterministic)
        denoiser, decoder = Denoiser(self.denoiser), Decoder(self.decoder)
        labels = None if self.labels is None else conditions.drawn_labels(denoiser, self.labels, self.count, self.seed)
        if labels is not None:
            out.create("label", (self.count,), "int32").write(labels)
            out.write_json("classes.json", denoiser.classes)
        prompts = self.asked(denoiser)
        if prompts is not None:
            out.write_lines("caption.jsonl", prompts)
        condition = conditions.asked_conditions(denoiser, labels, prompts, device)
        images = self.draw(denoiser, decoder, condition, out, device)
        height, width = images.shape[1:3]
        out.note(count=self.count, size=height if height == width else [height, width])
        out.note(sampler=self.sampler, steps=self.steps, guidance=self.guidance, labels=self.labels)
        out.note(milestone=self.milestone, spacing=spacing_of(self.sampler))

    def asked(self, denoiser: Denoiser) -> "list[str | None] | None":
        """A caption of each sample, None for the null one: those given in turn, else of training images at random."""
        from embprobe.data.prompts import read_prompts
        from embprobe.encoders import conditions

        if denoiser.text is None or self.sampler == "gaussian":
            return None
        if self.prompt is None and self.prompts is None:
            return conditions.drawn_captions(denoiser, self.count, self.seed)
        given = [self.prompt] if self.prompts is None else read_prompts(self.prompts)
        return [given[row % len(given)] or None for row in range(self.count)]

    def draw(
        self, denoiser: Denoiser, decoder: Decoder, condition: "Condition | None", out: Artefact, device: str
    ) -> Array:
        """Writes `latents` (count,*grid,d) f32, in their own units, and `images` u8 (count,H,W,C)."""
        import torch

        from embprobe.device import is_cuda

        of, facts = denoiser.latents, decoder.facts["network"]
        height, width = (facts["size"],) * 2 if isinstance(facts["size"], int) else facts["size"]
        latents = out.create("latents", (self.count, *of.grid, of.channels), "float32", chunk_rows=CHUNK_ROWS)
        shape = (self.count, height, width, facts["out_channels"])
        images = out.create("images", shape, "uint8", chunk_rows=CHUNK_ROWS, kind="images")
        normalised, decoded = self.normalised(denoiser, device), self.decoded(decoder, device)

        def drawn_before(rows: range) -> "np.ndarray | None":
            chunks = range(rows.start // CHUNK_ROWS, -(-rows.stop // CHUNK_ROWS))
            there = all(latents.folder.has(latents.file(chunk)) for chunk in chunks)
            return latents.read(rows.start, rows.stop) if there else None

        def drawn(rows: range, z: "np.ndarray | None") -> "list[np.ndarray]":
            if z is None:
                given = None if condition is None else condition(rows)
                kind = torch.device(device).type
                with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=self.precision == "bf16"):
                    z = denoiser.scale.restored(normalised(rows, given).cpu().movedim(1, -1).numpy())
            return [z, decoded(z)]

        on_gpu = is_cuda(device)
        batch = self.forward or (1024 if on_gpu else 128)
        fill([latents, images], drawn_before, drawn, batch=batch, label="sampling", together=on_gpu)
        return images

    def normalised(self, denoiser: Denoiser, device: str) -> "Callable[[range, Tensor | None], Tensor]":
        """What draws normalised latents (B,d,*grid) of some rows with their conditions."""
        from concurrent.futures import ThreadPoolExecutor

        from embprobe import sampling, signals
        from embprobe.device import is_cuda
        from embprobe.nn.denoiser import DenoiserConfig, build_denoiser
        from embprobe.nn.weights import restored
        from embprobe.training.graphs import Replayed

        shape = (denoiser.latents.channels, *denoiser.latents.grid)

        def noise(rows: range, draw: int) -> "Tensor":
            values = sampling.noise_blocks(self.seed, rows.start, len(rows), shape, draw=draw)
            return values.pin_memory() if is_cuda(device) else values

        if self.sampler == "gaussian":
            return lambda rows, condition: noise(rows, 0)
        facts = denoiser.facts["network"]
        path = denoiser.weights(None if self.milestone is None else int(self.milestone))
        network = restored(lambda told: build_denoiser(DenoiserConfig.of(told)), facts, path).to(device).eval()
        config, predict, ahead = DenoiserConfig.of(facts), Replayed(network, device), ThreadPoolExecutor(1)
        low, high = self.guidance_interval
        null = config.null_condition
        guidance = None if null is None else sampling.Guidance(null.to(device), self.guidance, (low, high))

        def normalised(rows: range, condition: "Tensor | None") -> "Tensor":
            following = ahead.submit(noise, rows, 0)

            def fresh(step: int) -> "Tensor":
                """Noise of a draw, while that of the next is drawn."""
                nonlocal following
                signals.check()
                now = following.result()
                if self.eta and step < self.steps:
                    following = ahead.submit(noise, rows, step + 1)
                return now.to(device, non_blocking=True)

            return sampling.sample(
                *(predict, fresh(0), config.schedule, self.sampler, self.steps),
                None if condition is None else condition.to(device),
                guidance=guidance,
                eta=self.eta,
                fresh=lambda step: fresh(step + 1),
            )

        return normalised

    def decoded(self, decoder: Decoder, device: str) -> "Callable[[np.ndarray], np.ndarray]":
        """What makes images u8 (n,H,W,C) of latents in their own units."""
        import numpy as np
        import torch

        from embprobe.nn.decoder import PixelDecoder
        from embprobe.nn.weights import restored
        from embprobe.pixels import to_u8
        from embprobe.views import blocks

        network = restored(lambda told: PixelDecoder(**told), decoder.facts["network"], decoder.weights())
        network.to(device).eval()

        def decoded(latents: "np.ndarray") -> "np.ndarray":
            with torch.no_grad():
                parts = blocks(decoder.scale.normalised(latents), DECODED)
                made = [to_u8(network(torch.from_numpy(part).to(device))) for part in parts]
            return np.concatenate([part.cpu().numpy() for part in made])

        return decoded

    def export(self, out: Artefact) -> None:
        """Images as 000000.png, 000001.png, …; those that are there already stay. Raises UserError where others are."""
        if self.png is None:
            return
        from embprobe.page.pictures import write_png

        self.png.mkdir(parents=True, exist_ok=True)
        array = out.array("images")
        for chunk in range(array.n_chunks):
            for row, image in zip(array.rows_of(chunk), array.chunk(chunk), strict=True):
                write_png(self.png / f"{row:06d}.png", image[..., 0] if image.shape[-1] == 1 else image)


def spacing_of(sampler: str) -> Json:
    """How the sampler's steps are spaced, in words."""
    from embprobe.sampling import SAMPLERS

    if sampler == "gaussian":
        return "none: each channel drawn alone, with the training latents' mean and std"
    return SAMPLERS[sampler].spacing
