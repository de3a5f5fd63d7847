"""Whole trainings beside plain loops of the same networks: what the engine costs, with all that it writes down."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from embprobe.store import Store
from embprobe.training.engine import Fit, Loop, fit, warmup_constant, warmup_cosine
from embprobe.training.task import Batches, Task
from tests.benchmarks.pairs import Pair, Sizes, Timed, agree, in_turns
from tests.benchmarks.theirs import plain_loop
from tests.tiny import Toy

RATE = 3e-4
GRID, CHANNELS = (8, 8), 16


def whole(
    sizes: Sizes,
    root: Path,
    build: Callable[[], Task],
    batches: Batches,
    config: dict[str, Any],  # Any: options of Fit
    loop: Callable[..., None],
    seen: Callable[..., Tensor],
) -> tuple[str, Timed]:
    """A whole `fit`, with log, checkpoint and weights on the disk, beside a loop of the same network.

    They agree if 3 steps on the same batches and noise change what is `seen` of the network in the same way. Weights are
    not compared: Adam takes rounding for a gradient where there is none, as in the bias of an attention's keys.
    """
    store, numbers = Store(root / "store"), itertools.count()

    def begun() -> Task:
        torch.manual_seed(0)
        return build()

    def ours(steps: int = sizes.fitted) -> nn.Module:
        task, out = begun(), store.open(Toy(seed=next(numbers)))
        with out.locked():
            fit(task, batches, Fit(steps=steps, seed=0, **config), out)
        return task.network

    def theirs(given: list[dict[str, Tensor]] | None = None) -> nn.Module:
        network = begun().network.train()
        loop(network, given)
        return network.eval()

    engine = Loop(begun(), Fit(steps=3, seed=0, **config), store.open(Toy(seed=next(numbers))))
    given = [engine.given(batches, step) for step in range(3)]
    before, found, wanted = (seen(network).detach() for network in (engine.task.network, ours(3), theirs(given)))
    agreement = agree("3 steps' change of outputs", found - before, wanted - before, 1e-3)
    return agreement, in_turns({"ours": ours, "theirs": theirs}, sizes.rounds)


def compression(sizes: Sizes, root: Path) -> Iterator[Pair | str]:
    """The VAE: tokens in chunks of the store, beside the same in memory."""
    from embprobe.nn.vae import VAE, VAETask, kl
    from embprobe.training.batches import RowBatches

    count, width, batch = 1000, 128, 32
    tokens = np.random.default_rng(0).normal(size=(count, *GRID, width)).astype(np.float16)
    array = stored(root, "embeddings", tokens)
    order, rate = RowBatches({"embeddings": array}, np.arange(count), batch, 0), warmup_cosine(2, sizes.fitted)

    def build() -> Task:
        return VAETask(VAE(GRID, width, CHANNELS, "attention", 0.05), RATE)

    def plain(vae: VAE, given: list[dict[str, Tensor]] | None) -> None:
        def drawn() -> Iterator[dict[str, Tensor]]:
            for _ in range(sizes.fitted):
                rows = np.random.randint(0, count, batch)
                yield {
                    "embeddings": torch.from_numpy(tokens[rows]).float(),
                    "noise": torch.randn(batch, *GRID, CHANNELS),
                }

        def loss_of(batch: Mapping[str, Tensor]) -> Tensor:
            x = batch["embeddings"]
            mean, logvar = vae.encode(x)
            made = vae.decode_standardised(mean + (logvar / 2).exp() * batch["noise"])
            error = (made - vae.standardise(x)).square().flatten(1).sum(1).mean()
            return error + vae.kl_weight * kl(mean, logvar).flatten(1).sum(1).mean()

        plain_loop(vae, loss_of, torch.optim.Adam(vae.parameters(), RATE), rate, given or drawn(), root / "vae.pt")

    def batches(step: int) -> dict[str, Tensor]:
        return {"embeddings": torch.from_numpy(array.floats(order.rows_of(step)))}

    def seen(vae: VAE) -> Tensor:
        return vae.decode(vae.encode(torch.from_numpy(tokens[:64]).float())[0])

    config = {"images_per_step": batch, "rate": rate, "clip": None}
    agreement, times = whole(sizes, root, build, batches, config, plain, seen)
    what = f"{sizes.fitted} steps of fit, VAE over 8x8x{width}, batch {batch}"
    yield Pair("compress", what, "plain loop in memory", times["ours"], times["theirs"], agreement)


def decoding(sizes: Sizes, root: Path) -> Iterator[Pair | str]:
    """The decoder on L1: latents and images in chunks of the store, beside the same in memory."""
    from embprobe.nn.decoder import DecoderTask, Losses, PixelDecoder
    from embprobe.training.batches import RowBatches

    rng, count, batch = np.random.default_rng(0), 1000, 8
    latents = rng.normal(size=(count, *GRID, CHANNELS)).astype(np.float32)
    images = rng.integers(0, 256, (count, 64, 64, 3), np.uint8)
    arrays = {"latents": stored(root, "latents", latents), "images": stored(root, "images", images)}
    order, rate = RowBatches(arrays, np.arange(count), batch, 0), warmup_constant(2)

    def build() -> Task:
        return DecoderTask(PixelDecoder(CHANNELS, GRID, (64, 64), width=16), Losses(), rate=RATE, noise=0.3)

    def plain(decoder: PixelDecoder, given: list[dict[str, Tensor]] | None) -> None:
        def drawn() -> Iterator[dict[str, Tensor]]:
            for _ in range(sizes.fitted):
                rows = np.random.randint(0, count, batch)
                z = torch.from_numpy(latents[rows])
                yield {"latents": z, "images": torch.from_numpy(images[rows]), "noise": torch.randn_like(z),
                       "sigma": 0.3 * torch.rand(batch)}  # fmt: skip

        def loss_of(batch: Mapping[str, Tensor]) -> Tensor:
            real = batch["images"].permute(0, 3, 1, 2).float() / 127.5 - 1
            made = decoder(batch["latents"] + batch["sigma"][:, None, None, None] * batch["noise"])
            return F.l1_loss(made, real)

        optimiser = torch.optim.Adam(decoder.parameters(), RATE, (0.5, 0.9))
        plain_loop(decoder, loss_of, optimiser, rate, given or drawn(), root / "decoder.pt")

    def batches(step: int) -> dict[str, Tensor]:
        rows = order.rows_of(step)
        return {name: torch.from_numpy(array.take(rows)) for name, array in arrays.items()}

    config = {"images_per_step": batch, "rate": rate, "clip": None}
    agreement, times = whole(
        sizes, root, build, batches, config, plain, lambda decoder: decoder(torch.from_numpy(latents[:16]))
    )
    what = f"{sizes.fitted} steps of fit, decoder of width 16 to 64 px, batch {batch}"
    yield Pair("decode", what, "plain loop in memory", times["ours"], times["theirs"], agreement)


def stored(root: Path, name: str, values: np.ndarray) -> Any:  # Any: an array of the store
    out = Store(root / "arrays").open(Toy())
    with out.locked():
        array = out.create(name, values.shape, str(values.dtype), chunk_rows=256)
        array.write(values)
    return array
