"""The attention that is drawn is the network's own: PyTorch's softmax(QKᵀ/√d), and that of transformers."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from embprobe.encoders.attention import attention_maps, has_class_token
from embprobe.encoders.frozen import Encoder
from embprobe.encoders.load import load_encoder
from embprobe.pixels import preprocess

IMAGES = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), np.uint8))


def loaded(name: str, **options: object) -> Encoder:
    return load_encoder(name, image_size=(32, 32), **options)  # type: ignore[arg-type]


def softmax_of(vit: torch.nn.Module, x: Tensor, block: int) -> Tensor:
    """softmax(QKᵀ/√d) (B,heads,N,N) of a block of timm's, from its input and its own projection."""
    kept: list[Tensor] = []
    attention = vit.blocks[block].attn  # type: ignore[union-attr, index]
    hook = attention.register_forward_pre_hook(lambda _, given: kept.append(given[0]))
    vit.forward_features(x)  # type: ignore[operator]
    hook.remove()
    count, tokens, width = kept[0].shape
    qkv = attention.qkv(kept[0]).reshape(count, tokens, 3, attention.num_heads, width // attention.num_heads)
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    return torch.softmax(query @ key.mT / (width // attention.num_heads) ** 0.5, -1)


@pytest.mark.parametrize(("layer", "block"), [(None, -1), (("2",), 1), (("1", "2"), 1)])
def test_without_a_class_token_it_is_what_patches_receive(layer: tuple[str, ...] | None, block: int) -> None:
    encoder = loaded("random:vit-16x3-h2-p8", layer=layer)
    maps = attention_maps(encoder, IMAGES)
    assert maps is not None and maps.shape == (3, 4, 4) and not has_class_token(encoder)
    x = preprocess(IMAGES, encoder.size, encoder.mean, encoder.std, encoder.interpolation)
    wanted = softmax_of(encoder.network.vit, x, block).mean((1, 2))  # type: ignore[arg-type]
    assert torch.allclose(maps.flatten(1), wanted, atol=1e-6)
    assert torch.allclose(maps.sum((1, 2)), torch.ones(3), atol=1e-5)


def test_with_a_class_token_it_is_what_that_pays_to_the_patches() -> None:
    encoder = loaded("random:vit_tiny_patch16_224")
    maps = attention_maps(encoder, IMAGES[:1])
    x = preprocess(IMAGES[:1], encoder.size, encoder.mean, encoder.std, encoder.interpolation)
    wanted = softmax_of(encoder.network.vit, x, -1)[:, :, 0, 1:].mean(1)  # type: ignore[arg-type]
    assert maps is not None and has_class_token(encoder)
    assert torch.allclose(maps.flatten(1), wanted, atol=1e-6)


def test_looking_changes_nothing() -> None:
    encoder = loaded("random:vit-16x2-h2-p8")
    fused = encoder.network.vit.blocks[-1].attn.fused_attn  # type: ignore[union-attr, index]
    before = encoder(IMAGES)
    attention_maps(encoder, IMAGES)
    assert torch.equal(before, encoder(IMAGES))
    assert encoder.network.vit.blocks[-1].attn.fused_attn == fused  # type: ignore[union-attr, index]


def test_pixels_have_none() -> None:
    assert attention_maps(loaded("pixels"), IMAGES) is None


def test_a_rotary_network_of_timm_has_it_too() -> None:
    maps = attention_maps(loaded("random:eva02_tiny_patch14_224"), IMAGES[:1])
    assert maps is not None and maps.shape == (1, 16, 16) and 0 < float(maps.sum()) < 1


def test_a_folder_of_transformers_has_it(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, image_size=32, patch_size=8
    )
    torch.manual_seed(0)
    model = transformers.ViTModel(config, add_pooling_layer=False).eval()
    model.save_pretrained(tmp_path / "saved")
    encoder = loaded("folder", weights=tmp_path / "saved" / "model.safetensors")
    maps = attention_maps(encoder, IMAGES)
    x = preprocess(IMAGES, encoder.size, encoder.mean, encoder.std, encoder.interpolation)
    model.set_attn_implementation("eager")
    with torch.no_grad():
        wanted = model(pixel_values=x, output_attentions=True).attentions[-1][:, :, 0, 1:].mean(1)
    assert maps is not None and torch.allclose(maps.flatten(1), wanted, atol=1e-6)
