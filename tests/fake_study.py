"""A study written by hand: two learned encoders and a control, judged with figures that a test chooses."""

from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import numpy as np

from embprobe.making import make
from embprobe.metrics.estimate import Estimate, Spread
from embprobe.stage import Stage, option
from embprobe.store import Artefact, Json, Store

HOSTILE = "<img src=x onerror=alert(1)>"
CLASSES = [HOSTILE, "=cat", "dog"]
COUNT, SIZE = 48, 16
ENCODERS = {"ijepa": (12.0, 0.80), "mae": (20.0, 0.81), "pixels": (9.0, 0.90)}  # FD and precision of each


def spread(error: float, reference: float = 0.0, groups: int = 20) -> Spread:
    """What moves a figure by these standard errors: the choice of the samples, and of the reference."""
    contrasts = tuple(reference if g % 2 else -reference for g in range(groups)) if reference else ()
    return Spread(error**2, groups - 1.0, contrasts, 1.0)


def figure(value: float, error: float, floor: float, **more: Json) -> dict[str, Json]:
    """A figure as evaluate writes it."""
    estimate = Estimate(
        value, value - 2 * error, value + 2 * error, Estimate(floor, floor, floor), spread(error, error / 2)
    )
    return estimate.json() | more


def noise(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (count, SIZE, SIZE, 3), np.uint8)


@dataclass(frozen=True, kw_only=True)
class Ingest(Stage):
    """Images of three classes."""

    def run(self, out: Artefact) -> None:
        out.create("images", (COUNT, SIZE, SIZE, 3), "uint8").write(noise(0, COUNT))
        out.create("label", (COUNT,), "int32").write(np.arange(COUNT, dtype=np.int32) % 3)
        out.create("split", (COUNT,), "uint8").write((np.arange(COUNT) % 4 == 3).astype(np.uint8))
        out.write_json("classes.json", CLASSES)
        out.note(count=COUNT, size=SIZE, classes=3)


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Embeddings by name alone."""

    images: Artefact = option("")
    encoder: str = option("")

    def run(self, out: Artefact) -> None:
        out.note(count=COUNT)


@dataclass(frozen=True, kw_only=True)
class Compress(Stage):
    """Latents by name alone."""

    embeddings: Artefact = option("")
    seed: int = option("", 0)

    def run(self, out: Artefact) -> None:
        out.note(r2=0.9)


@dataclass(frozen=True, kw_only=True)
class Diffuse(Stage):
    """A denoiser by name alone."""

    latents: Artefact = option("")
    conditional: bool = option("", True)
    steps: int = option("", 100)
    width: int = option("", 64)
    train_images: int = option("", 40)
    batch: int = option("", 4)
    kept_steps: tuple[int, ...] = option("", ())
    epochs: float = option("", 10.0)
    seed: int = option("", 0)

    def run(self, out: Artefact) -> None:
        out.note(epochs=self.epochs)


@dataclass(frozen=True, kw_only=True)
class Decode(Stage):
    """A decoder's snapshots."""

    latents: Artefact = option("")
    images: Artefact = option("")
    seed: int = option("", 0)

    def run(self, out: Artefact) -> None:
        attrs: dict[str, Json] = {"steps": [64, 256], "rows": [3, 7, 11]}
        out.create("snapshots", (2, 3, SIZE, SIZE, 3), "uint8", attrs=attrs).write(
            noise(1, 6).reshape(2, 3, SIZE, SIZE, 3)
        )
        out.create("reconstructions", (12, SIZE, SIZE, 3), "uint8").write(noise(2, 12))
        out.note(psnr=20.0)


@dataclass(frozen=True, kw_only=True)
class Sample(Stage):
    """Samples of three classes."""

    denoiser: Artefact = option("")
    decoder: Artefact = option("")
    guidance: float = option("", 1.0)
    sampler: str = option("", "euler")
    milestone: int | None = option("", None)
    seed: int = option("", 0)

    def run(self, out: Artefact) -> None:
        out.create("images", (COUNT, SIZE, SIZE, 3), "uint8").write(noise(3, COUNT))
        if self.denoiser.spec["conditional"]:
            out.create("label", (COUNT,), "int32").write(np.arange(COUNT, dtype=np.int32) % 3)
            out.write_json("classes.json", CLASSES)


