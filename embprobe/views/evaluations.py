"""The results of `evaluate` and `probe`."""

from functools import cached_property

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
    def reference(self) -> Images:
        return Images(self._source("reference"))

    @cached_property
    def results(self) -> Json:
        """metrics.json."""
        return self.artefact.read_json("metrics.json", dict)

    @property
    def judges(self) -> dict[str, Json]:
        """The reports by the judge's name, the first judge first."""
        return {report["name"]: report for report in self.results["judges"]}

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
    def results(self) -> dict[str, Json]:
        """probe.json: `linear`, `knn`, `pixel_r2`, `factors` where they could be read, and the protocol."""
        results: dict[str, Json] = self.artefact.read_json("probe.json", dict)
        return results
