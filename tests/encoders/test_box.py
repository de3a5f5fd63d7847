"""Encoders that come with embprobe."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from embprobe.encoders.box import BOX, in_box
from embprobe.encoders.load import Given, load_encoder
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.nn.layers import effective_rank
from embprobe.pixels import IMAGENET, preprocess
from embprobe.stages.extract import Extract
from embprobe.stages.features import Featurize
from embprobe.stages.ingest import Ingest
from embprobe.stages.predict import Predict
from embprobe.stages.pretrain import Pretrain
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


# ---- at another resolution


@each
def test_its_positions_are_resampled_as_timm_does(name: str) -> None:
    vit = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=128, depth=6, num_heads=4, num_classes=0, class_token=False,
        global_pool="avg", fc_norm=False,
    )  # fmt: skip
    held = {
        k: v.float() for k, v in load_file(BOX[name].file).items() if not k.startswith(("decoder", "predictor", "mask"))
    }
    vit.load_state_dict(checkpoint_filter_fn(held, vit), strict=False)
    images = torch.randint(0, 256, (3, 32, 32, 3), generator=torch.Generator().manual_seed(0)).byte()
    encoder = load_encoder(name, image_size=(32, 32), given=Given(resolution=32))
    expected = vit.eval().forward_features(preprocess(images, (32, 32), *IMAGENET, "bicubic"))
    assert encoder.grid == (4, 4)
    assert (encoder(images).flatten(1, 2) - expected).abs().max() < 1e-5


@each
def test_its_predictor_foresees_at_another_resolution(place: Store, name: str) -> None:
    images = make(Ingest(source="planted", count=120, size=32, val_share=0.5), place)
    embeddings = make(Extract(images=images, encoder=name, resolution=32), place)
    assert Embeddings(embeddings).grid == (4, 4)
    found = make(Predict(embeddings=embeddings), place).read_json("prediction.json")
    assert found["auc"]["low"] > 0.7 and found["r2"]["low"] > 0.2


def test_a_resolution_that_cant_be_is_refused() -> None:
    with pytest.raises(UserError, match="--resolution 30 can't be cut into patches of 8"):
        load_encoder("mae-tiny", image_size=(32, 32), given=Given(resolution=30))
    with pytest.raises(UserError, match="--resolution has no meaning with encoder pixels"):
        Extract(images=Path(), encoder="pixels:4", resolution=32).validate()


def test_what_i_jepa_and_mae_keep_beside_follows_the_resolution(place: Store) -> None:
    images = make(Ingest(source="planted", count=48, size=32, val_share=0.5), place)
    for objective in ("ijepa", "mae"):
        options = {"width": 32, "depth": 1, "heads": 2, "patch": 8, "batch": 8, "steps": 1}
        pretrained = make(Pretrain(images=images, objective=objective, **options), place)
        embeddings = make(Extract(images=images, encoder=pretrained, resolution=48), place)
        assert Embeddings(embeddings).grid == (6, 6)
        assert "r2" in make(Predict(embeddings=embeddings), place).read_json("prediction.json")
