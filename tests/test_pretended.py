"""Every stage on a pretended GPU: it runs, gives what the CPU gives, and its loops wait for nothing."""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from embprobe.making import make
from embprobe.stage import Stage
from embprobe.stages.classify import Classify
from embprobe.stages.compress import Compress
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.pretrain import Pretrain
from embprobe.stages.probe import Probe
from embprobe.stages.report import Report
from embprobe.stages.sample import Sample
from embprobe.store import Artefact, Store
from tests.pretended import WAITS, install

SMALL = {"width": 16, "depth": 2, "heads": 2, "patch": 8, "predictor_width": 8, "predictor_depth": 1}


def chain(store: Store, device: str, waits: dict[str, Counter[tuple[str, str]]]) -> dict[str, Artefact]:
    """One of everything."""
    there: dict[str, Artefact] = {}

    def keep(name: str, stage: type[Stage], **options: Any) -> Artefact:
        WAITS.clear()
        on = {} if stage in (Ingest, Report) else {"device": device}
        there[name] = make(stage(**options, **on), store)
        waits[name] = WAITS.count.copy()
        return there[name]

    data = keep("ingest", Ingest, source="planted", count=64, size=32, val_share=0.25)
    judge = keep("classify", Classify, images=data, steps=6, batch=8)
    for objective in ("mae", "ijepa"):
        encoder = keep(objective, Pretrain, images=data, objective=objective, steps=6, batch=8, **SMALL)
    keep("extract int8", Extract, images=data, encoder=encoder, storage="int8")
    embeddings = keep("extract", Extract, images=data, encoder=encoder)
    keep("compress plateau", Compress, embeddings=embeddings, kind="linear", steps=6, batch=8, channels=4,
         schedule="plateau")  # fmt: skip
    latents = keep("compress", Compress, embeddings=embeddings, steps=6, batch=8, channels=4)
    keep("diffuse unet", Diffuse, latents=latents, width=16, steps=2, batch=4, posterior="sample", objective="v",
         program="eager")  # fmt: skip
    denoiser = keep("diffuse", Diffuse, latents=latents, conditional=True, network="dit", width=32, depth=2,
                    steps=6, batch=8)  # fmt: skip
    decoder = keep("decode", Decode, latents=latents, width=8, steps=6, batch=8, gan_start=3, gan_width=4,
                   perceptual="classifier", classifier=judge)  # fmt: skip
    drawn = keep("sample", Sample, denoiser=denoiser, decoder=decoder, count=70, steps=4, guidance=2.0,
                 guidance_interval=(0.2, 0.8), sampler="dpm++")  # fmt: skip
    metrics = keep("evaluate", Evaluate, samples=drawn, reference=data, judges=(judge, encoder))
    probed = keep("probe", Probe, embeddings=embeddings)
    keep("report", Report, artefacts=(metrics, probed))
    return there


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Artefact], dict[str, Artefact], Any]]:
    import torch

    here = chain(Store(tmp_path_factory.mktemp("cpu")), "cpu", {})
    waits: dict[str, Counter[tuple[str, str]]] = {}
    with pytest.MonkeyPatch.context() as patch:
        with install(patch.setattr):
            there = chain(Store(tmp_path_factory.mktemp("gpu")), "cuda", waits)
        torch.use_deterministic_algorithms(False)
        torch.__future__.set_overwrite_module_params_on_conversion(False)
    yield here, there, waits


def test_every_stage_runs_and_tells_where(both: Any) -> None:
    here, there, _ = both
    assert all(made.complete for made in there.values())
    for name in ("ingest", "classify", "mae", "ijepa"):  # what they are made from is the same, bit by bit
        assert here[name].fingerprint == there[name].fingerprint
    for name in ("classify", "extract", "sample", "probe"):
        known, told = there[name].manifest["conditions"], there[name].manifest["device_peak_bytes"]
        assert (known["device"], known["gpu"], known["tf32"]) == ("cuda:0", "Pretended GPU", False) and told > 0
    assert "gpu" not in here["classify"].manifest["conditions"]


def test_trainings_come_out_alike(both: Any) -> None:
    here, there, _ = both
    for name in ("classify", "mae", "ijepa", "compress", "diffuse", "decode"):
        last = [[row for row in made[name].log.rows() if "step" in row][-1] for made in (here, there)]
        loss = next(key for key in last[0] if key in ("loss", "loss_decoder"))
        assert last[1][loss] == pytest.approx(last[0][loss], rel=0.1), name
        assert last[0].keys() == last[1].keys()


def test_figures_come_out_alike(both: Any) -> None:
    here, there, _ = both
    assert there["compress"].metrics["r2"] == pytest.approx(here["compress"].metrics["r2"], abs=0.05)
    for name in ("probe", "evaluate"):
        assert there[name].metrics.keys() == here[name].metrics.keys()


def test_a_filling_loop_waits_a_few_times_a_batch_and_not_for_every_step(both: Any) -> None:
    *_, waits = both
    within = {
        where: n for (_, where), n in waits["sample"].items() if where.startswith(("sampling.py", "diffusion.py"))
    }
    assert not within
    assert sum(n for (what, _), n in waits["extract"].items() if what == "copy from the GPU") <= 2
