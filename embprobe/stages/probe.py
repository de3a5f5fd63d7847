"""Probe: what simple readers find in embeddings (N,K,K,D): classes, pixels, and the factors scenes were drawn from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from embprobe.errors import UserError
from embprobe.stage import Stage, option
from embprobe.store import Array, Artefact, Json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.metrics.probes import Figure, Normal

ROW_BYTES = 64 << 20  # tokens held at a time, as f32
GRID_ROWS = 4000  # training images of the full-grid probe at most: it solves one equation an image


@dataclass(frozen=True, kw_only=True)
class Probe(Stage):
    """Measure what linear maps and neighbours read from frozen embeddings.

    Linear and k-NN accuracy of the classes on mean tokens, pixel R² by ridge from each token to its own patch, and R²
    or accuracy for each planted factor, from the mean token and from the full grid. Fitted on the training split,
    measured on the held-out one; strengths are chosen on a tenth of the training images.
    """

    embeddings: Artefact = option("an extract artefact", made_by=("extract",))
    k: int = option("neighbours of the k-NN, by cosine of mean tokens", 20)
    train_limit: int = option("images to fit on at most, a seeded choice (the full grid takes at most 4000)", 50_000)
    seed: int = option("seed of the tenth that chooses strengths, and of --train-limit", 0)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def __post_init__(self) -> None:
        for name, least in (("k", 1), ("train_limit", 20), ("seed", 0)):
            if getattr(self, name) < least:
                raise UserError(f"--{name.replace('_', '-')} is {getattr(self, name)}; it must be at least {least}")

    def check(self) -> None:
        counts = self.embeddings.inputs["images"].metrics["splits"]
        train, held = counts.get("train", 0), counts.get("val", 0) or counts.get("test", 0)
        if train < 20 or held < 2:
            raise UserError(
                f"{train} training and {held} held-out images are too few to probe; ingest at least 20 and 2 "
                "(--val-share holds some out)"
            )

    def work(self) -> float:
        return float(self.embeddings.metrics["count"]) if self.embeddings.complete else 0.0

    def run(self, out: Artefact) -> None:
        from embprobe.training.engine import device_of

        if not out.has("probe.json"):
            device = device_of(self.device)
            data = Rows.of(self, device)
            found: dict[str, Json] = {"protocol": self.protocol(data)}
            found["pixel_r2"], pooled = pixels_and_means(data, self.embeddings, out)
            images = self.embeddings.inputs["images"]
            if images.has("label") and len(images.read_json("classes.json")) > 1:
                found |= classes(data, pooled, images, self.k)
            if images.has("factors"):
                found["factors"] = factors(data, pooled, images)
            out.write_json("probe.json", found)
        found = out.read_json("probe.json")
        out.note(**{name: found[name]["value"] for name in ("linear", "knn", "pixel_r2") if name in found})
        if "factors" in found:
            out.note(
                factors={
                    name: {where: facts[where]["value"] for where in ("pooled", "grid")}
                    for name, facts in found["factors"].items()
                }
            )

    def protocol(self, data: "Rows") -> dict[str, Json]:
        """How the figures were taken."""
        return {
            "train": len(data.train),
            "train_grid": len(data.train[:GRID_ROWS]),
            "held_out": len(data.held),
            "split": data.split,
            "k": self.k,
            "pooled": "mean of all tokens, standardised by the training images",
            "grid": "all tokens of an image side by side",
            "intervals": "95 %: Wilson for shares, delete-group jackknife over held-out images for R² (20 groups)",
        }


@dataclass(frozen=True)
class Rows:
    """Which images are fitted on and which are measured, and where their tokens are."""

    array: Array
    train: "np.ndarray"  # in a seeded order
    tune: "np.ndarray"  # bool, aligned with train: the tenth that chooses strengths
    held: "np.ndarray"
    split: str
    device: str

    @staticmethod
    def of(stage: Probe, device: str) -> "Rows":
        """The rows of a stage's splits, each at most --train-limit."""
        import numpy as np

        split = stage.embeddings.inputs["images"].array("split").read()
        held = 1 if (split == 1).any() else 2
        rng = np.random.default_rng([stage.seed, 0x9B0E])
        train = rng.permutation(np.nonzero(split == 0)[0])[: stage.train_limit]
        measured = np.sort(rng.permutation(np.nonzero(split == held)[0])[: stage.train_limit])
        tune = np.arange(len(train)) % 10 == 9
        return Rows(stage.embeddings.array("embeddings"), train, tune, measured, ("train", "val", "test")[held], device)

    def batches(self, rows: "np.ndarray") -> "Iterator[tuple[np.ndarray, Tensor]]":
        """Places in `rows`, and their tokens (b,K,K,D) f32 on the device; read in the order of the file."""
        import numpy as np
        import torch

        from embprobe import signals

        each = max(1, ROW_BYTES // (4 * int(np.prod(self.array.shape[1:]))))
        order = np.argsort(rows, kind="stable")
        for start in range(0, len(rows), each):
            signals.check()
            places = order[start : start + each]
            yield places, torch.from_numpy(self.array.floats(rows[places])).to(self.device)


# ---- pixels


def pixels_and_means(data: Rows, embeddings: Artefact, out: Artefact) -> "tuple[Figure, tuple[Tensor, Tensor]]":
    """Pixel R² on the held-out images, and the mean tokens of both sets, standardised: (train,D), (held,D)."""
    import torch

    from embprobe import console
    from embprobe.metrics.probes import Normal, explained, tuned_ridge

    targets = Patches(embeddings)
    scale = Scale(embeddings, data.device)
    width, wide = data.array.shape[-1], targets.patch**2 * 3
    sums = {tuned: Normal(width, wide, data.device) for tuned in (False, True)}
    means = [torch.empty(len(rows), width, device=data.device) for rows in (data.train, data.held)]
    total = len(data.train) + len(data.held)
    with console.progress("probing", total=total, unit="img") as bar:
        for places, tokens in data.batches(data.train):
            x, y = scale(tokens), targets(data.train[places]).to(data.device)
            means[0][torch.from_numpy(places)] = x.mean((1, 2))
            tuned = torch.from_numpy(data.tune[places]).to(data.device)
            add(sums[False], x[~tuned], y[~tuned])
            add(sums[True], x[tuned], y[tuned])
            bar.advance(len(places))
        weight, bias, strength = tuned_ridge(sums[False], sums[True])
        error, square = torch.zeros(2, len(data.held), dtype=torch.float64)
        sums_NT = torch.zeros(len(data.held), wide, dtype=torch.float64)
        for places, tokens in data.batches(data.held):
            x, y = scale(tokens), targets(data.held[places]).to(data.device).double()
            at = torch.from_numpy(places)
            means[1][at] = x.mean((1, 2))
            error[at] = (y - x.flatten(1, 2).double() @ weight - bias).square().sum((1, 2)).cpu()
            square[at], sums_NT[at] = y.square().sum((1, 2)).cpu(), y.sum(1).cpu()
            bar.advance(len(places))
    centre, spread = means[0].mean(0), means[0].std(0).clamp_min(1e-6)
    figure = explained(error, square, sums_NT, data.array.shape[1] * data.array.shape[2])
    return figure | {"ridge": strength}, ((means[0] - centre) / spread, (means[1] - centre) / spread)


def add(sums: "Normal", tokens_BKKD: "Tensor", patches_BLP: "Tensor") -> None:
    """Takes the tokens and their patches into the sums, a part at a time: f64 is twice as wide."""
    import torch

    parts = (torch.split(flat, 1 << 16) for flat in (tokens_BKKD.flatten(0, 2), patches_BLP.flatten(0, 1)))
    for x, y in zip(*parts, strict=True):
        sums.add(x, y)


class Scale:
    """Tokens less their mean, over their spread, per channel, by the training images."""

    def __init__(self, embeddings: Artefact, device: str) -> None:
        import torch

        self.mean, self.std = (torch.from_numpy(embeddings.array(n).read()).to(device) for n in ("mean", "std"))
        self.std = self.std.clamp_min(1e-6)

    def __call__(self, tokens_BKKD: "Tensor") -> "Tensor":
        scaled: Tensor = (tokens_BKKD - self.mean) / self.std
        return scaled


class Patches:
    """The pixels that each token stands for, at the encoder's size, in [0, 1]."""

    def __init__(self, embeddings: Artefact) -> None:
        self.images = embeddings.inputs["images"].array("images")
        self.size = int(embeddings.metrics["encoder"]["size"])
        self.patch = self.size // embeddings.array("embeddings").shape[1]

    def __call__(self, rows: "np.ndarray") -> "Tensor":
        """Pixels (b, K·K, patch²·3) of some images."""
        import torch

        from embprobe.encoders.load import preprocess
        from embprobe.nn.mae import patchify

        x = preprocess(torch.from_numpy(self.images.take(rows)), self.size, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), "bicubic")
        return patchify(x, self.patch)


