"""What a page cost, from the manifests, and whom it cites."""

import re
from html import unescape
from types import SimpleNamespace
from typing import Any

import pytest

from embprobe.making import make
from embprobe.metrics.estimate import Estimate
from embprobe.stages.evaluate import Evaluate
from embprobe.store import Artefact, Store
from embprobe.study import Study, bibtex, budget
from embprobe.study.judging import JudgeReport
from embprobe.study.rows import Row
from tests import fake_study, tiny
from tests.conftest import Zoo


def table(page: str) -> list[list[str]]:
    rows = re.findall(r"<tr>(.*?)</tr>", page)
    return [[unescape(re.sub("<.*?>", "", c)) for c in re.findall(r"<t[dh].*?</t[dh]>", row)] for row in rows]


def test_a_real_chain_tells_parameters_steps_images_and_time(zoo: Zoo, place: Store) -> None:
    judged = Evaluate(samples=zoo["samples"], reference=zoo["images"], judges=(tiny.ENCODER,), k=2, device="cpu")
    study = Study((make(judged, place),))
    rows = {(row[0], row[1]): row for row in table(budget.budget(study))[1:]}
    name = tiny.ENCODER
    denoiser = zoo["denoiser"]
    found = rows["denoiser", name]
    assert found[2] == f"{denoiser.metrics['parameters']:,}" and found[3] == str(denoiser.options["steps"])
    assert found[4] == str(denoiser.metrics["images_seen"]) and found[7] == "cpu" and found[6].endswith("B")
    assert rows["data set", ""][8] == "planted (48, 36 of train)" and rows["samples", name][8].endswith(" drawn")
    assert rows["encoder, embeddings", name][2] == f"{zoo['embeddings'].metrics['parameters']:,}"
    assert ("judging and reading × 4", "") in rows or any(word.startswith("judging and reading") for word, _ in rows)
    assert re.search(r"In all [\d.e−]+ CPU hours, by", budget.budget(study)) and "GPU" not in budget.budget(study)


def test_a_gpu_has_hours_and_memory_of_its_own(monkeypatch: pytest.MonkeyPatch, place: Store) -> None:
    study = Study(fake_study.artefacts(place, seeds=(0, 1, 2), curve=False))
    of_gpu = {"conditions": {"device": "cuda"}, "device_peak_bytes": 2_000_000_000, "seconds": 3600.0}
    plain = Artefact.manifest.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(
        Artefact, "manifest", property(lambda a: plain(a) | (of_gpu if a.stage == "diffuse" else {"seconds": 0.0}))
    )
    page = budget.budget(study)
    (mae,) = [row for row in table(page) if row[:2] == ["denoiser × 3", "mae"]]
    assert mae[5] == "3 h 00 min" and mae[6].endswith("and 2.0 GB of the GPU's") and mae[7] == "cuda"
    assert "In all 9.0 GPU hours, by" in page


def test_what_is_used_is_cited_and_nothing_else(place: Store) -> None:
    study = Study(fake_study.artefacts(place, curve=False))
    judge = JudgeReport("x", None, [Row("mae", {"fd": Estimate(1.0), "recall": Estimate(1.0)})], (), (), (), {})
    page = unescape(bibtex.citations(study, [judge]))
    assert re.findall(r"@\w+{(\w+),", page) == ["embprobe", "ijepa2023", "mae2022", "fid2017", "precisionrecall2019"]
    assert re.search(r"version = {\d", page) and "year = {20" in page


@pytest.mark.parametrize("key", sorted(bibtex.PAPERS))
def test_every_entry_is_closed(key: str) -> None:
    entry = bibtex.paper(key)
    assert entry.count("{") == entry.count("}") and entry.endswith("}") and "year = {" in entry


@pytest.mark.parametrize(
    ("encoder", "cited"),
    [("dinov2", ["dinov2"]), ("timm:vit_huge_patch14_gap_224.in1k_ijepa", ["ijepa"]), ("siglip2", ["siglip"]),
     ("supervised", ["augreg"]), ("pixels:8", []), ("timm:vit_huge_patch14_224.mae", ["mae"])],
)  # fmt: skip
def test_encoders_are_cited_by_what_they_are(encoder: str, cited: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    study: Any = SimpleNamespace(all=[SimpleNamespace(stage="extract")])
    monkeypatch.setattr(budget, "Embeddings", lambda artefact: SimpleNamespace(encoder=encoder))
    assert budget.cited_encoders(study) == cited
