"""Encoders that come with embprobe."""

from pathlib import Path

import pytest
import torch

from embprobe.encoders.box import BOX, in_box
from embprobe.making import make
from embprobe.nn.layers import effective_rank
from embprobe.stages.extract import Extract
from embprobe.stages.features import Featurize
from embprobe.stages.ingest import Ingest
from embprobe.stages.predict import Predict
from embprobe.store import Store
from embprobe.store.hashes import file_hash
from embprobe.views import Embeddings
from tests.conftest import Shell

each = pytest.mark.parametrize("name", sorted(BOX))


def scenes(place: Store, count: int = 48) -> Ingest:
    return Ingest(source="planted", count=count, size=64, val_share=0.5)


@each
def test_it_is_small_and_has_a_log_and_a_card(name: str) -> None:
    file = BOX[name].file
    assert file.stat().st_size <= 3_000_000
    assert len(file.with_suffix(".jsonl").read_text().splitlines()) >= 8
    assert name in (file.parent / "README.md").read_text()


@each
def test_it_is_used_by_its_name_or_as_the_file_it_is(place: Store, name: str) -> None:
    images = make(scenes(place), place)
    by_name = make(Extract(images=images, encoder=name), place)
    assert make(Extract(images=images, encoder=str(BOX[name].file)), place) == by_name
    assert make(Extract(images=images, encoder=f"box:{name}"), place) == by_name
    embeddings = Embeddings(by_name)
    assert embeddings.array.shape == (48, 8, 8, 128) and embeddings.input_size == (64, 64)


@each
def test_it_is_not_collapsed_and_tells_true_from_swapped(place: Store, name: str) -> None:
    embeddings = make(Extract(images=make(scenes(place, 120), place), encoder=name), place)
    tokens = torch.from_numpy(Embeddings(embeddings).array.floats(slice(0, 60))).flatten(0, 2)
    assert effective_rank(tokens) > 8
    found = make(Predict(embeddings=embeddings), place).read_json("prediction.json")
    assert found["auc"]["low"] > 0.5 and not found["flat"] and not found["collapsed"]


@each
def test_an_alias_of_that_name_is_refused_until_it_is_said_which(place: Store, shell: Shell, name: str) -> None:
    images = make(scenes(place, 24), place)
    place.name(name, make(Extract(images=images, encoder="pixels:8"), place))
    asked = ("extract", "--images", images.path, "--store", place.root, "--encoder")
    assert shell(*asked, name).code == 0, "what is no encoder can't be meant"
    from embprobe.stages.pretrain import Pretrain

    sizes = {"objective": "mae", "width": 16, "depth": 1, "heads": 2, "steps": 0}
    place.name(name, make(Pretrain(images=images, **sizes), place))
    refused = shell(*asked, name)
    assert refused.code == 2 and f"box:{name}" in refused.lines[-1]
    assert shell(*asked, f"box:{name}").code == 0


@each
def test_it_judges_by_its_name(place: Store, name: str) -> None:
    images = make(scenes(place, 24), place)
    made = make(Featurize(images=images, judge=name, size=(32,), device="cpu"), place)
    assert made.array("train_features").shape[1] == 128
    judge = made.spec["weights"]
    assert judge == file_hash(BOX[name].file), "it counts by its content"


def test_other_words_are_not_in_the_box() -> None:
    assert in_box("mae") is None and in_box(None) is None and in_box(Path("mae-tiny")) is None
