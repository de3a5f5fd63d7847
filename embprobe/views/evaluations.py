"""The results of `evaluate` and `probe`."""

from functools import cached_property
from pathlib import PurePath

from embprobe.store import Artefact, Json
from embprobe.views.images import Images
from embprobe.views.latents import Embeddings
from embprobe.views.samples import Decoder, Samples
from embprobe.views.view import View


class Evaluation(View):
    """What `evaluate` writes: each judge's report of a set of images, the distance of latents, the search for copies."""

    made_by = "evaluate"

    @property
    def source(self) -> Artefact:
        """What was evaluated: samples, a decoder or a data set."""
        return self._source("samples")

    @cached_property
    def samples(self) -> Samples:
        """The samples. Raises UserError where a decoder or a data set was evaluated."""
        return Samples(self.source)

    @cached_property
    def decoder(self) -> Decoder:
        """The decoder whose reconstructions were evaluated. Raises UserError where samples or a data set were."""
        return Decoder(self.source)

    @property
    def shown(self) -> Samples | Images:
        """The samples, or the images from elsewhere, with their labels and classes. Raises UserError for a decoder's."""
        return Images(self.source) if self.source.stage == "ingest" else self.samples

    @property
    def is_foreign(self) -> bool:
        """Whether its images were made elsewhere: a data set in the place of samples, other than the reference."""
        return self.source.stage == "ingest" and self.source != self.reference.artefact

    @property
    def reference(self) -> Images:
        return Images(self._source("reference"))

    @cached_property
    def results(self) -> Json:
        """metrics.json."""
        return self.artefact.read_json("metrics.json", dict)

    @property
    def held_out(self) -> str | None:
        """The split that was held out."""
        split: str | None = self.artefact.spec.get("held_out")
        return None if split == "auto" else split

    @property
    def reports(self) -> list[Json]:
        """What each judge says, the first judge first."""
        reports: list[Json] = self.results["judges"]
        return reports

    @property
    def latents(self) -> dict[str, Json]:
        """The metrics of latents."""
        metrics: dict[str, Json] = (self.results.get("latents") or {}).get("metrics", {})
        return metrics

    @property
    def copies(self) -> dict[str, Json]:
        """The test for copies by space: pixels, judge, latents."""
        return self.results.get("memorisation") or {}

    @property
    def protocol(self) -> dict[str, Json]:
        return self.results.get("protocol") or {}


class Probing(View):
    """What `probe` writes: what simple readers find in embeddings."""

    made_by = "probe"

    @cached_property
    def embeddings(self) -> Embeddings:
        return Embeddings(self._source("embeddings"))

    @cached_property
    def fitted(self) -> Embeddings | None:
        """The other data set's embeddings that readers were fitted on; None where they were fitted on the own."""
        return self._other("train_on")

    @cached_property
    def beside(self) -> Embeddings | None:
        """The other encoder's embeddings that these were compared with."""
        return self._other("beside")

    @property
    def text(self) -> str | None:
        """The name of the folder whose text encoder read captions."""
        folder = self.artefact.options.get("text")
        return None if folder is None else PurePath(folder).name

    def _other(self, option: str) -> Embeddings | None:
        other = self.artefact.inputs.get(option)
        return None if other is None else Embeddings(other)

    @cached_property
    def results(self) -> dict[str, Json]:
        """probe.json: each figure by its key, as far as a reader could find it, `factors`, and the protocol."""
        results: dict[str, Json] = self.artefact.read_json("probe.json", dict)
        return results