@dataclass(frozen=True, kw_only=True)
class Evaluate(Stage):
    """Figures as they are given."""

    samples: Artefact = option("")
    reference: Artefact = option("")
    fd: float = option("")
    precision: float = option("", 0.8)
    copies: float = option("", 0.0)
    second: float | None = option("FD by a second judge, which is the encoder itself", None)
    plain: bool = option("figures of an older evaluation, without what is newer", False)
    published: bool = option("what the published tables need too", False)

    def run(self, out: Artefact) -> None:
        judge = judged(self.fd, self.precision)
        found: dict[str, Json] = {"judges": [judge], "protocol": {"k": 3, "intervals": "95 %"}}
        if self.second is not None:
            itself = {"name": "inception", "judge": "def", "accuracy": None, "weak": False, "probed": True}
            found["judges"].append(judged(self.second, self.precision) | itself)
        if self.published:
            judge["shares"] = [0.3, 0.3, 0.4]
            for report in found["judges"]:
                report["metrics"] |= {
                    "score": figure(2.5, 0.1, 3.0),
                    "fd_all": figure(report["metrics"]["fd"]["value"] - 1, 1.0, 0.5),
                }
                for part in [p for p in report["per_class"].values() if "fd" in p]:
                    part |= {key: figure(0.5, 0.1, 0.9) for key in ("score", "precision", "recall", "fd_all")}
        if self.plain:
            for name in ("swapped", "confusion", "per_class", "reference", "probed"):
                judge.pop(name)
            judge["metrics"] = {
                k: v | {"spread": None}
                for k, v in judge["metrics"].items()
                if k in ("fd", "precision", "recall", "kid")
            }
        elif self.samples.stage == "ingest":
            found["memorisation"] = {"pixels": memory(self.copies)}
        elif self.samples.stage == "sample":
            found["memorisation"] = {space: memory(self.copies) for space in ("pixels", "judge", "latents")}
            found["latents"] = {"metrics": {"latent_fd": figure(3.0, 0.1, 1.0)}}
        out.write_json("metrics.json", found)


def judged(fd: float, precision: float) -> dict[str, Any]:  # Any: JSON
    """A judge's part of metrics.json."""
    metrics = {
        "fd": figure(fd, 1.0, 1.5),
        "fd_infinity": {"value": fd - 1, "floor": {"value": 0.5}, "reliable": False},
        "kid": figure(fd / 1000, 0.001, 0.0001),
        "precision": figure(precision, 0.03, 0.9),
        "recall": figure(0.4, 0.02, 0.9),
        "density": figure(0.7, 0.02, 1.0),
        "coverage": figure(0.6, 0.02, 0.95),
        "authenticity": figure(0.7, 0.02, 0.75),
        "tv": figure(0.05, 0.01, 0.01),
        "asked_class": figure(0.6, 0.03, 0.85),
    }
    per_class: dict[str, Json] = {
        name: {"count": 16, "fd": {"value": 30.0, "floor": {"value": 4.0}}} for name in CLASSES[:2]
    }
    return {
        "name": "classifier", "accuracy": 0.85, "weak": True, "probed": False, "count": COUNT,
        "floor": {"images": COUNT, "held_out": COUNT, "training": 0, "at": COUNT, "extrapolated": False},
        "judge": "abc", "protocol": {"data": "one", "size": "16", "k": 3, "held out": "val"},
        "features": 512, "reference": "one", "metrics": metrics, "classes": CLASSES,
        "confusion": [[2, 14, 0], [12, 4, 0], [0, 1, 15]], "swapped": [[0, 1]],
        "per_class": per_class | {CLASSES[2]: {"count": 2}},
    }  # fmt: skip


