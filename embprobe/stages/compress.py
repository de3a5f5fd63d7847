"""Compress: patch embeddings (N,*grid,D) into latents (N,*grid,d) with a small VAE."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embprobe.chunks import fill
from embprobe.errors import UserError
from embprobe.stage import option
from embprobe.store import Array, Artefact
from embprobe.training.stage import Training
from embprobe.views import Embeddings, by_chunk

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from torch import Tensor

    from embprobe.nn.vae import VAE
    from embprobe.training.covariance import Covariance
    from embprobe.training.task import Task

CHUNK_BYTES = 8 << 20
HELD_OUT = 256  # images that a plateau is judged on
ACTIVE = 0.01  # variance of the posterior means from which a channel is in use; Burda et al. 2016


@dataclass(frozen=True, kw_only=True)
class Compress(Training):
    """Train a VAE on embeddings and write the posterior means of every image.

    The published comparison's own: --kind linear --no-standardise --init random --rate 1e-2 --schedule plateau, with steps
    for 100 epochs.
    """

    version = 3

    embeddings: Artefact = option("an extract artefact", made_by=("extract",))
    kind: Literal["linear", "attention"] = option(
        "one linear map each way, or a transformer layer around it", "attention"
    )
    standardise: bool = option(
        "bring each channel of the embeddings to mean 0 and variance 1 first; else they are taken raw", True, later=True
    )
    channels: int = option("latent channels d", 16, least=1)
    kl_weight: float = option("weight of the KL term, both terms summed over an image", 0.05, least=0)
    init: Literal["pca", "random"] = option(
        "start at the linear optimum, found from the covariance, or at random", "pca"
    )
    schedule: Literal["cosine", "plateau"] = option("fall by a cosine, or halve when held-out loss stalls", "cosine")
    steps: int = option("optimiser steps; 0 keeps the start", 20_000, least=0)
    batch: int = option("images per step", 64, least=1, most=65_536)
    rate: float = option("learning rate of Adam at its peak", 5e-4, above=0)
    precision: Literal["f32", "bf16"] = option("of training; latents are always written in f32", "f32")
    forward: int = option("images per forward pass when writing", 256, runtime=True, least=1, most=65_536)
    through: bool = option(
        "compute embeddings that are not made (extract --later) as they are needed, and never store them",
        False,
        runtime=True,
    )
    resident: float = option("GB of the tokens that --through keeps in memory", 8.0, runtime=True, least=0)

    def needed(self) -> dict[str, Artefact]:
        """Without embeddings that are computed as they are needed, but with what they are computed from."""
        if not self.through or self.embeddings.complete:
            return super().needed()
        return {f"embeddings.{name}": artefact for name, artefact in self.embeddings.inputs.items()}

    def check(self) -> None:
        if self.embeddings.complete:
            self.check_width(Embeddings(self.embeddings).width)

    def check_width(self, width: int) -> None:
        """Raises UserError where there are more channels than the embeddings have."""
        if self.channels > width:
            raise UserError(f"--channels {self.channels} is more than the embeddings' width {width}; give fewer")

    def run(self, out: Artefact) -> None:
        from embprobe.device import device_of
        from embprobe.training.covariance import Covariance

        device = device_of(self.device)
        embeddings = self.given(device)
        self.check_width(embeddings.width)
        covariance = Covariance.of(embeddings, out, device)
        vae = self.trained(embeddings, covariance, out, device)
        self.write_latents(vae, embeddings, out, device)
        statistics = posterior_statistics(out.array("latents"), out.array("logvar"), embeddings.images.train)
        out.create("mean", (self.channels,), "float32").write(statistics["mean"])
        out.create("std", (self.channels,), "float32").write(statistics["std"])
        out.note(
            **self.fidelity(vae, embeddings, covariance, device),
            kl=statistics["kl"].tolist(),
            active=int((statistics["std"] ** 2 > ACTIVE).sum()),
            channels=self.channels,
            grid=list(embeddings.grid),
            units="embeddings standardised per channel over the training split"
            if self.standardise
            else "raw embeddings",
        )

    def given(self, device: str) -> Embeddings:
        """The embeddings; computed as they are needed, where they were only asked for."""
        if self.embeddings.complete:
            return Embeddings(self.embeddings)
        from embprobe.encoders.live import LiveEmbeddings

        return LiveEmbeddings(self.embeddings, device, int(self.resident * 1e9))

    def tokens_on(self, device: str, embeddings: Embeddings) -> "Callable[[Tensor], Tensor] | None":
        """What gives f32 tokens by place among the training images, which stay on a GPU as they are stored.

        None on a CPU, and where they don't fit.
        """
        import numpy as np
        import torch

        from embprobe.device import is_cuda, room_on
        from embprobe.encoders.tokens import Rounding

        array, train = embeddings.artefact.array("embeddings"), embeddings.images.train
        if not is_cuda(device) or len(train) * array.row_bytes > room_on(device):
            return None
        rounding = Rounding(array.attrs, device)
        kind = rounding.of(array.take(train[:1])).dtype
        kept = torch.empty(len(train), *array.shape[1:], dtype=kind, device=device)
        for rows in by_chunk(array, train):
            first = int(np.searchsorted(train, rows[0]))
            kept[first : first + len(rows)].copy_(rounding.of(array.take(rows)))
        return lambda places: rounding.widened(kept[places])

    def trained(self, embeddings: Embeddings, covariance: "Covariance", out: Artefact, device: str) -> "VAE":
        """The VAE, trained, on the device."""
        import numpy as np
        import torch

        from embprobe.nn.vae import VAE, VAETask
        from embprobe.training.batches import RowBatches
        from embprobe.training.engine import warmup_cosine

        plateau, images = self.schedule == "plateau", embeddings.images
        train, held = images.train, images.held_out[:HELD_OUT]
        resident = self.tokens_on(device, embeddings) if self.embeddings.complete else None
        batches = RowBatches({"embeddings": embeddings.array}, train, self.batch, self.seed)

        def build() -> "Task":
            vae = VAE(embeddings.grid, embeddings.width, self.channels, self.kind, self.kl_weight)
            if self.standardise:
                vae.mean.copy_(covariance.mean_D)
                vae.std.copy_(covariance.std_D)
            if self.init == "pca" and self.standardise:
                vae.start_from_pca(covariance.standardised)
            elif self.init == "pca":
                vae.start_from_pca(covariance.matrix_DD, covariance.mean_D)
            judged = torch.from_numpy(embeddings.array.floats(held)) if plateau and len(held) else None
            return VAETask(vae, self.rate, judged, resident)

        def given(step: int) -> "dict[str, Tensor]":
            rows = batches.rows_of(step)
            if resident is not None:
                return {"row": torch.from_numpy(np.searchsorted(train, rows))}
            return {"embeddings": torch.from_numpy(embeddings.array.floats(rows))}

        network = self.train(
            build,
            given,
            (lambda step: 1.0) if plateau else warmup_cosine(max(1, self.steps // 50), self.steps),
            out,
            label=f"compressing ({self.kind})",
            milestones=False,
            clip=None,  # the loss is a sum over an image, so norms mean nothing; Adam does not mind its size
            plateau_every=max(1, len(train) // self.batch) if plateau else None,
            patience=10 if plateau else 2,
        )
        assert isinstance(network, VAE)
        return network

    def write_latents(self, vae: "VAE", embeddings: Embeddings, out: Artefact, device: str) -> None:
        """Posterior means and log-variances of every image."""
        import torch

        shape = (len(embeddings), *embeddings.grid, self.channels)
        rows = max(1, CHUNK_BYTES // (4 * math.prod(shape[1:])))
        arrays = [out.create(name, shape, "float32", chunk_rows=rows) for name in ("latents", "logvar")]

        def encoded(rows: range, x: "np.ndarray") -> "list[np.ndarray]":
            with torch.no_grad():
                return [t.cpu().numpy() for t in vae.encode(torch.from_numpy(x).to(device))]

        fill(
            arrays,
            lambda rows: embeddings.array.floats(slice(rows.start, rows.stop)),
            encoded,
            batch=self.forward,
            label="writing latents",
        )

    def fidelity(
        self, vae: "VAE", embeddings: Embeddings, covariance: "Covariance", device: str
    ) -> dict[str, float | None]:
        """R² on held-out images of the VAE and of PCA-d fitted on training images; None where none is held out.

        Standardised ones are in units of the training split's std per channel, whatever the VAE was fed.
        """
        import torch

        from embprobe.nn.vae import Explained, components

        held = embeddings.images.held_out
        if not len(held):
            return {"r2": None, "pca_r2": None, "r2_raw": None, "pca_r2_raw": None}
        axes = components(covariance.standardised, self.channels).float().to(device)
        raw_axes = components(covariance.matrix_DD, self.channels).float().to(device)
        mean_D, std_D = (values.float().to(device) for values in (covariance.mean_D, covariance.std_D))
        ours, pca, raw_pca = Explained(std_D), Explained(std_D), Explained(std_D)
        for rows in by_chunk(embeddings.array, held, limit=self.forward):
            with torch.no_grad():
                x = torch.from_numpy(embeddings.array.floats(rows)).to(device)
                truth, fed = (x - mean_D) / std_D, vae.standardise(x)
                ours.add(truth, (vae.decode_standardised(vae.encode(x)[0]) - fed) * (vae.std / std_D))
                pca.add(truth, truth @ axes @ axes.mT - truth)
                raw = x - mean_D
                raw_pca.add(truth, (raw @ raw_axes @ raw_axes.mT - raw) / std_D)
        (r2, r2_raw), pca_r2, pca_r2_raw = ours.r2(), pca.r2()[0], raw_pca.r2()[1]
        return {"r2": r2, "pca_r2": pca_r2, "r2_raw": r2_raw, "pca_r2_raw": pca_r2_raw}


def posterior_statistics(latents: Array, logvar: Array, train: "np.ndarray") -> "dict[str, np.ndarray]":
    """Over the training split, per channel: mean and std of the posterior means, and KL in nats per image."""
    import numpy as np

    total, square, divergence = np.zeros((3, latents.shape[-1]))
    axes = tuple(range(len(latents.shape) - 1))
    for rows in by_chunk(latents, train):
        mean, log_variance = latents.floats(rows).astype(np.float64), logvar.floats(rows).astype(np.float64)
        total += mean.sum(axes)
        square += (mean**2).sum(axes)
        divergence += 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(axes)
    count = len(train) * math.prod(latents.shape[1:-1])
    average = total / count
    return {
        "mean": average.astype(np.float32),
        "std": np.sqrt(np.maximum(square / count - average**2, 0)).astype(np.float32),
        "kl": divergence / len(train),
    }
