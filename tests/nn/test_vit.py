"""Vision transformers built from a configuration and read out token by token."""

import json

import pytest
import timm
import torch

from embprobe.errors import UserError
from embprobe.nn.layers import sin_cos_positions
from embprobe.nn.vit import PatchTokens, build_vit, embed_patches, run_blocks, set_positions, vit_config


def test_a_configuration_survives_json() -> None:
    config = json.loads(json.dumps(vit_config((16, 24), 8, 32, 1, 2, channels=2)))
    vit = build_vit(config).eval()
    assert PatchTokens(vit)(torch.randn(1, 2, 16, 24)).shape == (1, 6, 32)


def test_sizes_that_cannot_be_say_so() -> None:
    with pytest.raises(UserError, match="--patch 5 does not divide the image size 16"):
        vit_config((16, 16), 5, 32, 1, 2)
    with pytest.raises(UserError, match="16×20"):
        vit_config((16, 20), 8, 32, 1, 2)
    with pytest.raises(UserError, match="--heads 3"):
        vit_config((16, 16), 8, 32, 1, 3)


def test_the_last_layer_is_all_blocks_and_the_final_norm() -> None:
    vit = build_vit(vit_config((16, 16), 8, 32, 3, 2)).eval()
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(PatchTokens(vit)(x), run_blocks(vit, embed_patches(vit, x)))
    torch.testing.assert_close(PatchTokens(vit, (3,))(x), PatchTokens(vit)(x))
    assert not torch.allclose(PatchTokens(vit, (2,))(x), PatchTokens(vit)(x))


def test_a_network_that_norms_after_pooling_has_its_norm_on_each_token() -> None:
    network = timm.create_model(
        "beit_base_patch16_224", pretrained=False, num_classes=0, img_size=32, embed_dim=32, depth=1, num_heads=2
    ).eval()
    x = torch.randn(2, 3, 32, 32)
    raw = network.forward_features(x)[:, 1:]
    torch.testing.assert_close(PatchTokens(network)(x), network.fc_norm(raw))


def test_positions_start_from_sines_on_any_grid() -> None:
    vit = build_vit(vit_config((16, 24), 8, 32, 1, 2))
    assert set_positions(vit) == ((2, 3), 32)
    assert vit.pos_embed is not None
    assert torch.equal(vit.pos_embed[0], sin_cos_positions((2, 3), 32))
