"""What one GPU makes of each stage, with baselines in the same run: `python -m tests.benchmarks.gpu` prints a table.

Ten minutes at most on an H200; `--only NAME,…` measures some lines, `--tiny --device cpu` tries the script without a GPU.
Baselines are what a user would write instead: the bare forward pass, a plain training loop, eager in TF32 and compiled in
bf16, and a compiled sampler. Each line is a ratio; rates stand beside it for orientation.
"""

import argparse
import itertools
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from embprobe.device import device_of, is_cuda
from embprobe.making import make
from embprobe.sampling import noise_blocks, sample
from embprobe.store import Artefact, Store


@dataclass(frozen=True)
class Sizes:
    """How large everything is."""

    images: int = 2000
    side: int = 224
    encoder: str = "random:vit-1280x32-h16-p14"
    forward: int = 256
    grid: int = 16
    width: int = 96
    batch: int = 256
    steps: int = 60
    drawn: int = 5000
    sampled: int = 200
    real: int = 15_000
    features: int = 2048


TINY = Sizes(40, 32, "random:vit-32x2-h2-p8", 16, 4, 16, 8, 6, 24, 4, 60, 32)


@dataclass
class Bench:
    """One run: where, how large, and what was found."""

    device: str
    sizes: Sizes
    store: Store
    rows: list[dict[str, Any]]

    def settle(self) -> None:
        if is_cuda(self.device):
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], object]) -> float:
        self.settle()
        began = time.perf_counter()
        call()
        self.settle()
        return time.perf_counter() - began

    def tell(self, what: str, ratio: float, wanted: float | None, **more: Any) -> None:
        row = {"what": what, "ratio": round(ratio, 3), "wanted": wanted} | more
        self.rows.append(row)
        print(json.dumps(row), flush=True)

    def images(self) -> Artefact:
        """Random images as a data set."""
        from embprobe.stages.ingest import Ingest

        path = self.store.root.parent / "images.npz"
        if not path.is_file():
            rng = np.random.default_rng(0)
            count, side = self.sizes.images, self.sizes.side
            np.savez(path, images=rng.integers(0, 256, (count, side, side, 3), np.uint8), label=np.arange(count) % 3)
        return make(Ingest(source=str(path), size=self.sizes.side, val_share=0.1), self.store)


# ---- extraction


