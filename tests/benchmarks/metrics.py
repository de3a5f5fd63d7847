"""Time and peak memory of the metrics against the public packages', each in a fresh process; and their time by turns."""

import argparse
import contextlib
import io
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from tests.benchmarks.pairs import Pair, Sizes

SEED, K = 0, 3
Work = Callable[[np.ndarray, np.ndarray, str], dict[str, float]]


def features(count: int, width: int, seed: int) -> np.ndarray:
    """Skewed, of a decaying spectrum, as a network's pooled features are; f32, made in pieces."""
    spread = (1 + np.arange(width, dtype=np.float32)) ** -0.4
    mix = np.random.default_rng(99).standard_normal((width, width), np.float32) * spread[:, None] / 4
    out, draw = np.empty((count, width), np.float32), np.random.default_rng(seed)
    for start in range(0, count, 1000):
        part = out[start : start + 1000]
        np.maximum(draw.standard_normal(part.shape, np.float32) @ mix, -0.3, out=part)
    return out


# ---- the work; everything is imported before the clock starts


def timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def frechet_ours(made: np.ndarray, real: np.ndarray, device: str) -> dict[str, float]:
    import torch

    from embprobe.metrics.frechet import frechet, moments

    x, y = (torch.from_numpy(v).to(device) for v in (made, real))
    warm(device)
    found: dict[str, float] = {}

    def whole() -> None:
        given = (*moments(x), *moments(y))
        found["root_s"] = timed(lambda: found.update(value=frechet(*given)))

    found["seconds"] = timed(whole)
    return found


def frechet_theirs(made: np.ndarray, real: np.ndarray, device: str) -> dict[str, float]:
    """As clean-fid has it; its own call of sqrtm has an argument that newer SciPy dropped."""
    from scipy import linalg

    found: dict[str, float] = {}

    def distance(mean_1: np.ndarray, cov_1: np.ndarray, mean_2: np.ndarray, cov_2: np.ndarray) -> None:
        root = linalg.sqrtm(cov_1.dot(cov_2)).real
        shift = mean_1 - mean_2
        found["value"] = float(shift.dot(shift) + np.trace(cov_1) + np.trace(cov_2) - 2 * np.trace(root))

    def whole() -> None:
        given = [f(v) for v in (made, real) for f in (lambda a: a.mean(0), lambda a: np.cov(a, rowvar=False))]
        found["root_s"] = timed(lambda: distance(*given))

    found["seconds"] = timed(whole)
    return found


def neighbours_ours(made: np.ndarray, real: np.ndarray, device: str) -> dict[str, float]:
    import torch

    from embprobe.metrics.manifold import compare_clouds

    x, y = (torch.from_numpy(v).to(device) for v in (made, real))
    warm(device)
    found: dict[str, float] = {}

    def whole() -> None:
        seen = compare_clouds(y, x, K)
        for name in ("precise", "recalled", "density", "covered", "authentic"):
            found[name] = float(getattr(seen, name).double().mean())

    return {"seconds": timed(whole), **found}


def neighbours_theirs(made: np.ndarray, real: np.ndarray, device: str) -> dict[str, float]:
    from prdc import compute_prdc

    found: dict[str, float] = {}

    def whole() -> None:
        with contextlib.redirect_stdout(io.StringIO()):
            found.update({k: float(v) for k, v in compute_prdc(real, made, K).items()})

    return {"seconds": timed(whole), **found}


def warm(device: str) -> None:
    """So that starting an accelerator's libraries is not measured."""
    if device != "cpu":
        import torch

        square = torch.eye(64, device=device, dtype=torch.float64)
        torch.linalg.eigvalsh(square @ square)
        torch.cuda.synchronize()


WORK: dict[str, Work] = {
    "frechet ours": frechet_ours,
    "frechet scipy": frechet_theirs,
    "neighbours ours": neighbours_ours,
    "neighbours prdc": neighbours_theirs,
}


# ---- by turns in one process


def pairs(sizes: "Sizes", root: Path) -> "Iterator[Pair]":
    """The metrics' lines of `python -m tests.benchmarks`."""
    import torch

    from embprobe.metrics.kernel import kernel_distance
    from tests.benchmarks.pairs import Pair, agree, in_turns

    made, real = features(sizes.made, sizes.width, SEED + 1), features(sizes.real, sizes.width, SEED)
    found: dict[str, dict[str, float]] = {}

    def work(name: str) -> Callable[[], None]:
        return lambda: found.__setitem__(name, WORK[name](made, real, "cpu"))

    shown = f"{sizes.made} features against {sizes.real}, {sizes.width} wide"
    for ours, theirs, what, against in (
        ("frechet ours", "frechet scipy", "FD", "clean-fid's formula, SciPy's sqrtm"),
        ("neighbours ours", "neighbours prdc", "precision, recall, density, coverage, authenticity",
         "prdc, 8 threads, no authenticity"),
    ):  # fmt: skip
        work(ours)()
        work(theirs)()
        a, b = found[ours], found[theirs]
        if "value" in a:
            agreement = agree("distance", a["value"], b["value"], 1e-4)
        else:
            names = {"precise": "precision", "recalled": "recall", "density": "density", "covered": "coverage"}
            agreement = agree("shares", [a[n] for n in names], [b[n] for n in names.values()], 1e-3)
        times = in_turns({"ours": work(ours), "theirs": work(theirs)}, 3)
        yield Pair("metrics", f"{what}, {shown}", against, times["ours"], times["theirs"], agreement)
    x, y = (torch.from_numpy(v) for v in (features(sizes.real, sizes.width, SEED + 2), real))
    works: dict[str, Callable[[], float]] = {
        "ours": lambda: kernel_distance(x, y),
        "f32": lambda: kernel_theirs(x.numpy(), y.numpy()),
        "f64": lambda: kernel_theirs(x.double().numpy(), y.double().numpy()),
    }
    wanted = works["ours"]()
    agreements = {
        "f32": agree("distance", wanted, works["f32"](), 5e-2),
        "f64": agree("distance", wanted, works["f64"](), 1e-6),
    }
    times = in_turns(works, 3)
    what = f"KID of all pairs in f64, {sizes.real} features against {sizes.real}, {sizes.width} wide"
    for kind, agreement in agreements.items():
        yield Pair("metrics", what, f"torch-fidelity, {kind}", times["ours"], times[kind], agreement)


