"""Images of one channel and two different sides go from an array to samples, through every stage on the way."""

from pathlib import Path

import numpy as np
import pytest

from embprobe.making import make
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
from embprobe.views import Embeddings, Images, Latents, Samples
from tests import tiny

COUNT, HEIGHT, WIDTH = 60, 32, 96


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("drill") / "embstore")


@pytest.fixture(scope="module")
def spectrograms(store: Store) -> Artefact:
    """Tones of two kinds, low ones and high ones."""
    rng, rows = np.random.default_rng(0), np.arange(HEIGHT)[:, None]
    tones = [200 * np.exp(-((rows - (8 if i % 2 else 24)) ** 2) / 8) for i in range(COUNT)]
    values = np.stack([tone + rng.uniform(0, 50, (HEIGHT, WIDTH)) for tone in tones]).astype(np.uint8)
    store.root.mkdir()
    path = store.root / "spectrograms.npz"
    np.savez(path, images=values, label=["low" if i % 2 else "high" for i in range(COUNT)])
    return make(Ingest(source=str(path), val_share=0.25), store)


@pytest.mark.parametrize("encoder", ["pixels:8", "random:vit-16x1-h2-p8"])
@pytest.mark.parametrize("network", ["unet", "dit"])
def test_spectrograms_go_from_ingest_to_samples(
    store: Store, spectrograms: Artefact, encoder: str, network: str, tmp_path: Path
) -> None:
    images = Images(spectrograms)
    assert images.size == (HEIGHT, WIDTH) and images.channels == 1 and images.classes == ["high", "low"]
    embeddings = make(Extract(images=spectrograms, encoder=encoder, device="cpu"), store)
    assert Embeddings(embeddings).grid == (4, 12)
    latents = make(Compress(embeddings=embeddings, **tiny.COMPRESS), store)
    assert Latents(latents).array.shape == (COUNT, 4, 12, 3)
    options = tiny.DIFFUSE | {"width": 16, "network": network, "depth": 1}
    denoiser = make(Diffuse(latents=latents, conditional=True, **options), store)
    decoder = make(Decode(latents=latents, **tiny.DECODE | {"gan_start": 2}), store)
    drawn = make(Sample(denoiser=denoiser, decoder=decoder, guidance=2, png=tmp_path, **tiny.SAMPLE), store)
    samples = Samples(drawn)
    assert samples.array.shape == (24, HEIGHT, WIDTH, 1) and samples.latents.shape == (24, 4, 12, 3)
    assert len(list(tmp_path.glob("*.png"))) == 24
    probe = make(Probe(embeddings=embeddings, k=3, device="cpu"), store)
    assert {"linear", "knn", "pixel_r2"} <= probe.metrics.keys()


def test_they_are_judged_and_reported_by_what_learned_on_them(store: Store, spectrograms: Artefact) -> None:
    encoder = make(Pretrain(images=spectrograms, objective="ijepa", **tiny.PRETRAIN | {"patch": 8}), store)
    embeddings = make(Extract(images=spectrograms, encoder=encoder, device="cpu"), store)
    latents = make(Compress(embeddings=embeddings, **tiny.COMPRESS), store)
    denoiser = make(Diffuse(latents=latents, **tiny.DIFFUSE), store)
    decoder = make(Decode(latents=latents, **tiny.DECODE), store)
    samples = make(Sample(denoiser=denoiser, decoder=decoder, **tiny.SAMPLE), store)
    judge = make(Classify(images=spectrograms, **tiny.CLASSIFY), store)
    evaluated = make(Evaluate(samples=samples, reference=spectrograms, judges=(judge, encoder), k=2), store)
    names = [report["name"] for report in evaluated.read_json("metrics.json")["judges"]]
    assert names == [f"classifier {judge.short}", encoder.short]
    report = make(Report(artefacts=(evaluated,)), store)
    assert (report.path / "report.html").stat().st_size > 10_000
