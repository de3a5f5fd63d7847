"""Extraction, training and sampling beside what a user would write instead."""

import itertools
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embprobe.making import make
from embprobe.sampling import noise_blocks, sample
from embprobe.store import Artefact, Store
from embprobe.training.engine import Fit, Loop
from embprobe.training.task import Batches, Task
from tests.benchmarks.pairs import Disagreement, Pair, Sizes, agree, in_turns
from tests.benchmarks.theirs import CompVisLoop, thingsvision_loop, timm_loop
from tests.tiny import Toy

RATE = 3e-4
GRID, CHANNELS = (8, 8), 16

# ---- extraction


def data_set(count: int, root: Path, store: Store) -> Artefact:
    """Random images of 64 px as a data set; the same pixels in images.npy."""
    from embprobe.stages.ingest import Ingest

    pixels = np.random.default_rng(0).integers(0, 256, (count, 64, 64, 3), np.uint8)
    np.savez(root / "images.npz", images=pixels, label=np.arange(count) % 3)
    np.save(root / "images.npy", pixels)
    return make(Ingest(source=str(root / "images.npz"), size=64), store)


def extraction(sizes: Sizes, root: Path) -> Iterator[Pair | str]:
    """From images on the disk to tokens on the disk; networks of other weights every time, so that nothing is kept."""
    from embprobe.stages.extract import Extract

    store = Store(root / "store")
    images = data_set(sizes.images, root, store)
    loops = {"timm + np.save": timm_loop, "thingsvision + np.save": thingsvision_loop}

    def ours(seed: int) -> Artefact:
        return make(Extract(images=images, encoder="random:vit-128x6-h4-p8", seed=seed, device="cpu"), store)

    wanted, checked, works = ours(0).array("embeddings").read(), {}, {}
    for name, loop in loops.items():
        try:
            loop(root / "images.npy", 0, root / "tokens.npy")
        except ImportError as error:
            yield f"{name} is left out: {error}."
            continue
        theirs = np.load(root / "tokens.npy").reshape(wanted.shape)
        checked[name] = agree("tokens", wanted, theirs, 1e-3)
        works[name] = _numbered(lambda seed, loop=loop: loop(root / "images.npy", seed, root / "tokens.npy"))
    times = in_turns({"ours": _numbered(ours), **works}, sizes.rounds)
    for name, agreement in checked.items():
        what = f"make(Extract), {sizes.images} images of 64 px, ViT 128x6"
        yield Pair("extract", what, name, times["ours"], times[name], agreement, 0.95)


def _numbered(work: Callable[[int], object]) -> Callable[[], object]:
    """Does it with 1, 2, 3, …"""
    numbers = itertools.count(1)
    return lambda: work(next(numbers))


# ---- training


class Engine:
    """The loop of `fit` without its log and its checkpoints: batches are made ahead in a thread, steps are updates."""

    def __init__(self, task: Task, batches: Batches, images: int, out: Artefact) -> None:
        self.batches = batches
        self.loop = Loop(task, Fit(steps=10**6, seed=0, images_per_step=images, ema=0.999), out)
        self.loop.task.train()

    def steps(self, count: int) -> None:
        loop = self.loop
        with ThreadPoolExecutor(1) as pool:
            numbers = iter(range(loop.step, loop.step + count))
            waiting = deque(pool.submit(loop.given, self.batches, n) for n in itertools.islice(numbers, 2))
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(pool.submit(loop.given, self.batches, n) for n in itertools.islice(numbers, 1))
                loop.update(batch)
        float(loop.task.scalars["loss"])


def denoiser(network: str, latents: np.ndarray) -> Any:  # Any: the task of a module that is imported late
    from embprobe.nn.denoiser import DenoiserConfig, DenoiserTask

    width, depth = (32, 2) if network == "unet" else (96, 3)
    config = DenoiserConfig(
        network, CHANNELS, GRID, width, (1, 2, 4), depth, "time", None, 0.0, "epsilon", 1.0  # type: ignore[arg-type]
    )  # fmt: skip
    torch.manual_seed(0)
    return DenoiserTask(
        config, rate=RATE, beta_2=0.999, norm="l2", min_snr=None, condition_dropout=0.0,
        resident={"latents": torch.from_numpy(latents)},
    )  # fmt: skip


