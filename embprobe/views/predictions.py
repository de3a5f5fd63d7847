"""The results of `predict`."""

from functools import cached_property

from embprobe.store import Array, Json
from embprobe.views.images import Images
from embprobe.views.latents import Embeddings
from embprobe.views.view import View


class Prediction(View):
    """What `predict` writes: predicted and true patches of held-out images, their energies, and pictures of them."""

    made_by = "predict"

    @cached_property
    def embeddings(self) -> Embeddings:
        return Embeddings(self._source("embeddings"))

    @property
    def images(self) -> Images:
        return self.embeddings.images

    @cached_property
    def results(self) -> dict[str, Json]:
        """prediction.json: R², AUC, dB, factors, and how they were taken."""
        results: dict[str, Json] = self.artefact.read_json("prediction.json", dict)
        return results

    @cached_property
    def rows(self) -> "list[int]":
        """The images it is about."""
        rows: list[int] = self.artefact.array("rows").read().tolist()
        return rows

    @property
    def asked(self) -> Array:
        """How often each patch was asked for, u8 (n,*grid)."""
        return self.artefact.array("asked")

    @property
    def energy(self) -> Array:
        """f32 (n,*grid); NaN where nothing was asked."""
        return self.artefact.array("energy")

    @property
    def pictures(self) -> dict[str, Array]:
        """u8 (n,H,W,C): hidden patches as predicted, as they are, and as the mean predictor has them; empty without any."""
        names = ("imagined", "decoded", "blank")
        return {n: self.artefact.array(n) for n in names} if self.artefact.has(names[0]) else {}