def memory(copies: float) -> dict[str, Json]:
    """What evaluate says of memorisation in one space."""
    share = {
        "share": copies,
        "low": max(0.0, copies - 0.1),
        "high": copies + 0.1,
        "copies": round(copies * COUNT),
        "count": COUNT,
    }
    return {"p": 0.0002 if copies else 0.4, "nearer": 0.5 + copies / 2, "expected": 0.5, "train": 36, "held_out": 12,
            "worst": [[4, 8, 0.31], [5, 9, 0.42]]} | share  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Elsewhere(Stage):
    """Images that another model made, larger than the study's."""

    @classmethod
    def name(cls) -> str:
        return "ingest"

    source: str = option("", "theirs")

    def run(self, out: Artefact) -> None:
        out.create("images", (COUNT, 2 * SIZE, 2 * SIZE, 3), "uint8").write(
            np.full((COUNT, 2 * SIZE, 2 * SIZE, 3), 7, np.uint8)
        )
        out.note(count=COUNT, size=2 * SIZE, classes=0)


@dataclass(frozen=True, kw_only=True)
class Probe(Stage):
    """What readers find, as given."""

    embeddings: Artefact = option("")
    linear: float = option("")

    def run(self, out: Artefact) -> None:
        share = {"value": self.linear, "low": self.linear - 0.02, "high": self.linear + 0.02}
        factor = {"kind": "scalar", "pooled": share, "grid": share}
        out.write_json(
            "probe.json", {"linear": share, "factors": {"hue": factor, HOSTILE: factor | {"kind": "category"}}}
        )


class Links(HTMLParser):
    """Everything that a page points to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    @property
    def outside(self) -> list[str]:
        return [link for link in self.found if not link.startswith(("data:", "#"))]


def artefacts(
    store: Store,
    plain: bool = False,
    seeds: tuple[int, ...] = (0,),
    curve: bool = True,
    conditional: bool = True,
    second: bool = False,
    copier: str = "",
    fall: float = 1.0,
    kept: bool = False,
    published: bool = False,
) -> tuple[Artefact, ...]:
    """Evaluations of samples, milestones, Gaussian draws and decoders, and probes, of every encoder.

    A quarter of the copier's samples are copies; FD falls by a factor `fall` after the last milestone, which is at
    an epoch that was kept if `kept`: the 3rd of 10, or where the study is `published` the 50th of 100.
    """
    images = make(Ingest(), store)
    found = []
    for number, (encoder, (fd, precision)) in enumerate(ENCODERS.items()):
        embeddings = make(Extract(images=images, encoder=encoder), store)
        latents = make(Compress(embeddings=embeddings), store)
        decoder = make(Decode(latents=latents, images=images), store)
        found.append(make(Evaluate(samples=decoder, reference=images, fd=fd / 2, plain=plain), store))
        found.append(make(Probe(embeddings=embeddings, linear=0.5 + 0.1 * number), store))
        for seed in seeds:
            end, at = (100.0, 50) if published else (10.0, 30)
            trained = Diffuse(
                latents=latents, conditional=conditional, seed=seed, kept_steps=(at,) if kept else (), epochs=end
            )
            denoiser = make(trained, store)
            for milestone, worse in ((10, 4.0), (at, fall), (None, 1.0))[0 if curve else 2 :]:
                samples = make(Sample(denoiser=denoiser, decoder=decoder, milestone=milestone), store)
                judged_so = Evaluate(
                    samples=samples,
                    reference=images,
                    fd=fd * worse + seed / 10,
                    precision=precision,
                    copies=0.25 if encoder == copier else 0.0,
                    second=40.0 - fd if second else None,
                    plain=plain,
                    published=published,
                )
                found.append(make(judged_so, store))
            drawn = make(Sample(denoiser=denoiser, decoder=decoder, sampler="gaussian"), store)
            found.append(make(Evaluate(samples=drawn, reference=images, fd=90.0 + seed, plain=plain), store))
    return tuple(found)
