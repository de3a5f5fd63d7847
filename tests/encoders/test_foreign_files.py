"""Files in the released formats of I-JEPA, MAE and V-JEPA: right ones give the networks' own tokens, wrong ones are named."""

import gzip
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save, save_file
from timm.models import generate_default_cfgs, register_model
from timm.models.vision_transformer import VisionTransformer, _create_vision_transformer
from torch import Tensor, nn

from embprobe.encoders import names
from embprobe.encoders.load import Given, load_encoder
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.nn.decoder import PixelDecoder
from embprobe.nn.dit import DiT
from embprobe.nn.unet import UNet
from embprobe.nn.vae import VAE
from embprobe.nn.weights import load_into
from embprobe.pixels import IMAGENET, preprocess
from embprobe.stages.extract import Extract
from embprobe.stages.pretrain import Pretrain
from embprobe.store import Store
from tests.conftest import Zoo
from tests.encoders import official
from tests.encoders.official import SIDE, encoder_of, ijepa_file, mae_file, prefixed, vjepa_file

MINI = {"img_size": SIDE, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
OFFICIAL = {"input_size": (3, SIDE, SIDE), "mean": IMAGENET[0], "std": IMAGENET[1], "interpolation": "bicubic"}
default_cfgs = generate_default_cfgs(
    {
        "vit_mini.mae": OFFICIAL,
        "vit_mini.sup": OFFICIAL | {"mean": (0.5,) * 3, "std": (0.5,) * 3},
        "vit_mini_gap.in1k_ijepa": OFFICIAL,
    }
)


@register_model
def vit_mini(pretrained: bool = False, **options: object) -> VisionTransformer:
    return _create_vision_transformer("vit_mini", pretrained, **{**MINI, **options})


@register_model
def vit_mini_gap(pretrained: bool = False, **options: object) -> VisionTransformer:
    headless = {"class_token": False, "global_pool": "avg", "fc_norm": False}
    return _create_vision_transformer("vit_mini_gap", pretrained, **{**MINI, **headless, **options})


@pytest.fixture(autouse=True)
def small_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mae` and `ijepa` stand for networks of the official kind that are small."""
    for short, name in (("mae", "vit_mini.mae"), ("ijepa", "vit_mini_gap.in1k_ijepa")):
        monkeypatch.setitem(names.SHORT_NAMES, short, replace(names.SHORT_NAMES[short], timm=name))


def images(side: int = SIDE) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (2, side, side, 3), generator=generator).to(torch.uint8)


def expected(network: nn.Module, side: int = SIDE, statistics: tuple[tuple[float, ...], ...] = IMAGENET) -> Tensor:
    with torch.no_grad():
        return network(preprocess(images(side), (side, side), *statistics, "bicubic"))


def saved(content: object, folder: Path, name: str = "w.pth") -> Path:
    torch.save(content, folder / name)
    return folder / name


def tokens(source: str, weights: Path, given: Given | None = None, side: int = SIDE) -> Tensor:
    return load_encoder(source, image_size=(side, side), weights=weights, given=given)(images(side)).flatten(1, 2)


# ---- right files


def test_ijepas_released_format_gives_the_target_encoders_tokens(tmp_path: Path) -> None:
    target, context = encoder_of("ijepa", 1), encoder_of("ijepa", 2)
    found = tokens("ijepa", saved(ijepa_file(target, context), tmp_path, "IN1K-vit.pth.tar"))
    torch.testing.assert_close(found, expected(target), rtol=0, atol=1e-5)
    assert not torch.allclose(found, expected(context), atol=0.1)


@pytest.mark.parametrize("decoder", [True, False])
def test_maes_released_format_gives_the_encoders_tokens(decoder: bool, tmp_path: Path) -> None:
    encoder = encoder_of("mae")
    content = mae_file(encoder) if decoder else {"model": prefixed(encoder, "")}
    torch.testing.assert_close(tokens("mae", saved(content, tmp_path)), expected(encoder), rtol=0, atol=1e-5)


def test_a_released_file_becomes_a_pretrain_artefact_as_it_is(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    target = encoder_of("ijepa", 1, side=16)
    path = saved(ijepa_file(target, encoder_of("ijepa", 2, side=16)), tmp_path)
    sizes = {"width": 32, "depth": 2, "heads": 2, "patch": 8, "steps": 0, "device": "cpu"}
    made = make(Pretrain(images=zoo["images"], objective="ijepa", weights=path, **sizes), place)
    found = load_encoder(made, image_size=(16, 16))(images(16)).flatten(1, 2)
    torch.testing.assert_close(found, expected(target, 16), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match="I-JEPA's file"):
        make(Pretrain(images=zoo["images"], objective="mae", weights=path, **sizes), place)


def test_a_context_encoder_alone_is_taken_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    context = encoder_of("ijepa", 2)
    path = saved({"encoder": prefixed(context, "module."), "epoch": 3}, tmp_path)
    encoder = load_encoder("ijepa", image_size=(SIDE, SIDE), weights=path)
    torch.testing.assert_close(encoder(images()).flatten(1, 2), expected(context), rtol=0, atol=1e-5)
    assert "w.pth holds no target_encoder: the context encoder is taken" in capsys.readouterr().err
    assert "context encoder" in encoder.facts["notices"][0]


def test_a_left_over_head_is_said_of_timms_networks(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    encoder = encoder_of("mae")
    path = saved({"model": prefixed(encoder, "") | {"head.weight": torch.randn(10, 32)}}, tmp_path)
    torch.testing.assert_close(
        tokens("timm:vit_mini.sup", path), expected(encoder, statistics=((0.5,) * 3,) * 2), rtol=0, atol=1e-5
    )
    assert "its head of 10 classes is left out" in capsys.readouterr().err


def test_the_content_decides_how_a_file_is_read_not_its_name(tmp_path: Path) -> None:
    encoder = encoder_of("mae")
    save_file(prefixed(encoder, ""), tmp_path / "w.pth")
    torch.testing.assert_close(tokens("mae", tmp_path / "w.pth"), expected(encoder), rtol=0, atol=1e-5)
    with pytest.raises(UserError, match=r"it is a torch file; rename it to \.pth"):
        tokens("mae", saved(prefixed(encoder, ""), tmp_path, "w.safetensors"))


# ---- what no file tells


def test_heads_statistics_and_size_that_are_given_are_those_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(official, "HEADS", 4)
    encoder = encoder_of("mae", side=64)
    path, given = saved(mae_file(encoder), tmp_path), Given((0.2, 0.3, 0.4), (0.3, 0.2, 0.1), 4, 64)
    wanted = expected(encoder, 64, ((0.2, 0.3, 0.4), (0.3, 0.2, 0.1)))
    torch.testing.assert_close(tokens("timm:vit_mini", path, given, 64), wanted, rtol=0, atol=1e-5)
    other = tokens("timm:vit_mini", path, replace(given, heads=2), 64)
    assert not torch.allclose(other, wanted, atol=0.1)
    encoder_used = load_encoder("timm:vit_mini", image_size=(64, 64), weights=path, given=given)
    assert encoder_used.facts["heads"] == 4 and encoder_used.facts["given"]["input_size"] == 64


def test_sizes_that_a_network_cannot_have_are_named(tmp_path: Path) -> None:
    path = saved(mae_file(encoder_of("mae")), tmp_path)
    with pytest.raises(UserError, match="with num_heads 5"):
        tokens("timm:vit_mini.mae", path, Given(heads=5))


def test_a_name_without_a_tag_says_by_what_images_are_normalised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(mae_file(encoder_of("mae")), tmp_path)
    tokens("timm:vit_mini", path)
    assert "timm:vit_mini names no checkpoint: images are normalised by timm's" in capsys.readouterr().err
    tokens("timm:vit_mini", path, Given(*IMAGENET))
    tokens("mae", path)
    assert capsys.readouterr().err == ""


def test_what_is_given_is_a_question_of_its_own_and_nothing_given_is_none(zoo: Zoo, tmp_path: Path) -> None:
    path = saved(mae_file(encoder_of("mae")), tmp_path)
    plain = Extract(images=zoo["images"], encoder="mae", weights=path)
    assert not {"mean", "std", "heads", "input_size"} & plain.spec().keys()
    asked = [{"mean": IMAGENET[0], "std": IMAGENET[1]}, {"heads": 2}, {"heads": 4}, {"input_size": 32}]
    stages = [plain, *(Extract(images=zoo["images"], encoder="mae", weights=path, **more) for more in asked)]
    assert len({zoo.store.open(stage).fingerprint for stage in stages}) == 5


def test_what_is_given_is_in_the_manifest(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    encoder, path = encoder_of("mae", side=16), tmp_path / "w.pth"
    torch.save(mae_file(encoder), path)
    stage = Extract(images=zoo["images"], encoder="mae", weights=path, input_size=16, mean=(0.1,) * 3, std=(0.2,) * 3)
    facts = make(stage, place).metrics["encoder"]
    assert facts["given"] == {"mean": [0.1] * 3, "std": [0.2] * 3, "input_size": 16}
    assert facts["mean"] == [0.1] * 3 and facts["size"] == [16, 16] and facts["heads"] == 2


@pytest.mark.parametrize(
    ("encoder", "given", "words"),
    [
        ("pixels", {"heads": 2}, "--heads has no meaning with encoder pixels"),
        (
            "random:vit-16x1-h2-p4",
            {"mean": (0.5,) * 3, "std": (0.5,) * 3},
            "--mean has no meaning with encoder random",
        ),
        (None, {"input_size": 16}, "--input-size has no meaning with a pretrain artefact"),
        ("mae", {"mean": (0.5,) * 3}, "--mean alone is half a normalisation"),
        ("mae", {"std": (0.5,) * 3}, "--std alone is half a normalisation"),
        ("mae", {"mean": (0.5, 0.5), "std": (0.5,) * 3}, "--mean 0.5,0.5 has 2 numbers"),
        ("mae", {"mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4)}, "is not of pixels in .0, 1.; divide"),
        ("mae", {"mean": (0.5,) * 3, "std": (0.5, 0.0, 0.5)}, "--std 0.5,0,0.5 is not"),
        ("mae", {"heads": 0}, "--heads is 0; it must be at least 1"),
    ],
)
def test_what_has_no_meaning_or_cannot_be_is_refused(
    encoder: str | None, given: dict[str, object], words: str, zoo: Zoo
) -> None:
    with pytest.raises(UserError, match=words):
        Extract(images=zoo["images"], encoder=encoder or zoo["encoder"], **given)  # type: ignore[arg-type]


# ---- wrong files

Writer = Callable[[Path], object]
CASES: list[tuple[str, str, str, Writer]] = []  # the encoder asked for, a name, words that must be said, what writes it


def wrong(encoder: str, name: str, words: str) -> Callable[[Writer], Writer]:
    def keep(write: Writer) -> Writer:
        CASES.append((encoder, name, words, write))
        return write

    return keep


def state(change: Callable[[dict[str, Tensor]], object] | None = None, **sizes: int) -> dict[str, dict[str, Tensor]]:
    """MAE's encoder in its file, changed in place."""
    tensors = prefixed(encoder_of("mae", **sizes), "")
    if change is not None:
        change(tensors)
    return {"model": tensors}


def other(encoder: str, name: str, words: str, content: Callable[[], object]) -> None:
    wrong(encoder, name, words)(lambda path: torch.save(content(), path))


def raw(name: str, words: str, content: bytes) -> None:
    wrong("mae", name, words)(lambda path: path.write_bytes(content))


def named(*tensors: str) -> dict[str, Tensor]:
    return {name: torch.ones(2, 2) for name in tensors}


VIDEO = "V-JEPA, a video encoder: its patches are 2 frames deep"
other("ijepa", "V-JEPA as I-JEPA", VIDEO, lambda: vjepa_file(encoder_of("vjepa"), encoder_of("vjepa", 1)))
other("mae", "V-JEPA as MAE", VIDEO, lambda: vjepa_file(encoder_of("vjepa"), encoder_of("vjepa", 1)))
other("mae", "a bare video encoder", "a video encoder", lambda: prefixed(encoder_of("vjepa"), ""))
other(
    "ijepa",
    "MAE as I-JEPA",
    "it is MAE's file, with its decoder; it has a class token, this network has none",
    lambda: mae_file(encoder_of("mae")),
)
other("ijepa", "MAE's encoder as I-JEPA", "it has a class token, this network has none", state)
other("mae", "I-JEPA as MAE", "it is I-JEPA's file; it has no class token, this network has one",
      lambda: ijepa_file(encoder_of("ijepa"), encoder_of("ijepa", 1)))  # fmt: skip
other("ijepa", "a predictor", "the predictor of a JEPA without its encoder",
      lambda: {"predictor": prefixed(official.Predictor(32), "module."), "epoch": 1})  # fmt: skip
other("ijepa", "a bare predictor", "the predictor of a JEPA without its encoder",
      lambda: prefixed(official.Predictor(32), "module."))  # fmt: skip
other(
    "ijepa", "an optimiser", "the state of an optimiser without its network", lambda: {"opt": {"state": {}}, "epoch": 1}
)
other(
    "mae",
    "a bare optimiser",
    "the state of an optimiser",
    lambda: torch.optim.AdamW(encoder_of("mae").parameters()).state_dict(),
)
other("mae", "a fine-tuned MAE", "a fine-tuned classifier, its head of 10 classes is left over",
      lambda: state(lambda s: s.update({"head.weight": torch.ones(10, 32), "head.bias": torch.ones(10)})))  # fmt: skip


def averaged(tensors: dict[str, Tensor]) -> None:
    for end in ("weight", "bias"):
        tensors[f"fc_norm.{end}"] = tensors.pop(f"norm.{end}")
    tensors["head.weight"] = torch.ones(10, 32)


other("mae", "fine-tuned on averages", "it was fine-tuned on averaged tokens", lambda: state(averaged))
other("mae", "smaller patches", "its patches are 4 px, not 8 px", lambda: state(patch=4, side=16))
other("ijepa", "larger patches", "its patches are 16 px, not 8 px",
      lambda: ijepa_file(*(encoder_of("ijepa", s, patch=16, side=64) for s in (0, 1))))  # fmt: skip
RESOLUTION = "it is for 64 px (8×8 patches), not for 32 px (4×4 patches), which `extract --input-size` chooses"
other("mae", "another resolution", RESOLUTION, lambda: state(side=64))
other("ijepa", "another resolution of I-JEPA", RESOLUTION,
      lambda: ijepa_file(*(encoder_of("ijepa", s, side=64) for s in (0, 1))))  # fmt: skip
other("mae", "another width", "its width is 48, not 32", lambda: state(width=48))
other("mae", "more blocks", "its depth is 3, not 2", lambda: state(depth=3))
other("mae", "fewer blocks", "its depth is 1, not 2", lambda: state(depth=1))
other(
    "mae",
    "a tensor missing",
    "blocks.1.mlp.fc2.weight is missing",
    lambda: state(lambda s: s.pop("blocks.1.mlp.fc2.weight")),
)
other(
    "mae",
    "a tensor too many",
    "adapter.weight is not of it",
    lambda: state(lambda s: s.update(named("adapter.weight"))),
)
other("mae", "norms without bias", "blocks.0.norm1.bias is missing, its norms are others",
      lambda: state(lambda s: [s.pop(k) for k in list(s) if "norm" in k and k.endswith("bias")]))  # fmt: skip
other(
    "mae", "other heads", "it tells of 4 heads, not 2; give --heads 4", lambda: state() | {"config": {"num_heads": 4}}
)
wrong("mae", "other heads in safetensors", "it tells of 4 heads, not 2")(
    lambda path: save_file(state()["model"], path, {"num_heads": "4"})
)
other("mae", "NaN", "norm.bias holds NaN or infinity", lambda: state(lambda s: s["norm.bias"].fill_(float("nan"))))
other("mae", "infinity", "blocks.1.mlp.fc1.weight holds NaN or infinity",
      lambda: state(lambda s: s["blocks.1.mlp.fc1.weight"][3].fill_(float("inf"))))  # fmt: skip
other("mae", "beyond f32", "norm.weight holds NaN or infinity",
      lambda: state(lambda s: s.update({"norm.weight": torch.full((32,), 1e200, dtype=torch.float64)})))  # fmt: skip
other(
    "mae",
    "zeros",
    "an empty shell: all its matrices are zero",
    lambda: state(lambda s: [t.zero_() for t in s.values()]),
)
other("mae", "whole numbers", "is quantised: patch_embed.proj.weight is of int8",
      lambda: state(lambda s: s.update({k: t.to(torch.int8) for k, t in s.items() if t.ndim > 1 and "weight" in k})))  # fmt: skip
other("mae", "a ResNet", "it is a ResNet", lambda: timm.create_model("resnet18").state_dict())
other("mae", "a SqueezeNet", "it is a SqueezeNet", lambda: named("features.0.weight", "features.3.squeeze.weight"))
other("mae", "a VGG", "it is a VGG or AlexNet", lambda: named("features.0.weight", "classifier.6.weight"))
other("mae", "heads of LPIPS", "it is the heads of LPIPS", lambda: named("lin0.model.1.weight", "lin1.model.1.weight"))
other(
    "ijepa", "a VAE of `compress`", "a VAE that `compress` made", lambda: VAE((4, 4), 8, 3, "linear", 0.1).state_dict()
)
other(
    "ijepa",
    "a decoder",
    "a decoder that `decode` made",
    lambda: PixelDecoder(3, (4, 4), (16, 16), width=8).state_dict(),
)
other("ijepa", "a UNet of `diffuse`", "a denoiser that `diffuse` made", lambda: UNet(3, width=8).state_dict())
other("ijepa", "a DiT of `diffuse`", "a denoiser that `diffuse` made",
      lambda: DiT(3, (4, 4), width=32, depth=1, heads=2).state_dict())  # fmt: skip
other("mae", "a latent diffusion model", "a latent diffusion model",
      lambda: {"state_dict": named("model.diffusion_model.out.2.weight", "first_stage_model.quant_conv.weight")})  # fmt: skip
other("mae", "a language model", "a language model", lambda: named("model.embed_tokens.weight", "lm_head.weight"))
other("mae", "CLIP", "CLIP with its text tower", lambda: named("text_model.final_layer_norm.weight", "logit_scale"))
other("mae", "a ViT of transformers", "a ViT in the names of transformers",
      lambda: named("vit.embeddings.patch_embeddings.projection.weight"))  # fmt: skip
other("mae", "DINOv2", "it is a DINOv2 file; ",
      lambda: state(lambda s: s.update({"blocks.0.ls1.gamma": torch.ones(32), "mask_token": torch.ones(1, 32)})))  # fmt: skip
other("mae", "a list", "it is a list", lambda: [torch.ones(3)])
other("mae", "a tensor", "one tensor (3, 4) without a name", lambda: torch.ones(3, 4))
other("mae", "an empty dict", "an empty dict", dict)
other("mae", "numbers of a run", "a dict of epoch, loss", lambda: {"epoch": 3, "loss": 0.5})
other(
    "mae",
    "a pickled module",
    "holds more than tensors (code, perhaps: torch.nn.modules.linear.Linear)",
    lambda: nn.Linear(2, 2),
)
raw("nothing", "it is empty (0 bytes)", b"")
raw("text", "it is a text file", "Zugriff verweigert – bitte später\n".encode())
raw("a web page", "it is a web page in the place of the weights", b"\n<!DOCTYPE html>\n<html><body>404</body></html>")
raw("a cloud's refusal", "it is a web page", b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>')
raw(
    "a Git LFS pointer",
    "it is a Git LFS pointer",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n",
)
raw("gzip", "it is a gzip archive; unpack it first", gzip.compress(b"weights"))
raw("a picture", "it is a picture", b"\x89PNG\r\n\x1a\n" + bytes(20))


@wrong("mae", "a cut torch file", "a torch file that is cut short")
def _(path: Path) -> None:
    torch.save(state(), path)
    path.write_bytes(path.read_bytes()[:40_000])


@wrong("mae", "a cut old torch file", "it is cut short")
def _(path: Path) -> None:
    torch.save(state(), path, _use_new_zipfile_serialization=False)
    path.write_bytes(path.read_bytes()[:60_000])


@wrong("mae", "a cut safetensors file", "it is cut short")
def _(path: Path) -> None:
    path.write_bytes(save(state()["model"])[:-100])


@wrong("mae", "a safetensors file cut in its header", "a safetensors file that is cut short")
def _(path: Path) -> None:
    path.write_bytes(save(state()["model"])[:400])


@wrong("mae", "a packed torch file", "is packed, or its parts overlap; save its state dict again")
def _(path: Path) -> None:
    torch.save({"model": {"norm.bias": torch.randn(90_000)}}, path)
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name, data in parts.items():
            new.writestr(name, data)
        new.writestr("archive/filling", os.urandom(200_000))


@wrong("mae", "a zip of pictures", "a zip without tensors in it")
def _(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cat.png", b"\x89PNG")


@wrong("mae", "a NumPy archive", "a NumPy archive")
def _(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, a=np.ones(3))


@wrong("mae", "TorchScript", "a TorchScript program")
def _(path: Path) -> None:
    torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)), str(path))


def test_there_are_many_wrong_files() -> None:
    assert len(CASES) >= 25 and len({name for _, name, _, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("encoder", "words", "write"), [pytest.param(e, w, f, id=n) for e, n, w, f in CASES])
def test_a_wrong_file_is_named_in_one_line(encoder: str, words: str, write: Writer, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    write(path)
    with pytest.raises(UserError) as caught:
        load_encoder(encoder, image_size=(SIDE, SIDE), weights=path)
    said = str(caught.value)
    assert words in said and str(path) in said and "\n" not in said and len(said) < 600
    assert re.search("; (give|fetch|unpack|save)|rename", said)


@pytest.mark.parametrize("missing", ["fc_norm", "patch"])
def test_a_beit_file_without_the_norm_of_its_tokens_is_named(missing: str, tmp_path: Path) -> None:
    options = {"num_classes": 0, "img_size": 32, "depth": 1}
    network = timm.create_model("beit_base_patch16_224", pretrained=False, **options)
    tensors = {k: v for k, v in network.state_dict().items() if missing != "fc_norm" or "fc_norm" not in k}
    if missing == "patch":
        tensors["patch_embed.proj.weight"] = torch.ones(768, 3, 8, 8)
    path = saved(tensors, tmp_path)
    words = {"fc_norm": "fc_norm.weight is missing, the norm of every token", "patch": "its patches are 8 px, not 16"}
    with pytest.raises(UserError, match=f"it is a BEiT file; {words[missing]}"):
        load_into(network, path)


def test_a_file_in_other_names_is_renamed_and_still_never_interpolated(tmp_path: Path) -> None:
    options = {"num_classes": 0, "depth": 1}
    one = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, img_size=56, **options)
    own = dict(one.state_dict())
    official_names = {k: v for k, v in own.items() if k not in ("reg_token", "pos_embed")}
    first = torch.zeros(1, 1, own["pos_embed"].shape[-1])
    official_names |= {"register_tokens": own["reg_token"], "pos_embed": torch.cat([first, own["pos_embed"]], 1)}
    path = saved(official_names | {"mask_token": torch.zeros(1, 384)}, tmp_path)
    other_network = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, img_size=56, **options)
    load_into(other_network, path)
    assert all(torch.equal(t, own[k]) for k, t in other_network.state_dict().items())
    larger = timm.create_model("vit_small_patch14_reg4_dinov2", pretrained=False, img_size=112, **options)
    with pytest.raises(UserError, match=r"it is for 56 px \(4×4 patches\), not for 112 px"):
        load_into(larger, path)


# ---- memory

UNUSED = 150_000_000  # numbers, 600 MB
LOAD = """
import sys
from pathlib import Path
from embprobe.nn.weights import load_into
from tests.encoders.official import encoder_of
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
network = encoder_of("ijepa")
before = peak()
for path in sys.argv[1:]:
    load_into(network, Path(path))
    print(peak() - before)
"""


def sparse_safetensors(tensors: dict[str, Tensor], path: Path) -> None:
    """A file that ends in 600 MB of a decoder, which take no room on the disk."""
    whole = save(tensors)
    length = int.from_bytes(whole[:8], "little")
    header, data = json.loads(whole[8 : 8 + length]), whole[8 + length :]
    offsets = [len(data), len(data) + 4 * UNUSED]
    header["decoder.weight"] = {"dtype": "F32", "shape": [UNUSED], "data_offsets": offsets}
    words = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(words).to_bytes(8, "little") + words + data)
        file.truncate(8 + len(words) + offsets[1])


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_what_a_file_holds_beside_the_encoder_never_enters_memory(tmp_path: Path) -> None:
    paths = [tmp_path / "w.safetensors", tmp_path / "w.pth"]
    sparse_safetensors(prefixed(encoder_of("ijepa"), ""), paths[0])
    file = ijepa_file(encoder_of("ijepa"), encoder_of("ijepa", 1))
    torch.save(file | {"opt": {"state": {0: {"exp_avg": torch.zeros(UNUSED)}}}}, paths[1])
    done = subprocess.run(
        [sys.executable, "-c", LOAD, *paths],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        check=False,
    )
    for path in paths:
        path.unlink()
    assert done.returncode == 0, done.stderr
    assert max(map(float, done.stdout.split())) < 60, done.stdout