def training(sizes: Sizes, root: Path) -> Iterator[Pair | str]:
    """The engine beside a loop as latent diffusion has it, from the same weights, on the same latents."""
    latents = np.random.default_rng(0).normal(size=(2000, *GRID, CHANNELS)).astype(np.float32)
    for seed, (network, batch, shown) in enumerate((("unet", 16, "UNet 32 1-2-4"), ("dit", 48, "DiT 96x3"))):

        def batches(step: int, batch: int = batch) -> dict[str, Tensor]:
            return {"row": torch.randint(2000, (batch,), generator=torch.Generator().manual_seed(step))}

        task, other = denoiser(network, latents), denoiser(network, latents).network
        engine = Engine(task, batches, batch, Store(root / "store").open(Toy(seed=seed)))
        theirs = CompVisLoop(other, latents, batch, RATE)
        before = flat(task.network.state_dict()).clone()
        for step in range(3):
            given = engine.loop.given(batches, step)
            theirs.step(torch.from_numpy(latents[given["row"]]), given["noise"], given["time"])
        engine.steps(3)
        moved = float((flat(task.network.state_dict()) - before).abs().max())
        after = flat(dict(task.network.named_parameters())), flat(dict(other.named_parameters()))
        agreement = agree("3 steps", *after, 0.02, moved)
        averages = {name: engine.loop.weights()[name] for name in theirs.shadow}
        agree("averages of 3 steps", flat(averages), flat(theirs.shadow), 0.02, moved)
        times = in_turns(
            {
                "ours": lambda e=engine: e.steps(sizes.steps),  # type: ignore[misc]
                "theirs": lambda t=theirs: [t.step() for _ in range(sizes.steps)],  # type: ignore[misc]
            },
            sizes.rounds,
        )
        what = f"{sizes.steps} steps of the engine, {shown}, batch {batch}"
        yield Pair("train", what, "CompVis-style loop", times["ours"], times["theirs"], agreement)


def flat(values: Mapping[str, Tensor]) -> Tensor:
    """All numbers of a network, in the order of its names."""
    return torch.cat([values[name].detach().flatten().double() for name in sorted(values)])


# ---- sampling


def sampling(sizes: Sizes, root: Path) -> Iterator[Pair | str]:
    """DDIM beside diffusers' pipeline, and beside its scheduler in a loop; the same UNet2DModel, as often."""
    from diffusers import DDIMPipeline, DDIMScheduler

    batch, steps = 64, sizes.sampled
    task = denoiser("unet", np.zeros((1, *GRID, CHANNELS), np.float32))
    network, body = task.network.eval(), task.network.body
    for parameter in network.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.02)  # what starts at zero would hide every difference
    body.register_to_config(sample_size=GRID[0])
    scheduler = DDIMScheduler(beta_start=0.0015, beta_end=0.0155, beta_schedule="scaled_linear", clip_sample=False,
                              set_alpha_to_one=False, steps_offset=1, timestep_spacing="leading")  # fmt: skip
    pipeline = DDIMPipeline(body, scheduler)
    pipeline.set_progress_bar_config(disable=True)
    shape, calls = (CHANNELS, *GRID), [0]
    body.register_forward_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))

    def fresh(step: int) -> Tensor:
        return noise_blocks(0, 0, batch, shape, draw=step + 1)

    @torch.no_grad()
    def ours(noise: Tensor | None = None, eta: float = 0.0) -> Tensor:
        noise = noise_blocks(0, 0, batch, shape) if noise is None else noise
        return sample(network, noise, task.schedule, "ddim", steps, eta=eta, fresh=fresh)

    @torch.no_grad()
    def loop(noise: Tensor | None = None, eta: float = 0.0, given: bool = False) -> Tensor:
        z = torch.randn(batch, *shape) if noise is None else noise
        scheduler.set_timesteps(steps)
        for i, t in enumerate(scheduler.timesteps):
            drawn = fresh(i) if given else None
            z = scheduler.step(body(z, t).sample, t, z, eta=eta, variance_noise=drawn).prev_sample
        return z

    def piped(seed: int = 0) -> np.ndarray:
        generator = torch.Generator().manual_seed(seed)
        return pipeline(batch, generator, num_inference_steps=steps, output_type="np").images

    noise, counts = torch.randn(batch, *shape, generator=torch.Generator().manual_seed(0)), []
    checks = {}
    for name, check in {
        "scheduler": lambda: agree("latents", ours(noise), loop(noise), 1e-4),
        "pipeline": lambda: agree("images", (ours(noise) / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1), piped(), 1e-4),
        "eta": lambda: agree("latents", ours(noise, 1.0), loop(noise, 1.0, given=True), 1e-4),
    }.items():
        calls[0] = 0
        checks[name] = check()
        counts.append(calls[0])
    if counts != [2 * steps] * 3:
        raise Disagreement(f"the network was called {counts} times, not {2 * steps}")
    times = in_turns({"ours": ours, "scheduler": loop, "pipeline": piped}, sizes.rounds)
    what = f"DDIM, {steps} steps, UNet 32 1-2-4, batch {batch}"
    yield Pair("sample", what, "diffusers' DDIMPipeline", times["ours"], times["pipeline"], checks["pipeline"])
    yield Pair("sample", what, "loop of DDIMScheduler", times["ours"], times["scheduler"], checks["scheduler"])
    times = in_turns({"ours": lambda: ours(eta=1.0), "scheduler": lambda: loop(eta=1.0)}, sizes.rounds)
    yield Pair("sample", "the same with eta 1", "loop of DDIMScheduler",
               times["ours"], times["scheduler"], checks["eta"])  # fmt: skip