def extraction(bench: Bench) -> None:
    """Extract against the bare forward pass of the same network in bf16, on images that lie on the device."""
    from embprobe.encoders.load import load_encoder
    from embprobe.stages.extract import Extract

    sizes, images = bench.sizes, bench.images()
    encoder = load_encoder(sizes.encoder, image_size=(sizes.side, sizes.side)).to(bench.device)
    x = torch.from_numpy(images.array("images").read(0, sizes.forward)).to(bench.device)

    def bare() -> None:
        with torch.no_grad(), torch.autocast(torch.device(bench.device).type, torch.bfloat16):
            for _ in range(-(-sizes.images // sizes.forward)):
                encoder(x)

    bare()
    rates = {"bare": -(-sizes.images // sizes.forward) * sizes.forward / bench.seconds(bare)}
    for storage in ("int8", "f16"):
        stage = Extract(images=images, encoder=sizes.encoder, storage=storage, precision="bf16", forward=sizes.forward,
                        device=bench.device)  # type: ignore[arg-type]  # fmt: skip
        made = make(stage, bench.store)
        rates[storage] = sizes.images / made.manifest["seconds"]
        bench.tell(f"extract {storage} / bare forward", rates[storage] / rates["bare"], 0.95,
                   images_per_second=rates[storage], bare=rates["bare"], gigabytes=made.folder.size() / 1e9)  # fmt: skip


# ---- training


def denoiser_task(bench: Bench) -> Any:
    from embprobe.nn.denoiser import DenoiserConfig, DenoiserTask

    sizes = bench.sizes
    config = DenoiserConfig(
        "unet", 16, (sizes.grid, sizes.grid), sizes.width, (1, 2, 4), 2, "time", None, 0.0, "flow", 1.0
    )
    torch.manual_seed(0)
    resident = {"latents": torch.randn(2000, sizes.grid, sizes.grid, 16, device=bench.device)}
    return DenoiserTask(
        config, rate=3e-4, beta_2=0.95, norm="l2", min_snr=None, condition_dropout=0.0, resident=resident
    )


def plain_loop(bench: Bench, *, bf16: bool, compiled: bool) -> float:
    """Steps a second of the loop that anybody writes: forward, backward, AdamW, EMA."""
    task = denoiser_task(bench).to(bench.device)
    network: nn.Module = torch.compile(task.network) if compiled else task.network  # type: ignore[assignment]
    average = {k: v.clone() for k, v in task.network.state_dict().items()}
    optimiser = torch.optim.AdamW(task.network.parameters(), 3e-4, fused=compiled)
    latents = task.resident["latents"].movedim(-1, 1).contiguous()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = not bf16

    def step() -> None:
        clean = latents[torch.randint(len(latents), (bench.sizes.batch,), device=bench.device)]
        noise, t = torch.randn_like(clean), torch.rand(len(clean), device=bench.device)
        with torch.autocast(torch.device(bench.device).type, torch.bfloat16, enabled=bf16):
            mixed = (1 - t[:, None, None, None]) * clean + t[:, None, None, None] * noise
            predicted = network(mixed, 1000 * t, None)
        loss = (predicted.float() - (noise - clean)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        with torch.no_grad():
            for name, value in task.network.state_dict().items():
                average[name].lerp_(value, 1e-3)

    for _ in range(5):
        step()
    taken = bench.seconds(lambda: [step() for _ in range(bench.sizes.steps)])
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return bench.sizes.steps / taken


def our_loop(bench: Bench, **options: Any) -> float:
    """Steps a second of the engine, from the first batch on."""
    from embprobe.training.engine import Fit, Loop
    from tests.tiny import Toy

    steps = itertools.count()
    config = Fit(steps=10**6, seed=0, images_per_step=bench.sizes.batch, device=bench.device, precision="bf16",
                 ema=0.999, **options)  # fmt: skip
    loop = Loop(denoiser_task(bench), config, bench.store.open(Toy()))
    loop.task.train()

    def batches(step: int) -> dict[str, Tensor]:
        return {"row": torch.randint(2000, (bench.sizes.batch,), generator=torch.Generator().manual_seed(step))}

    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:

        def ahead() -> Iterator[dict[str, Tensor]]:
            waiting = pool.submit(loop.given, batches, next(steps))
            while True:
                following = pool.submit(loop.given, batches, next(steps))
                yield waiting.result()
                waiting = following

        given = ahead()
        for _ in range(5):
            loop.update(next(given))
        taken = bench.seconds(lambda: [loop.update(next(given)) for _ in range(bench.sizes.steps)])
        given.close()  # type: ignore[attr-defined]
    return bench.sizes.steps / taken


def training(bench: Bench) -> None:
    """The engine against plain loops, eager in TF32 and compiled in bf16; and what determinism and recording cost."""
    rates = {"eager tf32": plain_loop(bench, bf16=False, compiled=False)}
    if is_cuda(bench.device):
        rates["compiled bf16"] = plain_loop(bench, bf16=True, compiled=True)
    device_of(bench.device)
    rates |= {"ours eager": our_loop(bench, program="eager"), "ours recorded": our_loop(bench, program="graph")}
    if is_cuda(bench.device):
        rates["ours recorded and compiled"] = our_loop(bench, program="graph", compiled=True)
        device_of(bench.device, deterministic=False)
        rates["ours recorded, not deterministic"] = our_loop(bench, program="graph")
        device_of(bench.device)
    best = max(rate for name, rate in rates.items() if name.startswith("ours recorded"))
    told = {name: round(rate, 2) for name, rate in rates.items()}
    bench.tell("train UNet / eager tf32", best / rates["eager tf32"], 4.0, **told)
    if "compiled bf16" in rates:
        bench.tell("train UNet / plain compile", best / rates["compiled bf16"], 2.0, **told)


# ---- sampling


def sampling(bench: Bench) -> None:
    """DDIM-like steps with decoding, recorded, against a compiled network in one large batch without decoding."""
    from embprobe.nn.decoder import PixelDecoder
    from embprobe.pixels import to_u8
    from embprobe.training.graphs import Replayed

    sizes, kind = bench.sizes, torch.device(bench.device).type
    task = denoiser_task(bench)
    network = task.network.to(bench.device).eval()
    decoder = PixelDecoder(16, (sizes.grid, sizes.grid), (8 * sizes.grid, 8 * sizes.grid)).to(bench.device).eval()
    shape = (16, sizes.grid, sizes.grid)

    def drawn(predict: Any, batch: int, decode: bool) -> None:
        with torch.no_grad():
            for first in range(0, sizes.drawn, batch):
                noise = noise_blocks(0, first, min(batch, sizes.drawn - first), shape).to(bench.device)
                with torch.autocast(kind, torch.bfloat16):
                    z = sample(predict, noise, task.schedule, "euler", sizes.sampled)
                for part in z.movedim(1, -1).split(64) if decode else ():
                    to_u8(decoder(part)).cpu()

    replayed = Replayed(network, bench.device)
    with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
        for count in {min(1000, sizes.drawn), sizes.drawn % 1000 or 1000}:
            noise = torch.randn(min(count, sizes.drawn), *shape, device=bench.device)
            sample(replayed, noise, task.schedule, "euler", 1)
    ours = sizes.drawn / bench.seconds(lambda: drawn(replayed, 1000, True))
    theirs = 0.0
    if is_cuda(bench.device):
        compiled = torch.compile(network)
        with torch.no_grad(), torch.autocast(kind, torch.bfloat16):
            sample(compiled, torch.randn(2500, *shape, device=bench.device), task.schedule, "euler", 1)  # type: ignore[arg-type]
        theirs = sizes.drawn / bench.seconds(lambda: drawn(compiled, 2500, False))
    bench.tell("sample, decoding included / compiled", ours / theirs if theirs else float("nan"), 1.3,
               images_per_second=ours, compiled=theirs)  # fmt: skip


# ---- metrics


def metrics(bench: Bench) -> None:
    """FD, precision, recall, density, coverage on the device, against the same on the CPU."""
    from embprobe.metrics.frechet import frechet_distance
    from embprobe.metrics.manifold import compare_clouds

    torch.manual_seed(0)
    x, y = torch.randn(bench.sizes.drawn, bench.sizes.features), torch.randn(bench.sizes.real, bench.sizes.features)
    taken = {}
    for device in ("cpu", bench.device):
        a, b = x.to(device), y.to(device)
        frechet_distance(a[:100], b[:100])
        taken[device] = bench.seconds(lambda a=a, b=b: (frechet_distance(a, b), compare_clouds(b, a)))  # type: ignore[misc]
    bench.tell("FD and manifold, CPU / device", taken["cpu"] / taken[bench.device], None,
               seconds=taken[bench.device], cpu=taken["cpu"])  # fmt: skip


# ---- the whole recipe


def recipe(bench: Bench) -> None:
    """afhq-modern's shape on random images: seconds of each stage at its own sizes, steps cut, and what the whole would take."""
    from embprobe.stages.compress import Compress
    from embprobe.stages.decode import Decode
    from embprobe.stages.diffuse import Diffuse
    from embprobe.stages.extract import Extract
    from embprobe.stages.sample import Sample

    sizes = bench.sizes
    few = 10 if sizes is TINY else 300

    def run(stage: Callable[..., Any], **options: Any) -> Artefact:
        return make(stage(device=bench.device, precision="bf16", **options), bench.store)

    tokens = run(Extract, images=bench.images(), encoder=sizes.encoder, forward=sizes.forward)
    latents = run(Compress, embeddings=tokens, steps=few)
    denoiser = run(Diffuse, latents=latents, width=sizes.width, steps=few, batch=sizes.batch)
    decoder = run(Decode, latents=latents, steps=few, gan_start=few // 2)
    drawn = run(Sample, denoiser=denoiser, decoder=decoder, count=min(2000, sizes.drawn), steps=sizes.sampled)
    made = {"extract": tokens, "compress": latents, "diffuse": denoiser, "decode": decoder, "sample": drawn}
    seconds = {name: artefact.manifest["seconds"] for name, artefact in made.items()}
    whole = seconds["extract"] * 15_000 / sizes.images + seconds["compress"] * 20_000 / few
    whole += seconds["diffuse"] * 100_000 / few + seconds["decode"] * 40_000 / few
    bench.tell("afhq-modern's stages", float("nan"), None, seconds=seconds, hours_of_one_encoder=whole / 3600)


LINES = {"extraction": extraction, "training": training, "sampling": sampling, "metrics": metrics, "recipe": recipe}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU does in a minute")
    parser.add_argument("--only", default=",".join(LINES), help="lines to measure, with commas between")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sizes = TINY if given.tiny else Sizes()
        bench = Bench(device_of(given.device), sizes, Store(Path(folder) / "store"), [])
        for name in given.only.split(","):
            began = time.perf_counter()
            try:
                LINES[name](bench)
            except Exception as error:  # one line that fails must not cost the others
                print(json.dumps({"what": name, "failed": f"{type(error).__name__}: {error}"}), flush=True)
            print(json.dumps({"what": f"{name}, whole", "seconds": round(time.perf_counter() - began, 1)}), flush=True)
    width = max(len(str(row["what"])) for row in bench.rows)
    for row in bench.rows:
        print(f"{row['what']:<{width}}  {row['ratio']:>8}  {'' if row['wanted'] is None else row['wanted']}")


if __name__ == "__main__":
    main()
