"""Five ways to bring a ViT, each one command, with weights as timm and transformers write them; and what is refused."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from embprobe.encoders import own
from embprobe.encoders.load import Given, load_encoder
from embprobe.encoders.names import weights_in
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.nn.recognise import shapes_of
from embprobe.options import build
from embprobe.pixels import IMAGENET, preprocess
from embprobe.stages import INGEST
from embprobe.stages.extract import Extract
from embprobe.stages.pretrain import Pretrain
from embprobe.store import Artefact, Store
from tests.conftest import Shell, Zoo

SIDE = 32
HALF = ((0.5,) * 3, (0.5,) * 3)


def images() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, SIDE, SIDE, 3), generator=generator).to(torch.uint8)


def plain(seed: int = 0, **more: object) -> VisionTransformer:
    torch.manual_seed(seed)
    sizes = {"img_size": SIDE, "patch_size": 8, "embed_dim": 48, "depth": 3, "num_heads": 4, "num_classes": 0}
    network = VisionTransformer(**{**sizes, "global_pool": "avg", "class_token": False, "fc_norm": False, **more})
    for parameter in network.parameters():  # norms and scales as drawn would hide that they are not loaded
        nn.init.normal_(parameter, std=0.1)
    return network.eval()


def seen(network: nn.Module, statistics: tuple[tuple[float, ...], ...] = IMAGENET) -> Tensor:
    with torch.no_grad():
        tokens = network.forward_features(preprocess(images(), (SIDE, SIDE), *statistics, "bicubic"))
    return tokens[:, getattr(network, "num_prefix_tokens", 0) :]


def saved(network: nn.Module, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(network.state_dict(), path)
    return path


@dataclass(frozen=True)
class Way:
    """The options of one command, and the tokens (N,L,D) that it must give."""

    options: list[str]
    expected: Tensor
    called: str


def by_spec(folder: Path) -> Way:
    network = plain()
    path = saved(network, folder / "mine.safetensors")
    return Way(["--encoder", "vit-48x3-h4-p8", "--weights", str(path)], seen(network), "mine")


def by_file(folder: Path) -> Way:
    network = plain(1, class_token=True, reg_tokens=2, init_values=1e-5, global_pool="token", mlp_ratio=2)
    folder.mkdir(parents=True, exist_ok=True)
    torch.save({"model": {f"module.{k}": v for k, v in network.state_dict().items()}}, folder / "mine.pth")
    statistics = ["--mean", "0.5,0.5,0.5", "--std", "0.5,0.5,0.5"]
    return Way(["--encoder", str(folder / "mine.pth"), "--heads", "4", *statistics], seen(network, HALF), "mine")


def by_timm_name(folder: Path) -> Way:
    torch.manual_seed(2)
    network = timm.create_model("vit_tiny_patch16_224", img_size=SIDE, num_classes=0).eval()
    path = saved(network, folder / "tiny.safetensors")
    return Way(
        ["--encoder", f"timm:vit_tiny_patch16_224,img_size={SIDE}", "--weights", str(path)], seen(network, HALF), ""
    )


def by_timm_folder(folder: Path) -> Way:
    torch.manual_seed(3)
    arguments = {"img_size": SIDE, "num_classes": 0}
    network = timm.create_model("vit_tiny_patch16_224", **arguments).eval()
    timm.models.save_for_hf(network, folder, model_args=arguments, safe_serialization=True)
    return Way(["--encoder", str(folder)], seen(network, HALF), folder.name)


def by_transformers_folder(folder: Path) -> Way:
    model = transformers_model("dinov2")
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": HALF[0], "image_std": HALF[1]}))
    with torch.no_grad():
        tokens = model(preprocess(images(), (SIDE, SIDE), *HALF, "bicubic")).last_hidden_state[:, 1:]
    return Way(["--encoder", str(folder)], tokens, folder.name)


def transformers_model(kind: str) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    sizes = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4, "image_size": SIDE, "patch_size": 8}
    cls, options = {
        "vit": ("ViT", {}),
        "vit_mae": ("ViTMAE", {}),
        "ijepa": ("IJepa", {}),
        "dinov2": ("Dinov2", {}),
        "dinov2_with_registers": ("Dinov2WithRegisters", {}),
        "dinov3_vit": ("DINOv3ViT", {"num_register_tokens": 2}),
        "siglip_vision_model": ("SiglipVision", {}),
    }[kind]
    config = getattr(transformers, f"{cls}Config")(**sizes, intermediate_size=96, **options)
    return getattr(transformers, f"{cls}Model")(config).eval()


WAYS = (by_spec, by_file, by_timm_name, by_timm_folder, by_transformers_folder)


@pytest.mark.parametrize("way", WAYS)
def test_one_command_brings_a_vit(
    way: Callable[[Path], Way], zoo: Zoo, place: Store, tmp_path: Path, shell: Shell
) -> None:
    brought = way(tmp_path / "my.net")
    told = shell("extract", "--images", zoo["images"].path, *brought.options, "--store", place.root)
    assert told.code == 0, told.err
    made = place[told.out.strip()]
    assert made.complete and made.metrics["encoder"].get("called", "") == brought.called
    asked = dict(zip(brought.options[::2], brought.options[1::2], strict=True))
    stage = build(Extract, {k[2:]: v for k, v in asked.items()} | {"images": zoo["images"]}, place, make, ingest=INGEST)
    assert isinstance(stage, Extract)
    word = own.sized_name(stage.weights, 4) if stage.encoder == "vit" and stage.weights else str(stage.encoder)
    given = Given(stage.mean, stage.std, None if word.startswith("vit-") else stage.heads, stage.input_size)
    encoder = load_encoder(word, image_size=(SIDE, SIDE), weights=stage.weights, given=given)
    torch.testing.assert_close(encoder(images()).flatten(1, 2), brought.expected, rtol=0, atol=2e-5)
    stored = made.array("embeddings").floats(slice(0, None))
    again = encoder(torch.from_numpy(zoo["images"].array("images").read())).numpy()
    np.testing.assert_allclose(stored, again, atol=2e-3 * np.abs(again).max())


def test_a_file_alone_and_its_sizes_by_name_are_one_question(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    path = saved(plain(), tmp_path / "mine.safetensors")
    named = Extract(images=zoo["images"], encoder="vit-48x3-h4-p8", weights=path)
    alone = Extract(images=zoo["images"], encoder=str(path), heads=4)
    (elsewhere := tmp_path / "other.st").write_bytes(path.read_bytes())
    moved = Extract(images=zoo["images"], encoder=str(elsewhere), heads=4)
    prints = {place.open(stage.prepare(make, download=False)).fingerprint for stage in (named, alone, moved)}
    assert len(prints) == 1


def test_a_folder_counts_by_its_weights_and_what_stands_beside_them(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    def fingerprint() -> str:
        return place.open(Extract(images=zoo["images"], encoder=str(tmp_path / "net"))).fingerprint

    by_transformers_folder(tmp_path / "net")
    first = fingerprint()
    (tmp_path / "net" / "README.md").write_text("of no matter")
    assert fingerprint() == first
    (tmp_path / "net" / "preprocessor_config.json").write_text("{}")
    assert fingerprint() != first


@pytest.mark.parametrize(
    "kind", ["vit", "vit_mae", "ijepa", "dinov2", "dinov2_with_registers", "dinov3_vit", "siglip_vision_model"]
)
def test_folders_of_transformers_give_the_patch_tokens_of_every_layer(kind: str, tmp_path: Path) -> None:
    model = transformers_model(kind)
    if kind == "vit_mae":
        model.config.mask_ratio = 0.0
    model.save_pretrained(tmp_path / kind)
    found = load_encoder("folder", image_size=(SIDE, SIDE), weights=weights_in(tmp_path / kind))
    tokens = found(images()).flatten(1, 2)
    assert tokens.shape == (3, 16, 48)
    x = preprocess(images(), (SIDE, SIDE), *IMAGENET, "bicubic")
    with torch.no_grad():
        output = model(x)
    expected = output.last_hidden_state[:, -16:]
    if kind == "vit_mae":  # its own class shuffles patches even where it drops none
        expected = expected.gather(1, output.ids_restore[..., None].expand_as(expected))
    torch.testing.assert_close(tokens, expected, rtol=0, atol=2e-5)
    last = load_encoder("folder", image_size=(SIDE, SIDE), weights=weights_in(tmp_path / kind), layer=("3",))
    torch.testing.assert_close(last(images()).flatten(1, 2), tokens, rtol=0, atol=2e-5)
    below = load_encoder("folder", image_size=(SIDE, SIDE), weights=weights_in(tmp_path / kind), layer=("2",))
    assert not torch.allclose(below(images()).flatten(1, 2), tokens, atol=1e-3)


# ---- layers


def test_several_layers_stand_side_by_side_and_last_ones_are_averaged(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    path = saved(plain(), tmp_path / "mine.safetensors")
    options = {"image_size": (SIDE, SIDE), "weights": path}
    each = [load_encoder("vit-48x3-h4-p8", layer=(str(block),), **options)(images()) for block in (1, 2, 3)]
    several = load_encoder("vit-48x3-h4-p8", layer=("1", "3"), **options)
    torch.testing.assert_close(several(images()), torch.cat([each[0], each[2]], -1))
    assert several.width == 96
    mean = load_encoder("vit-48x3-h4-p8", layer=("last2",), **options)
    torch.testing.assert_close(mean(images()), (each[1] + each[2]) / 2)
    stage = Extract(images=zoo["images"], encoder=str(path), heads=4, layer=[1, 3], device="cpu")
    made = make(stage, place)
    assert made.array("embeddings").shape[-1] == 96 and made.metrics["encoder"]["layer"] == [1, 3]
    words = build(Extract, {"images": zoo["images"], "encoder": str(path), "heads": 4, "layer": "1,3"}, place, make)
    assert place.open(words.prepare(make, download=False)).fingerprint == made.fingerprint


def test_one_layer_is_the_question_that_it_was_before(zoo: Zoo) -> None:
    assert Extract(images=zoo["images"], encoder="random:vit-16x1-h2-p4", layer=1).spec()["layer"] == 1
    assert Extract(images=zoo["images"], encoder="random:vit-16x1-h2-p4").spec()["layer"] is None


@pytest.mark.parametrize("layer", ["0", "9" * 5000, "last0", "-1", "last", "2,1", "1,1", "1,last2", "x"])
def test_words_that_are_no_layers_are_refused(layer: str, zoo: Zoo) -> None:
    with pytest.raises(UserError, match="--layer is"):
        Extract(images=zoo["images"], encoder="random:vit-16x1-h2-p4", layer=tuple(layer.split(",")))


@pytest.mark.parametrize("layer", [("4",), ("1", "4"), ("last4",)])
def test_layers_that_a_network_does_not_have_are_refused(layer: tuple[str, ...], tmp_path: Path) -> None:
    path = saved(plain(), tmp_path / "mine.safetensors")
    with pytest.raises(UserError, match="this encoder has layers 1 to 3"):
        load_encoder("vit-48x3-h4-p8", image_size=(SIDE, SIDE), weights=path, layer=layer)


# ---- what is refused


def refused(zoo: Zoo, **options: object) -> str:
    with pytest.raises(UserError) as error:
        stage = Extract(images=zoo["images"], **options).prepare(make, download=False)
        load_encoder(str(stage.encoder), image_size=(SIDE, SIDE), weights=stage.weights)
    return str(error.value)


def test_a_misfit_is_told_in_words_of_the_request(zoo: Zoo, tmp_path: Path) -> None:
    path = saved(plain(), tmp_path / "mine.safetensors")
    wrong = refused(zoo, encoder="vit-32x2-h4-p8", weights=path)
    assert "its width is 48, not 32, its depth is 3, not 2" in wrong
    assert "by --heads N" in refused(zoo, encoder=str(path))
    assert "5 heads do not divide a width of 48" in refused(zoo, encoder=str(path), heads=5)
    assert "leave --weights out" in refused(zoo, encoder=str(path), weights=path)
    assert "needs its file; give --weights FILE" in refused(zoo, encoder="vit-48x3-h4-p8")
    assert "write --encoder vit-48x3-h4-p8" in refused(zoo, encoder="random:vit-48x3-h4-p8", weights=path)
    assert "there is no encoder at" in refused(zoo, encoder=str(tmp_path / "gone.pth"))
    assert "--layer has no meaning for encoder pixels" in refused(zoo, encoder="pixels", layer=3)
    misfit = refused(zoo, encoder="mae", weights=path)
    assert "its width is 48, not 1280" in misfit and "invalid for input" not in misfit


def test_a_folder_that_is_no_encoder_is_told_so(zoo: Zoo, tmp_path: Path) -> None:
    assert "it has no config.json" in refused(zoo, encoder=str(tmp_path))
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert "has no model.safetensors" in refused(zoo, encoder=str(tmp_path))
    saved(plain(), tmp_path / "model.safetensors")
    assert "tells of a bert" in refused(zoo, encoder=str(tmp_path))
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert "can't be read as JSON" in refused(zoo, encoder=str(tmp_path))


def test_weights_that_a_folder_lacks_are_not_drawn(zoo: Zoo, tmp_path: Path) -> None:
    model = transformers_model("dinov2")
    model.save_pretrained(tmp_path)
    whole = {k: v.clone() for k, v in model.state_dict().items() if "layer.1." not in k}
    save_file(whole, tmp_path / "model.safetensors", {"format": "pt"})
    assert "is missing or of another shape" in refused(zoo, encoder=str(tmp_path))


def test_a_file_of_transformers_alone_is_sent_to_its_folder(zoo: Zoo, tmp_path: Path) -> None:
    transformers_model("vit").save_pretrained(tmp_path)
    assert "--encoder FOLDER" in refused(zoo, encoder=str(tmp_path / "model.safetensors"), heads=4)


@pytest.mark.parametrize("name", ["ijepa", "pixels"])
def test_a_name_that_is_built_in_too_is_refused_until_it_is_said_which(name: str, zoo: Zoo, place: Store) -> None:
    made = make(Pretrain(images=zoo["images"], objective="mae", width=16, depth=1, heads=2, patch=8, steps=0), place)
    place.name(name, made)
    with pytest.raises(UserError, match=f"--encoder {name} is built in, and also the name of pretrain {made.short}"):
        build(Extract, {"images": zoo["images"], "encoder": name}, place, make)
    for word in (made.short, str(made.path)):
        stage = build(Extract, {"images": zoo["images"], "encoder": word}, place, make)
        assert isinstance(stage, Extract) and isinstance(stage.encoder, Artefact) and stage.encoder == made
    other = build(Extract, {"images": zoo["images"], "encoder": "pixels:8"}, place, make)
    assert isinstance(other, Extract) and other.encoder == "pixels:8"


def test_sizes_are_read_from_tensors(tmp_path: Path) -> None:
    network = plain(class_token=True, global_pool="token", qk_norm=True, qkv_bias=False, no_embed_class=True)
    config = own.config_of(shapes_of(network.state_dict()), 4, SIDE)
    assert config["qk_norm"] and not config["qkv_bias"] and config["no_embed_class"] and config["class_token"]
    path = saved(network, tmp_path / "mine.safetensors")
    assert own.sized_name(path, None) == "vit-48x3-h4-p8"  # the norm of queries is a head wide
    found = load_encoder("vit-48x3-h4-p8", image_size=(SIDE, SIDE), weights=path)
    torch.testing.assert_close(found(images()).flatten(1, 2), seen(network), rtol=0, atol=2e-5)
