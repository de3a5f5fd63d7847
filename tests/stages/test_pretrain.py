"""Pretraining: what it writes loads into timm; weights in, weights out."""

import pytest
import torch
from safetensors.torch import load_file
from timm.models.vision_transformer import VisionTransformer

from embprobe.making import make
from embprobe.stages.pretrain import Pretrain
from embprobe.store import Store
from tests import tiny
from tests.conftest import Zoo


@pytest.mark.parametrize("objective", ["ijepa", "mae"])
def test_the_encoder_loads_strictly_into_timm_and_the_log_tells_of_collapse(zoo: Zoo, place: Store, objective: str):
    made = make(Pretrain(images=zoo["images"], objective=objective, **(tiny.PRETRAIN | {"steps": 20})), place)
    facts = made.read_json("encoder.json")
    VisionTransformer(**facts["network"]).load_state_dict(load_file(made.weights()))
    assert {"loss", "std", "effective_rank"} <= made.metrics.keys()
    assert len(made.folder.names("milestones")) >= 8


def test_with_no_steps_a_weights_file_is_the_encoder(zoo: Zoo, place: Store):
    given = zoo["encoder"].weights()
    made = make(
        Pretrain(images=zoo["images"], objective="ijepa", weights=given, **(tiny.PRETRAIN | {"steps": 0})), place
    )
    ours, theirs = load_file(made.weights()), load_file(given)
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)


def test_a_timm_vit_can_be_pretrained_by_name(zoo: Zoo, place: Store):
    options = tiny.PRETRAIN | {"steps": 1, "batch": 2}
    made = make(Pretrain(images=zoo["images"], objective="mae", encoder="vit_tiny_patch16_224", **options), place)
    assert made.read_json("encoder.json")["network"]["name"] == "vit_tiny_patch16_224"
