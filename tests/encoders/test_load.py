"""Names and files to frozen encoders, checked against timm itself."""

from pathlib import Path

import pytest
import timm
import torch
from timm.models.vision_transformer import VisionTransformer

from embprobe.encoders.load import load_encoder, load_into, preprocess, read_weights, uses_fc_norm
from embprobe.errors import UserError
from embprobe.nn.vit import HEADLESS, build_vit, describe

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
FILES = Path(__file__).parents[3] / "shared" / "weights"


def images(count: int = 2, size: int = 32) -> torch.Tensor:
    return torch.randint(0, 256, (count, size, size, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def test_class_and_register_tokens_are_dropped():
    encoder = load_encoder("random:vit_tiny_patch16_224", image_size=64)
    assert encoder.network is not None
    x = preprocess(images(1, 224), 224, encoder.mean, encoder.std, encoder.interpolation)
    expected = encoder.network.forward_features(x)[:, 1:].reshape(1, 14, 14, 192)
    torch.testing.assert_close(encoder(images(1, 224)), expected)


def test_an_earlier_layer_is_that_block_after_the_final_norm():
    encoder = load_encoder("random:vit-32x3-h2-p8", image_size=32, layer=2)
    network = encoder.network
    assert isinstance(network, VisionTransformer)
    x = preprocess(images(), 32, encoder.mean, encoder.std, encoder.interpolation)
    tokens = network._pos_embed(network.patch_embed(x))
    for block in network.blocks[:2]:
        tokens = block(tokens)
    torch.testing.assert_close(encoder(images()).flatten(1, 2), network.norm(tokens))


def test_a_network_that_norms_after_pooling_has_its_norm_on_each_token():
    network = timm.create_model(
        "beit_base_patch16_224", pretrained=False, num_classes=0, img_size=32, embed_dim=32, depth=1, num_heads=2
    )
    assert uses_fc_norm(network)


def test_pixels_are_raw_patches_in_patch_order():
    encoder = load_encoder("pixels:8", image_size=32)
    x = images(1)
    patch = x[0, 8:16, 16:24].reshape(-1).float() / 127.5 - 1
    torch.testing.assert_close(encoder(x)[0, 1, 2], patch)


def test_a_random_encoder_follows_its_seed():
    one, same, other = (load_encoder("random:vit-32x1-h2-p8", image_size=32, seed=s)(images()) for s in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_official_ijepa_files_give_the_target_encoder(tmp_path: Path):
    target, context = (VisionTransformer(**SMALL, **HEADLESS) for _ in range(2))
    prefixed = [{f"module.{k}": v for k, v in m.state_dict().items()} for m in (target, context)]
    torch.save({"target_encoder": prefixed[0], "encoder": prefixed[1], "epoch": 300}, tmp_path / "official.pth.tar")
    network = build_vit(describe(32, 8, 32, 2, 2))
    load_into(network, tmp_path / "official.pth.tar")
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network.eval()(x), target.eval()(x))


def test_official_mae_files_lose_their_decoder(tmp_path: Path):
    encoder = VisionTransformer(**SMALL, num_classes=0)
    extra = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 32)}
    torch.save({"model": encoder.state_dict() | extra}, tmp_path / "mae.pth")
    network = VisionTransformer(**SMALL, num_classes=0)
    load_into(network, tmp_path / "mae.pth")
    assert torch.equal(network.pos_embed, encoder.pos_embed)


class Boom:
    """Unpickling this would run code."""

    def __reduce__(self):
        return (print, ("code ran",))


def test_code_in_a_weights_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    torch.save({"model": Boom()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="code"):
        read_weights(tmp_path / "evil.pth")
    assert "code ran" not in capsys.readouterr().out


def test_weights_of_another_width_name_what_differs(tmp_path: Path):
    torch.save(VisionTransformer(**(SMALL | {"embed_dim": 16}), **HEADLESS).state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(UserError, match=r"is \(.*\), not \("):
        load_into(build_vit(describe(32, 8, 32, 2, 2)), tmp_path / "narrow.pth")


@pytest.mark.parametrize("name", ["mae", "ijepa"])
def test_the_real_small_encoders_load_strictly(name: str):
    path = FILES / f"{name}_vit_128x6_p8_imagenette64.safetensors"
    if not path.is_file():
        pytest.skip("the real weights are not here")
    network = build_vit(describe(64, 8, 128, 6, 4))
    load_into(network, path)
    assert float(network.pos_embed.abs().sum()) > 0
