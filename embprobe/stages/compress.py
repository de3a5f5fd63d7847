"""Compress: patch embeddings (N,K,K,D) into latents (N,K,K,d) with a small VAE."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embprobe.errors import UserError
from embprobe.stage import Stage, opt
from embprobe.store import Array, Artefact

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.nn.vae import VAE

CHUNK_BYTES = 8 << 20
HELD_OUT = 256  # images that a plateau is judged on


@dataclass(frozen=True, kw_only=True)
class Compress(Stage):
    """Train a VAE on embeddings and write the posterior means of every image.

    The study's own: --kind linear --init random --rate 1e-2 --schedule plateau, with steps for 100 epochs.
    """

    embeddings: Artefact = opt("an extract artefact", kinds=("extract",))
    kind: Literal["linear", "attention"] = opt("one linear map each way, or a transformer layer around it", "attention")
    channels: int = opt("latent channels d", 16)
    kl_weight: float = opt("weight of the KL term, both terms summed over an image", 0.05)
    init: Literal["pca", "random"] = opt("start at the linear optimum, found from the covariance, or at random", "pca")
    steps: int = opt("optimiser steps", 20_000)
    batch: int = opt("images per step", 64)
    rate: float = opt("peak rate of Adam", 5e-4)
    schedule: Literal["cosine", "plateau"] = opt("fall by a cosine, or halve when held-out loss stalls", "cosine")
    seed: int = opt("seed of initialisation and batches", 0)
    precision: Literal["f32", "bf16"] = opt("of training; latents are always written in f32", "f32")
    forward: int = opt("images per forward pass when writing", 256, runtime=True)
    device: str = opt("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name in ("channels", "batch", "forward"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name} is {getattr(self, name)}; it must be at least 1")
        if self.steps < 0 or self.seed < 0:
            raise UserError("--steps and --seed must be 0 or more")
        if self.kl_weight < 0 or self.rate <= 0:
            raise UserError("--kl-weight must be 0 or more and --rate above 0")

    def check(self) -> None:
        width = self.embeddings.array("embeddings").shape[-1]
        if self.channels > width:
            raise UserError(f"--channels {self.channels} is more than the embeddings' width {width}; give fewer")

    def work(self) -> float:
        return float(self.steps * self.batch)

    def run(self, out: Artefact) -> None:
        import numpy as np

        from embprobe.training.engine import device_of

        embeddings = self.embeddings.array("embeddings")
        split = self.embeddings.inputs["images"].array("split").read()
        train, held = np.nonzero(split == 0)[0], np.nonzero(split == 1)[0]
        held = held if len(held) else np.nonzero(split == 2)[0]
        device = device_of(self.device)
        mean_D, covariance_DD = self.covariance(embeddings, train, out, device)
        vae = self.train(embeddings, train, held, mean_D, covariance_DD, out, device)
        self.write_latents(vae, embeddings, out, device)
        latents, logvar = out.array("latents"), out.array("logvar")
        facts = posterior_statistics(latents, logvar, train)
        out.create("mean", (self.channels,), "float32").write(facts["mean"])
        out.create("std", (self.channels,), "float32").write(facts["std"])
        out.note(
            **self.fidelity(vae, embeddings, held, covariance_DD, device),
            kl=facts["kl"].tolist(),
            active=int((facts["std"] ** 2 > 0.01).sum()),  # Burda et al. 2016: variance of the posterior means
            channels=self.channels,
            grid=embeddings.shape[1],
            parameters=sum(p.numel() for p in vae.parameters()),
            units="embeddings standardised per channel over the training split",
        )

    def covariance(self, embeddings: Array, train: "np.ndarray", out: Artefact, device: str) -> "tuple[Tensor, Tensor]":
        """Mean (D,) and covariance (D,D) of the training patches in raw units, f64; streamed once, then kept."""
        import torch

        from embprobe import console, signals

        width = embeddings.shape[-1]
        if not (out.has("feature_mean") and out.has("feature_covariance")):
            total = torch.zeros(width, dtype=torch.float64, device=device)
            square = torch.zeros(width, width, dtype=torch.float64, device=device)
            centre: Tensor | None = None
            with console.progress("covariance", total=len(train), unit="img") as bar:
                for _, rows in by_chunk(embeddings, train):
                    x = torch.from_numpy(embeddings.floats(rows)).to(device).flatten(0, 2)
                    centre = x.mean(0) if centre is None else centre  # keeps f32 products accurate
                    x = x - centre
                    total += x.sum(0, dtype=torch.float64)
                    square += (x.mT @ x).double()
                    bar.advance(len(rows))
                    signals.check()
            count = len(train) * embeddings.shape[1] * embeddings.shape[2]
            offset = total / count
            mean = offset if centre is None else centre.double() + offset
            covariance = square / count - offset[:, None] * offset
            out.create("feature_mean", (width,), "float64").write(mean.cpu().numpy())
            out.create("feature_covariance", (width, width), "float64").write(covariance.cpu().numpy())
        kept = (out.array(name).read() for name in ("feature_mean", "feature_covariance"))
        mean, covariance = (torch.from_numpy(values) for values in kept)
        return mean, covariance

    def train(
        self,
        embeddings: Array,
        train: "np.ndarray",
        held: "np.ndarray",
        mean_D: "Tensor",
        covariance_DD: "Tensor",
        out: Artefact,
        device: str,
    ) -> "VAE":
        """The trained VAE, on the device."""
        import torch

        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import Fit, fit, warmup_cosine
        from embprobe.nn.vae import VAE, VAETask

        torch.manual_seed(self.seed)
        _, side, _, width = embeddings.shape
        vae = VAE(side, width, self.channels, self.kind, self.kl_weight)
        std_D = scale_of(covariance_DD)
        vae.mean.copy_(mean_D)
        vae.std.copy_(std_D)
        if self.init == "pca":
            vae.start_from_pca(covariance_DD / std_D[:, None] / std_D)
        plateau = self.schedule == "plateau"
        judged = torch.from_numpy(embeddings.floats(held[:HELD_OUT])) if plateau and len(held) else None
        batches = RowBatches({"embeddings": embeddings}, train, self.batch, self.seed)
        config = Fit(
            steps=self.steps,
            seed=self.seed,
            images_per_step=self.batch,
            device=device,
            precision=self.precision,
            rate=(lambda step: 1.0) if plateau else warmup_cosine(max(1, self.steps // 50), self.steps),
            clip=None,  # the loss is a sum over an image, so norms mean nothing; Adam does not mind its size
            plateau_every=max(1, len(train) // self.batch) if plateau else None,
            patience=10 if plateau else 2,
            label=f"compressing ({self.kind})",
        )
        task = VAETask(vae, self.rate, judged)
        fit(task, lambda step: {"embeddings": torch.from_numpy(embeddings.floats(batches.rows_of(step)))}, config, out)
        return task.network

    def write_latents(self, vae: "VAE", embeddings: Array, out: Artefact, device: str) -> None:
        """Posterior means and log-variances of every image, chunk by chunk."""
        import torch

        from embprobe import console, signals

        shape = (*embeddings.shape[:3], self.channels)
        rows = max(1, CHUNK_BYTES // (4 * shape[1] * shape[2] * shape[3]))
        latents = out.create("latents", shape, "float32", chunk_rows=rows)
        logvar = out.create("logvar", shape, "float32", chunk_rows=rows)
        todo = sorted({*latents.missing(), *logvar.missing()})
        with console.progress("writing latents", total=sum(len(latents.rows_of(c)) for c in todo), unit="img") as bar:
            for chunk in todo:
                here = latents.rows_of(chunk)
                parts = []
                for start in range(here.start, here.stop, self.forward):
                    x = embeddings.floats(slice(start, min(start + self.forward, here.stop)))
                    with torch.no_grad():
                        parts.append([t.cpu() for t in vae.encode(torch.from_numpy(x).to(device))])
                latents.write_chunk(chunk, torch.cat([mean for mean, _ in parts]).numpy())
                logvar.write_chunk(chunk, torch.cat([spread for _, spread in parts]).numpy())
                bar.advance(len(here))
                signals.check()

    def fidelity(
        self, vae: "VAE", embeddings: Array, held: "np.ndarray", covariance_DD: "Tensor", device: str
    ) -> dict[str, float | None]:
        """R² on held-out images of the VAE and of PCA-d fitted on training images; None where none is held out."""
        import torch

        from embprobe.nn.vae import Explained, components

        if not len(held):
            return {"r2": None, "pca_r2": None, "r2_raw": None, "pca_r2_raw": None}
        std_D = vae.std
        scale = scale_of(covariance_DD)
        axes = components(covariance_DD / scale[:, None] / scale, self.channels).float().to(device)
        raw_axes = components(covariance_DD, self.channels).float().to(device)
        ours, pca, raw_pca = Explained(std_D), Explained(std_D), Explained(std_D)
        for _, rows in by_chunk(embeddings, held, limit=self.forward):
            with torch.no_grad():
                x = torch.from_numpy(embeddings.floats(rows)).to(device)
                truth = vae.standardise(x)
                ours.add(truth, vae.decode_standardised(vae.encode(x)[0]) - truth)
                pca.add(truth, truth @ axes @ axes.mT - truth)
                raw = x - vae.mean
                raw_pca.add(truth, (raw @ raw_axes @ raw_axes.mT - raw) / std_D)
        (r2, r2_raw), pca_r2, pca_r2_raw = ours.r2(), pca.r2()[0], raw_pca.r2()[1]
        return {"r2": r2, "pca_r2": pca_r2, "r2_raw": r2_raw, "pca_r2_raw": pca_r2_raw}


def scale_of(covariance_DD: "Tensor") -> "Tensor":
    """Per-channel std (D,), 1 for channels that never change."""
    import torch

    variance_D = covariance_DD.diagonal()
    floor = 1e-10 * variance_D.max().clamp(min=1e-30)
    return torch.where(variance_D > floor, variance_D, torch.ones_like(variance_D)).sqrt()


def by_chunk(array: Array, rows: "np.ndarray", limit: int | None = None) -> "list[tuple[int, np.ndarray]]":
    """(chunk, the rows that lie in it), in order; at most `limit` rows at a time."""
    import numpy as np

    parts = []
    for chunk in np.unique(rows // array.chunk_rows):
        inside = rows[rows // array.chunk_rows == chunk]
        step = limit or len(inside)
        parts += [(int(chunk), inside[start : start + step]) for start in range(0, len(inside), step)]
    return parts


def posterior_statistics(latents: Array, logvar: Array, train: "np.ndarray") -> "dict[str, np.ndarray]":
    """Over the training split, per channel: mean and std of the posterior means, and KL in nats per image."""
    import numpy as np

    total, square, divergence = np.zeros((3, latents.shape[-1]))
    for _, rows in by_chunk(latents, train):
        mean, spread = latents.floats(rows).astype(np.float64), logvar.floats(rows).astype(np.float64)
        total += mean.sum((0, 1, 2))
        square += (mean**2).sum((0, 1, 2))
        divergence += 0.5 * (mean**2 + np.exp(spread) - 1 - spread).sum((0, 1, 2))
    count = len(train) * latents.shape[1] * latents.shape[2]
    average = total / count
    return {
        "mean": average.astype(np.float32),
        "std": np.sqrt(np.maximum(square / count - average**2, 0)).astype(np.float32),
        "kl": divergence / len(train),
    }
