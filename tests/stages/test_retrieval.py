"""Retrieval of images and captions as a reader: what must be found, what can't be, and what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.probe import Probe
from embprobe.stages.read import Read
from embprobe.store import Artefact, Store
from embprobe.views import Images
from tests.encoders.test_joint import siglip_folder
from tests.encoders.test_text import WORDS, text_folder
from tests.stages.conftest import outputs

pytest.importorskip("transformers")
FIGURES = ("image_to_text_r1", "text_to_image_r1")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """Planted scenes of 600 images whose captions name hue and ground."""
    given = {"count": 600, "size": 16, "vary": ("hue", "texture"), "captions": True, "val_share": 0.25}
    return make(Ingest(source="planted", **given), Store(tmp_path_factory.mktemp("retrieval")))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def embeddings(scenes: Artefact) -> Artefact:
    return make(Extract(images=scenes, encoder="pixels:4", device="cpu"), Store(scenes.root))


@pytest.fixture(scope="module")
def text(scenes: Artefact, tmp_path_factory: pytest.TempPathFactory) -> str:
    told = " ".join(c or "" for c in Images(scenes).captions or []).replace(",", " ").split()
    return str(text_folder(tmp_path_factory.mktemp("bert"), "bert", list(dict.fromkeys([*WORDS, *told]))))


@pytest.fixture(scope="module")
def read(embeddings: Artefact, text: str) -> Artefact:
    return make(Read(embeddings=embeddings, reader="retrieval", text=text, device="cpu"), Store(embeddings.root))


def test_a_linear_map_finds_captions_of_pixels_above_chance(read: Artefact) -> None:
    found = read.read_json("read.json")
    for name in FIGURES:
        assert found[name]["low"] > 2 * found[name]["chance"], (name, found[name])
        assert found[name]["low"] < found[name]["value"] < found[name]["high"]
        assert (found[name]["images"], found[name]["without_caption"]) == (found["protocol"]["held_out"], 0)
        assert found[name]["chance"] == 1 / found[name]["captions"]
    assert found["protocol"]["retrieval"].startswith("image vectors by ridge")
    assert read.metrics == {name: found[name]["value"] for name in FIGURES}


@pytest.mark.parametrize("seed", range(3))
def test_captions_of_other_images_are_found_as_often_as_chance(
    embeddings: Artefact, text: str, read: Artefact, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    from embprobe.evaluation.retrieval import read_retrieval

    stage = Read(embeddings=embeddings, reader="retrieval", text=text, device="cpu")
    captions = Images(embeddings.inputs["images"]).captions or []
    shuffled = [captions[row] for row in np.random.default_rng(seed).permutation(len(captions))]
    monkeypatch.setattr(Images, "captions", shuffled)
    found = read_retrieval(stage.rows(), Path(text))
    for name in FIGURES:
        assert found[name]["low"] <= found[name]["chance"] <= found[name]["high"], (name, found[name])
        assert found[name]["value"] < read.metrics[name] / 2


def test_images_without_a_caption_are_left_out_and_counted(captioned: Artefact, store: Store, tmp_path: Path) -> None:
    embeddings = make(Extract(images=captioned, encoder="pixels:4", device="cpu"), store)
    folder = str(text_folder(tmp_path / "bert", "bert"))
    found = make(Read(embeddings=embeddings, reader="retrieval", text=folder, device="cpu"), store).read_json(
        "read.json"
    )
    captions = [(Images(captioned).captions or [])[row] for row in Images(captioned).of_split("val")]
    told = [caption for caption in captions if caption]
    for name in FIGURES:
        assert found[name]["images"] == len(told) < len(captions) == len(told) + found[name]["without_caption"]
        assert found[name]["captions"] == 3 and found[name]["value"] == 1  # their colour tells


def test_a_joint_model_reads_its_own_tokens_with_nothing_fitted(
    captioned: Artefact, store: Store, tmp_path: Path
) -> None:
    import torch
    from transformers import SiglipModel

    from embprobe.pixels import preprocess

    folder = siglip_folder(tmp_path / "siglip")
    embeddings = make(Extract(images=captioned, encoder=str(folder), device="cpu"), store)
    stage = Read(embeddings=embeddings, reader="retrieval", text=str(folder), device="cpu")
    found = make(stage, store).read_json("read.json")
    assert "nothing fitted" in found["protocol"]["retrieval"]
    images, model = Images(captioned), SiglipModel.from_pretrained(folder).eval()
    rows = [row for row in images.of_split("val") if (images.captions or [])[row]]
    told = [(images.captions or [])[row] or "" for row in rows]
    distinct, words = list(dict.fromkeys(told)), {word: place for place, word in enumerate(WORDS)}
    ids = [[2, *(words[w] for w in caption.replace(",", " ,").split()), 3] for caption in distinct]
    pixels = preprocess(torch.from_numpy(images.array.read()[rows]), (16, 16), (0.5,) * 3, (0.5,) * 3, "bicubic")
    with torch.no_grad():
        seen = model.get_image_features(pixel_values=pixels).pooler_output
        said = model.get_text_features(input_ids=torch.tensor([i + [1] * (8 - len(i)) for i in ids])).pooler_output
    cosine = torch.cosine_similarity(seen[:, None], said[None], dim=2)
    right = sum(distinct[place] == caption for place, caption in zip(cosine.argmax(1), told, strict=True))
    assert found["image_to_text_r1"]["value"] == pytest.approx(right / len(told))
    mapped = make(replace(stage, text=str(text_folder(tmp_path / "clip"))), store)
    assert "by ridge" in mapped.read_json("read.json")["protocol"]["retrieval"]


def test_stopped_and_continued_equals_whole(
    embeddings: Artefact, text: str, read: Artefact, killed: Callable[..., Artefact], tmp_path: Path
) -> None:
    stage = Read(embeddings=embeddings, reader="retrieval", text=text, device="cpu")
    part = killed(stage, Store(tmp_path / "part"), 2)
    assert outputs(part) == outputs(read) and part.metrics == read.metrics


def test_the_reader_added_computes_itself_alone_and_asked_again_costs_nothing(
    embeddings: Artefact, text: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ran: list[str] = []
    run = Read.run
    monkeypatch.setattr(Read, "run", lambda self, out: (ran.append(self.reader), run(self, out)))
    store = Store(tmp_path / "store")
    make(Probe(embeddings=embeddings, readers=("pixels",), device="cpu"), store)
    more = Probe(embeddings=embeddings, readers=("retrieval", "pixels"), text=text, device="cpu")
    made = make(more, store)
    assert ran == ["pixels", "retrieval"] and set(FIGURES) < set(made.metrics)
    monkeypatch.setattr(Probe, "run", lambda *_: pytest.fail("it ran again"))
    assert make(more, store) == made and ran == ["pixels", "retrieval"]


def test_a_folder_counts_by_its_content_and_for_retrieval_alone(
    embeddings: Artefact, scenes: Artefact, tmp_path: Path
) -> None:
    def asked(name: str) -> set[str]:
        given = {"embeddings": embeddings, "text": str(tmp_path / name)}
        stages = Read(**given, reader="retrieval"), Probe(**given, readers=("retrieval", "knn"))  # type: ignore[arg-type]
        return {Store(scenes.root).open(stage).fingerprint for stage in stages}

    folder = text_folder(tmp_path / "one")
    first = asked("one")
    folder.rename(tmp_path / "two")
    assert asked("two") == first
    (tmp_path / "two" / "tokenizer_config.json").write_text('{"pad_token": "[PAD]"}')
    assert not asked("two") & first
    assert "text" not in Read(embeddings=embeddings, reader="pixels").spec()
    assert "text" not in Probe(embeddings=embeddings).spec()


def test_what_can_not_be_read_is_refused_in_one_line(
    embeddings: Artefact, images: Artefact, text: str, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for refused in (Read, Probe):
        given = {"reader": "retrieval"} if refused is Read else {"readers": ("retrieval",)}
        with pytest.raises(UserError, match="needs a text encoder; give the folder of one with --text"):
            refused(embeddings=embeddings, **given)
        with pytest.raises(UserError, match=r"--text .*nowhere is no folder with a text encoder; check the path"):
            refused(embeddings=embeddings, text=str(tmp_path / "nowhere"), **given)
    with pytest.raises(UserError, match="--text has no meaning for reader knn, only for retrieval"):
        Read(embeddings=embeddings, reader="knn", text=text)
    plain = make(Extract(images=images, encoder="pixels:4", device="cpu"), store)
    with pytest.raises(UserError, match=r"reader retrieval needs captions, and ingest .* has none; leave it out"):
        make(Read(embeddings=plain, reader="retrieval", text=text), store)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"empty is no encoder: it has no config.json"):
        make(Read(embeddings=embeddings, reader="retrieval", text=str(tmp_path / "empty")), store)
    captions = Images(embeddings.inputs["images"]).captions or []
    monkeypatch.setattr(
        Images, "captions", [caption if row % 50 == 0 else None for row, caption in enumerate(captions)]
    )
    with pytest.raises(UserError, match=r"training and \d+ held-out images with a caption are too few to probe"):
        make(Read(embeddings=embeddings, reader="retrieval", text=text), store)
    monkeypatch.setattr(Images, "captions", ["a cat"] * len(captions))
    with pytest.raises(UserError, match="all held-out captions are 'a cat': there is nothing to tell apart"):
        make(Read(embeddings=embeddings, reader="retrieval", text=text), store)


def test_the_page_has_a_column_each_way(read: Artefact, embeddings: Artefact, text: str) -> None:
    from embprobe.metrics.table import METRIC
    from embprobe.study import Study
    from embprobe.study.readings import reader_rows

    probe = make(Probe(embeddings=embeddings, readers=("retrieval",), text=text, device="cpu"), Store(embeddings.root))
    row, chance = reader_rows(Study((probe,), {}))
    count = read.read_json("read.json")["image_to_text_r1"]["captions"]
    assert row.how == f"captions by {Path(text).name}" and (chance.kind, chance.how) == ("bound", f"{count} captions")
    assert {estimate.value for estimate in chance.values.values()} == {1 / count}
    assert set(row.values) == set(FIGURES) and [METRIC[name].header for name in FIGURES] == [
        "image→text R@1 ↑", "text→image R@1 ↑",
    ]  # fmt: skip
    assert row.values["image_to_text_r1"].value == read.metrics["image_to_text_r1"]
