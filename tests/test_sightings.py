"""`show --png` of embeddings: colours, alike patches, attention where the network has it."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embprobe.inspection.sightings import draw_embeddings
from embprobe.making import make
from embprobe.page.pictures import png
from embprobe.stages.extract import Extract
from embprobe.store import Store
from tests.conftest import Shell, Zoo


def test_a_vit_has_all_three_and_pixels_have_no_attention(zoo: Zoo, place: Store, shell: Shell, tmp_path: Path) -> None:
    done = shell("show", "embeddings", "--png", tmp_path / "a", "--store", zoo.store.root)
    assert done.code == 0
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == ["attention.png", "nearest.png", "pca.png"]
    pixels = make(Extract(images=zoo["images"], encoder="pixels:4", device="cpu"), place)
    done = shell("show", pixels.path, "--png", tmp_path / "b", "--store", place.root)
    assert done.code == 0 and "attention" not in done.err
    assert sorted(p.name for p in (tmp_path / "b").iterdir()) == ["nearest.png", "pca.png"]
    first, second = (np.asarray(Image.open(tmp_path / n / "pca.png")) for n in "ab")
    assert (first[:160, -1200:] == second[:160, -1200:]).all()  # the same images above
    assert (first[170:, -1200:] != second[170:, -1200:]).any()


def test_a_pretrained_encoder_has_attention_too(zoo: Zoo, place: Store) -> None:
    made = make(Extract(images=zoo["images"], encoder=zoo["encoder"], device="cpu"), place)
    assert set(draw_embeddings(made)) == {"pca.png", "nearest.png", "attention.png"}


def test_asked_again_every_byte_is_the_same(zoo: Zoo) -> None:
    first, second = ({k: png(v) for k, v in draw_embeddings(zoo["embeddings"]).items()} for _ in range(2))
    assert first == second and all(Image.open(io.BytesIO(v)).width > 600 for v in first.values())


def test_tokens_put_off_are_computed_for_the_few_that_are_drawn(
    zoo: Zoo, place: Store, shell: Shell, tmp_path: Path
) -> None:
    later = Extract(images=zoo["images"], encoder="random:vit-16x2-h2-p4", device="cpu", later=True)
    put_off = make(later, place)
    done = shell("show", put_off.path, "--png", tmp_path / "a", "--store", place.root)
    assert done.code == 0 and "not stored: the tokens of 48 images are computed" in done.err
    assert len(list((tmp_path / "a").iterdir())) == 3 and not put_off.complete


def test_without_its_weights_attention_is_left_out_and_it_is_said(
    zoo: Zoo, place: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.torch import save_file

    from embprobe.nn.vit import build_vit, vit_config

    vit, weights = build_vit(vit_config((16, 16), 4, 16, 1, 2)), tmp_path / "vit.safetensors"
    save_file(vit.state_dict(), weights)
    made = place[make(Extract(images=zoo["images"], encoder=str(weights), heads=2, device="cpu"), place).short]
    assert len(draw_embeddings(made)) == 3
    weights.unlink()
    assert set(draw_embeddings(made)) == {"pca.png", "nearest.png"}
    assert "no attention.png: " in capsys.readouterr().err
    save_file({name: tensor + 1 for name, tensor in vit.state_dict().items()}, weights)
    assert set(draw_embeddings(made)) == {"pca.png", "nearest.png"}
    assert "has changed since" in capsys.readouterr().err
