"""Sample: noise to latents by a denoiser, latents to images by a decoder."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError, did_you_mean
from embprobe.stage import Stage, opt
from embprobe.store import Array, Artefact, Json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor, nn

    from embprobe.nn.decoder import Decoder

CHUNK_ROWS = 256
LABEL_DRAW = 1 << 20  # keeps the draws of labels apart from those of noise
SPACING = {
    "ddim": "leading, offset 1, to the first of 1000 levels, no clipping",
    "dpm++": "evenly from the last time to 0, no clipping",
    "euler": "even in time, then shifted",
    "gaussian": "none: each channel drawn alone, with the training latents' mean and std",
}


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Draw latents from a denoiser and decode them to images.

    Noise and labels depend on the seed alone, never on the batch. A batch changes only rounding.
    """

    denoiser: Artefact = opt("a diffuse artefact", kinds=("diffuse",))
    decoder: Artefact = opt("a decode artefact made from the same latents", kinds=("decode",))
    count: int = opt("how many", 5000)
    steps: int = opt("steps of the sampler", 50)
    sampler: Literal["ddim", "dpm++", "euler", "gaussian"] | None = opt(
        "ddim or dpm++ for epsilon and v, euler or dpm++ for flow; gaussian draws each channel alone, as a control", None
    )
    eta: float = opt("share of fresh noise in DDIM; 0 is deterministic", 0.0)
    guidance: float = opt("classifier-free guidance; 1 is none", 1.0)
    guidance_interval: tuple[float, ...] = opt(
        "noise interval with guidance, in shares of the time, low and high", (0, 1)
    )
    labels: str | None = opt("balanced, empirical, or a class; for denoisers with classes", None)
    milestone: float | None = opt(
        "the denoiser at this saved step, or nearest to this share of its run; else the last", None
    )
    seed: int = opt("seed of noise and labels", 0)
    precision: Literal["f32", "bf16"] = opt("of the denoiser's forward pass", "f32")
    batch: int = opt("samples per forward pass", 128, runtime=True)
    png: Path | None = opt("also write the images as PNG files into this folder", None, runtime=True)
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("count", "steps", "batch"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if self.steps > 1000:
            raise UserError(f"--steps is {self.steps}; it must be at most 1000")
        if not 0 <= self.eta <= 1:
            raise UserError(f"--eta is {self.eta}; it must lie between 0 and 1")
        if self.seed < 0 or self.guidance < 0:
            raise UserError("--seed and --guidance must be 0 or more")
        low_high = tuple(self.guidance_interval)
        if len(low_high) != 2 or not 0 <= low_high[0] <= low_high[1] <= 1:
            raise UserError("--guidance-interval must be two shares, low then high, such as 0.2,0.8")
        if self.milestone is not None and self.milestone <= 0:
            raise UserError(f"--milestone is {self.milestone:g}; it must be a saved step, or a share above 0")
        if self.eta > 0 and self.chosen() != "ddim":
            raise UserError(f"--eta has no meaning for --sampler {self.chosen()}; leave it out, or use ddim")

    def chosen(self) -> str:
        """The sampler: as given, else DDIM, or Euler where the denoiser learned a flow."""
        return self.sampler or ("euler" if self.denoiser.spec["objective"] == "flow" else "ddim")

    def saved(self) -> tuple[int, ...]:
        """The steps at which the denoiser keeps weights."""
        from embprobe.training.milestones import log_spaced

        return log_spaced(self.denoiser.spec["steps"])

    def step(self) -> int | None:
        """The milestone as a step; a share of the run stands for the saved step nearest to it."""
        if self.milestone is None or self.milestone >= 1:
            return None if self.milestone is None else int(self.milestone)
        wanted = self.milestone * self.denoiser.spec["steps"]
        return min(self.saved(), key=lambda step: abs(step - wanted))

    def label_plan(self) -> str | None:
        """How labels are chosen: as given, else balanced; None for a denoiser without classes."""
        if self.chosen() == "gaussian":
            return None
        return (self.labels or "balanced") if self.denoiser.spec["conditional"] else self.labels

    def spec(self) -> dict[str, Json]:
        interval = [float(share) for share in self.guidance_interval]
        resolved = {
            "milestone": self.step(),
            "sampler": self.chosen(),
            "labels": self.label_plan(),
            "guidance_interval": interval,
        }
        return super().spec() | resolved

    def check(self) -> None:
        from embprobe.diffusion import check_sampler

        ours, theirs = self.denoiser.inputs["latents"], self.decoder.inputs["latents"]
        if ours != theirs:
            raise UserError(
                f"denoiser {self.denoiser.short} was trained on latents {ours.short}, decoder {self.decoder.short} on "
                f"{theirs.short}; give a --decoder made from {ours.short}"
            )
        if self.chosen() != "gaussian":
            check_sampler(self.chosen(), self.denoiser.spec["objective"])
        self.check_labels()
        if self.milestone is not None and self.step() not in self.saved():
            listed = ", ".join(str(step) for step in self.saved())
            raise UserError(f"--milestone {self.milestone:g} was not saved; there are {listed}")

    def check_labels(self) -> None:
        """Labels and guidance fit the denoiser."""
        spec = self.denoiser.spec
        if not spec["conditional"] and (self.labels is not None or self.guidance != 1):
            raise UserError(f"denoiser {self.denoiser.short} knows no classes; leave --labels and --guidance out")
        if self.guidance != 1 and spec["label_dropout"] == 0:
            raise UserError(f"denoiser {self.denoiser.short} learned no null class; leave --guidance out")
        if spec["conditional"] and self.labels not in (None, "balanced", "empirical"):
            names = self.denoiser.read_json("denoiser.json")["classes"]
            if self.labels not in names:
                hint = did_you_mean(str(self.labels), names)
                raise UserError(f"--labels {self.labels!r} is no class{hint} (balanced, empirical, {', '.join(names)})")

    def work(self) -> float:
        return float(self.count * self.steps * (1 if self.guidance == 1 else 2))

    def run(self, out: Artefact) -> None:
        from embprobe import console, signals
        from embprobe.training.engine import device_of

        device = device_of(self.device)
        facts = self.denoiser.read_json("denoiser.json")
        denoiser = Denoiser(self, facts, device)
        decoder = load_decoder(self.decoder, device)
        k, d, s = denoiser.description.side, denoiser.description.channels, decoder.size
        latents = out.create("latents", (self.count, k, k, d), "float32", chunk_rows=CHUNK_ROWS)
        images = out.create("images", (self.count, s, s, 3), "uint8", chunk_rows=CHUNK_ROWS)
        labels = self.draw_labels(facts)
        if labels is not None:
            out.create("label", (self.count,), "int32").write(labels)
            out.write_json("classes.json", facts["classes"])
        todo, undrawn = sorted({*latents.missing(), *images.missing()}), set(latents.missing())
        with console.progress("sampling", total=sum(len(images.rows_of(c)) for c in todo), unit="img") as bar:
            for chunk in todo:
                if chunk in undrawn:
                    latents.write_chunk(chunk, denoiser.draw(latents.rows_of(chunk), labels))
                images.write_chunk(chunk, decoder_images(decoder, latents.chunk(chunk), facts, self.batch, device))
                bar.advance(len(images.rows_of(chunk)))
                signals.check()
        out.note(count=self.count, size=s, sampler=self.chosen(), steps=self.steps, guidance=self.guidance)
        out.note(labels=self.label_plan(), milestone=self.step(), spacing=SPACING[self.chosen()])

    def deliver(self, out: Artefact) -> None:
        if self.png is not None:
            write_png(out.array("images"), self.png)

    def draw_labels(self, facts: Json) -> "np.ndarray | None":
        """Class ids (count,) i32: in turn, by the training shares in blocks as the noise, or all of one class."""
        import numpy as np

        from embprobe.diffusion import BLOCK, block_seed

        plan = self.label_plan()
        if plan is None:
            return None
        names, rows = facts["classes"], np.arange(self.count, dtype=np.int32)
        if plan == "balanced":
            return rows % len(names)
        if plan in names:
            return np.full_like(rows, names.index(plan))
        draws = [
            np.random.default_rng(block_seed(self.seed, LABEL_DRAW, block)).choice(len(names), BLOCK, p=facts["shares"])
            for block in range(-(-self.count // BLOCK))
        ]
        return np.concatenate(draws)[: self.count].astype(np.int32)


class Denoiser:
    """A denoiser on its device, drawing latents by row."""

    def __init__(self, stage: Sample, facts: Json, device: str) -> None:
        from safetensors.torch import load_file

        from embprobe.training.engine import WEIGHTS, milestone_name
        from embprobe.nn.denoiser import Description, build

        self.stage, self.facts, self.device = stage, facts, device
        multipliers = tuple(facts["network"]["multipliers"])
        self.description = Description(**(facts["network"] | {"multipliers": multipliers}))
        step = stage.step()
        name = WEIGHTS if step is None else milestone_name(step)
        self.network: nn.Module = build(self.description)
        self.network.load_state_dict(load_file(stage.denoiser.file(name)))
        self.network.to(device).eval()

    def draw(self, rows: range, labels: "np.ndarray | None") -> "np.ndarray":
        """Latents (len(rows),K,K,d) f32 in their own units."""
        import numpy as np
        import torch

        parts = []
        for first in range(rows.start, rows.stop, self.stage.batch):
            count = min(self.stage.batch, rows.stop - first)
            given = None if labels is None else torch.from_numpy(labels[first : first + count].astype(np.int64))
            kind = torch.device(self.device).type
            with torch.no_grad(), torch.autocast(kind, torch.bfloat16, enabled=self.stage.precision == "bf16"):
                parts.append(self.normalised(first, count, given).cpu())
        z_BKKd = torch.cat(parts).permute(0, 2, 3, 1).numpy()
        drawn: np.ndarray = z_BKKd * np.float32(self.facts["scale"]) + np.float32(self.facts["mean"])
        return drawn

    def normalised(self, first: int, count: int, label_B: "Tensor | None") -> "Tensor":
        """Normalised latents (count,d,K,K) of these rows."""
        from embprobe import diffusion, signals

        stage, description = self.stage, self.description
        shape = (description.channels, description.side, description.side)
        if stage.chosen() == "gaussian":
            return diffusion.noise_blocks(stage.seed, first, count, shape)
        network: diffusion.Network = self.network
        label_B = None if label_B is None else label_B.to(self.device)
        if label_B is not None and description.classes is not None and stage.guidance != 1:
            low, high = stage.guidance_interval
            network = diffusion.guided(network, label_B, description.classes, stage.guidance, (low, high))

        def noise(step: int) -> "Tensor":
            signals.check()
            return diffusion.noise_blocks(stage.seed, first, count, shape, draw=1 + step).to(self.device)

        start = diffusion.noise_blocks(stage.seed, first, count, shape).to(self.device)
        sampler: diffusion.Sampler = stage.chosen()  # type: ignore[assignment]
        schedule = description.schedule
        return diffusion.sample(network, start, schedule, sampler, stage.steps, label_B, eta=stage.eta, fresh=noise)


def load_decoder(artefact: Artefact, device: str) -> "Decoder":
    """The decoder on the device."""
    from safetensors.torch import load_file

    from embprobe.training.engine import WEIGHTS
    from embprobe.nn.decoder import Decoder

    decoder = Decoder(**artefact.read_json("decoder.json")["network"])
    decoder.load_state_dict(load_file(artefact.file(WEIGHTS)))
    return decoder.to(device).eval()


def decoder_images(
    decoder: "Decoder", latents_NKKd: "np.ndarray", facts: Json, batch: int, device: str
) -> "np.ndarray":
    """Images u8 (N,S,S,3) of latents in their own units."""
    import numpy as np
    import torch

    from embprobe.nn.decoder import to_u8

    normalised = torch.from_numpy((latents_NKKd - np.float32(facts["mean"])) / np.float32(facts["scale"]))
    with torch.no_grad():
        parts = [to_u8(decoder(part.to(device))).cpu() for part in torch.split(normalised, batch)]
    return torch.cat(parts).numpy()


def write_png(images: Array, folder: Path) -> None:
    """Images as 000000.png, 000001.png, …; those that are there already are written again."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    for chunk in range(images.n_chunks):
        for row, image in zip(images.rows_of(chunk), images.chunk(chunk), strict=True):
            Image.fromarray(image).save(folder / f"{row:06d}.png")