# ---- classes


def classes(data: Rows, pooled: "tuple[Tensor, Tensor]", images: Artefact, k: int) -> dict[str, Json]:
    """Accuracy of a linear probe and of k nearest neighbours on mean tokens."""
    import torch

    from embprobe.metrics.probes import accuracy, linear_probe, neighbours

    label = images.array("label").read()
    known, true = (torch.from_numpy(label[rows]).long().to(data.device) for rows in (data.train, data.held))
    count = len(images.read_json("classes.json"))
    chance = float(torch.bincount(true, minlength=count).max() / len(true))
    probe, l2 = linear_probe(pooled[0], known, count, torch.from_numpy(data.tune).to(data.device))
    near = neighbours(pooled[0], known, pooled[1], k, count)
    return {
        "linear": {**accuracy(probe(pooled[1]) == true, chance), "l2": l2},
        "knn": {**accuracy(near == true, chance), "k": k},
    }


# ---- planted factors


def factors(data: Rows, pooled: "tuple[Tensor, Tensor]", images: Artefact) -> dict[str, Json]:
    """What ridge regression reads of every planted factor, from the mean token and from the full grid."""
    import torch

    values = images.array("factors").read()
    facts = images.read_json("factors.json")
    train = data.train[:GRID_ROWS]
    known, groups = columns(values[train], facts)
    true, _ = columns(values[data.held], facts)
    x, query = pooled[0][: len(train)].double().cpu(), pooled[1].double().cpu()
    grams = {"pooled": (x @ x.T, query @ x.T), "grid": grid_grams(data, train)}
    tune = torch.from_numpy(data.tune[: len(train)])
    found: dict[str, Json] = {fact["name"]: {"kind": fact["kind"]} for fact in facts}
    for where, (gram, cross) in grams.items():
        read = predictions(gram, cross, known, tune, groups)
        for fact, group in zip(facts, groups, strict=True):
            found[fact["name"]][where] = figure(fact["kind"], read[:, group], true[:, group])
    return found


