"""Names and files to frozen encoders, checked against timm itself."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer

from embprobe.encoders import load, names
from embprobe.encoders.load import Encoder, load_encoder
from embprobe.errors import UserError
from embprobe.nn.vit import PatchTokens, build_vit, vit_config
from embprobe.pixels import IMAGENET, preprocess
from embprobe.store.hashes import file_hash

SQUARE = (32, 32)


def images(count: int = 2, size: tuple[int, int] = SQUARE, channels: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, *size, channels), generator=generator).to(torch.uint8)


def vit_of(encoder: Encoder) -> VisionTransformer:
    assert isinstance(encoder.network, PatchTokens) and isinstance(encoder.network.vit, VisionTransformer)
    return encoder.network.vit


def test_class_and_register_tokens_are_dropped() -> None:
    encoder = load_encoder("random:vit_tiny_patch16_224", image_size=(64, 64))
    x = preprocess(images(1, (224, 224)), (224, 224), encoder.mean, encoder.std, encoder.interpolation)
    expected = vit_of(encoder).forward_features(x)[:, 1:].reshape(1, 14, 14, 192)
    torch.testing.assert_close(encoder(images(1, (224, 224))), expected)


def test_an_earlier_layer_is_that_block_after_the_final_norm() -> None:
    encoder = load_encoder("random:vit-32x3-h2-p8", image_size=SQUARE, layer=("2",))
    network = vit_of(encoder)
    x = preprocess(images(), SQUARE, encoder.mean, encoder.std, encoder.interpolation)
    tokens = network._pos_embed(network.patch_embed(x))
    for block in network.blocks[:2]:
        tokens = block(tokens)
    torch.testing.assert_close(encoder(images()).flatten(1, 2), network.norm(tokens))
    assert encoder.facts["layer"] == 2


def test_a_layer_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="layers 1 to 3"):
        load_encoder("random:vit-32x3-h2-p8", image_size=SQUARE, layer=("4",))
    with pytest.raises(UserError, match="--layer has no meaning for encoder pixels"):
        load_encoder("pixels", image_size=SQUARE, layer=("1",))


def test_pixels_are_raw_patches_in_patch_order() -> None:
    encoder = load_encoder("pixels:8", image_size=SQUARE)
    x = images(1)
    patch = x[0, 8:16, 16:24].reshape(-1).float() / 127.5 - 1
    torch.testing.assert_close(encoder(x)[0, 1, 2], patch)
    assert sum(p.numel() for p in encoder.network.parameters()) == 0


@pytest.mark.parametrize("source", ["pixels:4", "random:vit-32x1-h2-p4"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_controls_follow_the_size_and_the_channels_of_the_images(source: str, channels: int) -> None:
    encoder = load_encoder(source, image_size=(16, 24), channels=channels)
    tokens = encoder(images(2, (16, 24), channels))
    assert tokens.shape == (2, 4, 6, encoder.width) and encoder.grid == (4, 6) and encoder.size == (16, 24)
    assert len(encoder.mean) == channels


def test_images_of_channels_that_a_network_cannot_take_are_refused_at_once() -> None:
    with pytest.raises(UserError, match="1 channel and this network takes 3"):
        load_encoder("random:vit_tiny_patch16_224", image_size=SQUARE, channels=1)


def test_pixels_that_do_not_divide_the_image_say_so() -> None:
    with pytest.raises(UserError, match="32×36"):
        load_encoder("pixels:8", image_size=(32, 36))
    with pytest.raises(UserError, match="pixels:N"):
        load_encoder("pixels:big", image_size=SQUARE)


def test_a_random_encoder_follows_its_seed() -> None:
    one, same, other = (load_encoder("random:vit-32x1-h2-p8", image_size=SQUARE, seed=s)(images()) for s in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_a_timm_encoder_needs_its_weights_and_records_their_hash(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs a weights file"):
        load_encoder("timm:vit_tiny_patch16_224", image_size=SQUARE)
    network = timm.create_model("vit_tiny_patch16_224", pretrained=False, num_classes=7).eval()
    path = tmp_path / "model.safetensors"
    save_file(network.state_dict(), path)
    encoder = load_encoder("timm:vit_tiny_patch16_224", image_size=SQUARE, weights=path)
    x = preprocess(images(), encoder.size, encoder.mean, encoder.std, encoder.interpolation)
    with torch.no_grad():
        expected = network.forward_features(x)[:, 1:]
    torch.testing.assert_close(encoder(images()).flatten(1, 2), expected)
    assert encoder.facts["weights_hash"] == file_hash(path) and encoder.facts["timm"] == "vit_tiny_patch16_224"


def test_a_name_that_timm_does_not_know_is_asked_about(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='did you mean "vit_tiny_patch16_224'):
        load_encoder("random:vit_tny_patch16_224", image_size=SQUARE)
    with pytest.raises(UserError, match="no transformer blocks"):
        load_encoder("random:resnet18", image_size=SQUARE)


class Pretrained:
    """What stands for a pretrain artefact: its files in a folder."""

    stage, short = "pretrain", "abc123"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def read_json(self, name: str, kind: type = object) -> object:
        return json.loads((self.folder / name).read_text())

    def weights(self) -> Path:
        return self.folder / "weights.safetensors"


@pytest.mark.parametrize(("size", "channels", "said"), [((32, 32), 3, 32), ((16, 24), 1, [16, 24])])
def test_a_pretrain_artefact_brings_its_own_size_and_statistics(
    size: tuple[int, int], channels: int, said: object, tmp_path: Path
) -> None:
    config = vit_config(size, 8, 32, 2, 2, channels)
    vit = build_vit(config).eval()
    save_file(vit.state_dict(), tmp_path / "weights.safetensors")
    mean, std = (0.2,) * channels, (0.3,) * channels
    facts = {"network": config, "objective": "mae", "size": said, "mean": mean, "std": std, "interpolation": "bicubic"}
    (tmp_path / "encoder.json").write_text(json.dumps(facts))
    artefact = Pretrained(tmp_path)
    encoder = load_encoder(artefact, image_size=(50, 50), channels=channels)  # type: ignore[arg-type]
    x = images(2, (50, 50), channels)
    with torch.no_grad():
        expected = vit.forward_features(preprocess(x, size, mean, std, "bicubic"))
    torch.testing.assert_close(encoder(x).flatten(1, 2), expected)
    assert encoder.grid == (size[0] // 8, size[1] // 8)


def test_a_family_of_another_package_gives_its_encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict[str, object] = {}

    def family(name: str, **options: object) -> Encoder:
        asked.update(options, name=name)
        return Encoder(torch.nn.Flatten(2), (4, 4), 4, 16, (3, 1), *IMAGENET)

    entry = EntryPoint("other", "other_encoders:load", names.GROUP)
    monkeypatch.setattr(EntryPoint, "load", lambda _: family)
    monkeypatch.setattr(names, "families", lambda: {"other": entry})
    (tmp_path / "weights").write_bytes(b"anything")
    encoder = load_encoder("other:clip", image_size=SQUARE, weights=tmp_path / "weights", seed=3)
    assert asked["name"] == "clip" and asked["image_size"] == SQUARE and asked["seed"] == 3 and asked["channels"] == 3
    assert encoder.facts["kind"] == "other" and encoder.facts["weights_hash"] == file_hash(tmp_path / "weights")
    assert encoder(images()).shape == (2, 3, 1, 16)
    with pytest.raises(UserError, match="--layer"):
        load_encoder("other:clip", image_size=SQUARE, layer=("1",))


def test_a_family_that_gives_something_else_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda _: lambda name, **_: "no encoder")
    monkeypatch.setattr(names, "families", lambda: {"other": EntryPoint("other", "a:b", names.GROUP)})
    with pytest.raises(UserError, match="gave no Encoder"):
        load.load_encoder("other:clip", image_size=SQUARE)
