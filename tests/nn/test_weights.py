"""Weights files that others made: unwrapped, checked, and never run."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from embprobe.errors import UserError
from embprobe.nn.vit import HEADLESS, build_vit, vit_config
from embprobe.nn.weights import load_into, read_weights, uses_fc_norm

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
FILES = Path(__file__).parents[3] / "shared" / "weights"


def small(width: int = 32) -> VisionTransformer:
    return build_vit(vit_config((32, 32), 8, width, 2, 2))


def test_official_ijepa_files_give_the_target_encoder(tmp_path: Path) -> None:
    target, context = (VisionTransformer(**SMALL, **HEADLESS) for _ in range(2))
    prefixed = [{f"module.{k}": v for k, v in m.state_dict().items()} for m in (target, context)]
    torch.save({"target_encoder": prefixed[0], "encoder": prefixed[1], "epoch": 300}, tmp_path / "official.pth.tar")
    network = small()
    load_into(network, tmp_path / "official.pth.tar")
    x = torch.randn(1, 3, 32, 32)
    torch.testing.assert_close(network.eval()(x), target.eval()(x))


def test_official_mae_files_lose_their_decoder(tmp_path: Path) -> None:
    encoder = VisionTransformer(**SMALL, num_classes=0)
    extra = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 32)}
    torch.save({"model": encoder.state_dict() | extra}, tmp_path / "mae.pth")
    network = VisionTransformer(**SMALL, num_classes=0)
    load_into(network, tmp_path / "mae.pth")
    assert torch.equal(network.pos_embed, encoder.pos_embed)


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_dinov3", "beit_base_patch16_224", "vit_tiny_patch16_224", "vit_small_patch14_dinov2"]
)
def test_what_timm_saves_fits_the_same_model_again(name: str, tmp_path: Path) -> None:
    options = {"num_classes": 0, "img_size": 56 if "patch14" in name else 64, "depth": 1}
    one, other = (timm.create_model(name, pretrained=False, **options).eval() for _ in range(2))
    save_file({k: v.clone() for k, v in one.state_dict().items()}, tmp_path / "model.safetensors")
    load_into(other, tmp_path / "model.safetensors")
    x = torch.randn(1, 3, options["img_size"], options["img_size"])
    assert torch.equal(one.forward_features(x), other.forward_features(x))


class Boom:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, ...]:
        return (print, ("code ran",))


def test_code_in_a_weights_file_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"model": Boom()}, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="code"):
        read_weights(tmp_path / "evil.pth")
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights"])
def test_what_is_no_weights_file_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_weights(tmp_path / name)


def test_a_missing_file_and_one_without_tensors_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no weights file"):
        read_weights(tmp_path / "none.pth")
    torch.save({"epoch": 3}, tmp_path / "numbers.pth")
    with pytest.raises(UserError, match="holds no state dict"):
        read_weights(tmp_path / "numbers.pth")


def test_weights_of_another_width_name_what_differs(tmp_path: Path) -> None:
    torch.save(small(16).state_dict(), tmp_path / "narrow.pth")
    with pytest.raises(UserError, match=r"is \(.*\), not \("):
        load_into(small(), tmp_path / "narrow.pth")


def test_a_norm_that_every_token_passes_must_be_there(tmp_path: Path) -> None:
    network = timm.create_model("beit_base_patch16_224", pretrained=False, num_classes=0, img_size=32, depth=1)
    assert uses_fc_norm(network)
    torch.save({k: v for k, v in network.state_dict().items() if "fc_norm" not in k}, tmp_path / "beit.pth")
    with pytest.raises(UserError, match=r"fc_norm\.weight is missing"):
        load_into(network, tmp_path / "beit.pth")


@pytest.mark.parametrize("name", ["mae", "ijepa"])
def test_the_real_small_encoders_load_strictly(name: str) -> None:
    path = FILES / f"{name}_vit_128x6_p8_imagenette64.safetensors"
    if not path.is_file():
        pytest.skip("the real weights are not here")
    network = build_vit(vit_config((64, 64), 8, 128, 6, 4))
    load_into(network, path)
    assert network.pos_embed is not None and float(network.pos_embed.abs().sum()) > 0