def predictions(gram: "Tensor", cross: "Tensor", known: "Tensor", tune: "Tensor", groups: list[slice]) -> "Tensor":
    """Kernel ridge, with Gram matrices brought to a mean square of about 1."""
    from embprobe.metrics.probes import kernel_predictions

    level = gram.diagonal().mean().clamp_min(1e-12)
    return kernel_predictions(gram / level, cross / level, known, tune, groups)


def columns(values_NF: "np.ndarray", facts: list[Json]) -> "tuple[Tensor, list[slice]]":
    """Targets (N,T) f64 and the columns of each factor: itself, sine and cosine, or one column a kind."""
    import torch

    parts, groups, start = [], [], 0
    for value, fact in zip(torch.from_numpy(values_NF).double().T, facts, strict=True):
        if fact["kind"] == "circular":
            part = torch.stack([(2 * torch.pi * value).sin(), (2 * torch.pi * value).cos()], 1)
        elif fact["kind"] == "category":
            part = torch.nn.functional.one_hot(value.long(), len(fact["values"])).double()
        else:
            part = value[:, None]
        parts.append(part)
        groups.append(slice(start, start + part.shape[1]))
        start += part.shape[1]
    return torch.cat(parts, 1), groups


def figure(kind: str, read_MT: "Tensor", true_MT: "Tensor") -> "Figure":
    """Accuracy of a category, R² of anything else."""
    from embprobe.metrics.probes import accuracy, explained

    if kind == "category":
        return accuracy(read_MT.argmax(1) == true_MT.argmax(1), float(true_MT.mean(0).max()))
    return explained((read_MT - true_MT).square().sum(1), true_MT.square().sum(1), true_MT)


def grid_grams(data: Rows, train: "np.ndarray") -> "tuple[Tensor, Tensor]":
    """Inner products of whole grids, less the training mean: (n,n) and (held,n) f64; grids are read block by block."""
    import torch

    mean = sum(tokens.double().sum(0) for _, tokens in data.batches(train)) / len(train)
    gram = torch.empty(len(train), len(train), dtype=torch.float64)
    cross = torch.empty(len(data.held), len(train), dtype=torch.float64)
    for places, tokens in data.batches(train):
        known = (tokens.double() - mean).flatten(1)
        at = torch.from_numpy(places)
        for into, rows in ((gram, train), (cross, data.held)):
            for others, more in data.batches(rows):
                block = (more.double() - mean).flatten(1) @ known.T
                into[torch.from_numpy(others)[:, None], at] = block.cpu()
    return gram, cross