def kernel_theirs(made: np.ndarray, real: np.ndarray) -> float:
    """torch-fidelity's squared MMD of a subset, which is all."""
    from torch_fidelity.metric_kid import kernel_mmd

    cubic = {"kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None, "kid_kernel_poly_coef0": 1}
    return float(kernel_mmd(made, real, kid_kernel="poly", **cubic))


# ---- one process each


def child(name: str, made: int, real: int, width: int, device: str) -> None:
    """Does one piece of work and prints what it took as JSON; the baseline is inputs and libraries before it starts."""
    if name.endswith("ours"):
        from embprobe.metrics import frechet, manifold  # noqa: F401
    elif "scipy" in name:
        from scipy import linalg  # noqa: F401
    else:
        import prdc  # noqa: F401
    x, y = features(made, width, SEED + 1), features(real, width, SEED)
    baseline = peak()
    found = WORK[name](x, y, device if name.endswith("ours") else "cpu")
    print(json.dumps(found | {"total": peak(), "above": peak() - baseline}))


def peak() -> float:
    """Most memory this process has held, in MiB."""
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


def apart(name: str, made: int, real: int, width: int, device: str, threads: int) -> dict[str, float]:
    """The same in a fresh process."""
    words = [sys.executable, __file__, "--child", name, "--made", made, "--real", real, "--width", width]
    limits = {f"{lib}_NUM_THREADS": str(threads) for lib in ("OMP", "MKL", "OPENBLAS")}
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [str(w) for w in (*words, "--device", device)],
        capture_output=True,
        text=True,
        env=os.environ | limits | {"PYTHONPATH": root},
        check=False,
    )
    if done.returncode:
        sys.exit(f"{name} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    show(name, found)
    return found


def show(name: str, found: dict[str, float]) -> None:
    values = "  ".join(f"{k} {v:.6g}" for k, v in found.items() if k not in ("seconds", "root_s", "total", "above"))
    root = f" (after the moments {found['root_s']:.2f} s)" if "root_s" in found else ""
    memory = f"{found['above']:8.0f} MiB above inputs, {found['total']:6.0f} MiB in all"
    print(f"{name:16} {found['seconds']:8.2f} s{root} {memory}   {values}", flush=True)


# ---- the comparison


def against(ours: str, theirs: str, sizes: tuple[int, int, int], device: str, threads: int, repeats: int) -> None:
    """Both in turn, `repeats` times; ratios of the medians."""
    runs: dict[str, list[dict[str, float]]] = {ours: [], theirs: []}
    for _ in range(repeats):
        for name in (ours, theirs):
            runs[name].append(apart(name, *sizes, device, threads))

    def ratio(key: str) -> float:
        return median(r[key] for r in runs[theirs]) / median(r[key] for r in runs[ours])

    rest = f", after the moments {ratio('root_s'):.2f} times" if "root_s" in runs[ours][0] else ""
    shares = f"{1 / ratio('above'):.2f} of its memory above the inputs, {1 / ratio('total'):.2f} of it in all"
    print(f"-> {ours} is {ratio('seconds'):.2f} times as fast as {theirs}{rest}, with {shares}\n", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--made", type=int, default=5_000, help="samples")
    parser.add_argument("--real", type=int, default=15_000, help="real images")
    parser.add_argument("--width", type=int, default=2_048, help="features of each")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each; medians count")
    parser.add_argument("--threads", type=int, default=2, help="threads of every process")
    parser.add_argument("--device", default="cpu", help="where ours runs")
    parser.add_argument("--only", choices=("frechet", "neighbours"), help="one of the two")
    parser.add_argument("--large", action="store_true", help="50 000 against 50 000 instead, ours only")
    parser.add_argument("--child", choices=list(WORK), help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = (given.made, given.real, given.width)
    if given.child:
        child(given.child, *sizes, given.device)
        return
    for name, theirs in (("frechet", "scipy"), ("neighbours", "prdc")):
        if given.only not in (None, name):
            continue
        if given.large:
            found = apart(f"{name} ours", 50_000, 50_000, given.width, given.device, given.threads)
            print(f"-> 50 000 against 50 000: {found['total'] / 1024:.2f} GiB in all\n", flush=True)
        else:
            against(f"{name} ours", f"{name} {theirs}", sizes, given.device, given.threads, given.repeats)


if __name__ == "__main__":
    main()
