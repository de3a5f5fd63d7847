"""Denoisers, decoders and the samples that the two give."""

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from embprobe.store import Array, Json
from embprobe.views.images import Images
from embprobe.views.latents import Embeddings, Latents, Scale
from embprobe.views.milestones import log_spaced, step_at
from embprobe.views.view import View

if TYPE_CHECKING:
    import numpy as np


class Denoiser(View):
    """What `diffuse` writes: the network's configuration, its weights at every milestone, class names."""

    made_by = "diffuse"

    @cached_property
    def latents(self) -> Latents:
        return Latents(self._source("latents"))

    @cached_property
    def facts(self) -> Json:
        """denoiser.json: network, scale of the latents, classes and their shares."""
        return self.artefact.read_json("denoiser.json", dict)

    @property
    def steps(self) -> int:
        return int(self.artefact.spec["steps"])

    @property
    def seed(self) -> int:
        return int(self.artefact.spec["seed"])

    @property
    def objective(self) -> Literal["epsilon", "v", "flow"]:
        """What the network predicts."""
        objective: Literal["epsilon", "v", "flow"] = self.artefact.spec["objective"]
        return objective

    @property
    def conditional(self) -> bool:
        """Whether it knows classes."""
        return bool(self.artefact.spec["conditional"])

    @property
    def text(self) -> str | None:
        """What reads its captions: `bytes`, or the folder of a text encoder; None where it knows none."""
        return str(self.artefact.options["text"]) if self.artefact.spec.get("text") else None

    @property
    def learns_condition(self) -> bool:
        """Whether it knows classes or reads captions."""
        return self.conditional or self.text is not None

    @property
    def label_dropout(self) -> float:
        return float(self.artefact.spec["label_dropout"])

    @property
    def classes(self) -> list[str]:
        return list(self.facts.get("classes", []))

    @property
    def milestones(self) -> tuple[int, ...]:
        """The steps whose weights are kept: log-spaced, and those at epochs that were asked for."""
        return tuple(sorted({*log_spaced(self.steps), *self.kept}))

    @property
    def kept(self) -> tuple[int, ...]:
        """The steps whose weights are kept because epochs were asked for."""
        return tuple(self.artefact.spec.get("kept_steps", []))

    def step_at(self, epoch: float) -> int:
        """The step nearest to an epoch."""
        return step_at(epoch, self.training_images, int(self.artefact.spec["batch"]))

    @property
    def training_images(self) -> int:
        """How many images it saw."""
        limit: int | None = self.artefact.spec["train_images"]
        return self.latents.images.count("train") if limit is None else limit

    @cached_property
    def scale(self) -> Scale:
        """What its latents were normalised by."""
        return Scale.of(self.facts["mean"], self.facts["scale"])

    def weights(self, step: int | None = None) -> Path:
        """The checked weights file of a milestone, or of the end."""
        return self.artefact.weights(step)

    def epochs(self, step: int | None) -> float:
        """Images seen until a step ÷ training images."""
        return float(self.artefact.metrics["epochs"]) * (step or self.steps) / self.steps

    def training_rows(self) -> "np.ndarray":
        """Rows of the training images that it saw."""
        return self.latents.images.training_rows(self.artefact.spec["train_images"], self.seed)


class Decoder(View):
    """What `decode` writes: weights, snapshots over training, reconstructions of held-out images."""

    made_by = "decode"

    @cached_property
    def latents(self) -> Latents:
        return Latents(self._source("latents"))

    @property
    def images(self) -> Images:
        return Images(self._source("images"))

    @cached_property
    def facts(self) -> Json:
        """decoder.json: the network, and the scale of the latents."""
        return self.artefact.read_json("decoder.json", dict)

    @cached_property
    def scale(self) -> Scale:
        """What its latents were normalised by."""
        return Scale.of(self.facts["mean"], self.facts["scale"])

    def weights(self) -> Path:
        return self.artefact.weights()

    @cached_property
    def reconstructions(self) -> Array:
        """u8 (n,H,W,C) of held-out images; `rows` says which."""
        return self.artefact.array("reconstructions")

    @cached_property
    def rows(self) -> "np.ndarray":
        return self.artefact.array("rows").read()

    @property
    def snapshots(self) -> Array | None:
        """u8 (S,n,H,W,C): the same held-out images after some steps (attributes `steps`, `rows`); None without any."""
        return self.artefact.array("snapshots") if self.artefact.has("snapshots") else None

    @property
    def psnr(self) -> float | None:
        """Of the reconstructions, in dB; None where nothing is held out."""
        psnr: float | None = self.artefact.metrics.get("psnr")
        return psnr


class Samples(View):
    """What `sample` writes: latents f32 (M,*grid,d), images u8 (M,H,W,C), labels."""

    made_by = "sample"

    @cached_property
    def denoiser(self) -> Denoiser:
        return Denoiser(self._source("denoiser"))

    @cached_property
    def decoder(self) -> Decoder:
        return Decoder(self._source("decoder"))

    @property
    def drawn(self) -> bool:
        """Whether a denoiser drew them."""
        return "denoiser" in self.artefact.inputs

    @property
    def embeddings(self) -> Embeddings:
        """What the denoiser's latents were made from."""
        return self.denoiser.latents.embeddings

    @cached_property
    def array(self) -> Array:
        """The images."""
        return self.artefact.array("images")

    def __len__(self) -> int:
        return len(self.array)

    @cached_property
    def latents(self) -> Array:
        return self.artefact.array("latents")

    @cached_property
    def labels(self) -> "np.ndarray | None":
        """The class asked for (M,) i32; None for unconditional samples."""
        return self.artefact.array("label").read() if self.artefact.has("label") else None

    @property
    def classes(self) -> list[str]:
        return list(self.artefact.read_json("classes.json", list)) if self.artefact.has("classes.json") else []

    @property
    def prompts(self) -> list[str | None] | None:
        """The caption asked for of each, None for the null caption; None where nothing was asked for in words."""
        return list(self.artefact.read_lines("caption.jsonl")) if self.artefact.has("caption.jsonl") else None

    @property
    def milestone(self) -> int | None:
        """The denoiser's step, where it was not the last."""
        step = self.artefact.spec["milestone"]
        return None if step is None or step == self.denoiser.steps else int(step)

    @property
    def is_gaussian(self) -> bool:
        """Whether they were drawn without the denoiser, each channel alone."""
        return bool(self.artefact.spec["sampler"] == "gaussian")

    @property
    def epochs(self) -> float:
        """What the denoiser had seen, in epochs."""
        return self.denoiser.epochs(self.milestone)
