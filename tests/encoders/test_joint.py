"""Captions and images as single vectors: as transformers' own models make them, from folders they saved."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from embprobe.encoders.joint import image_head
from embprobe.encoders.load import load_encoder
from embprobe.encoders.names import weights_in
from embprobe.encoders.text import FolderReader
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.pixels import preprocess
from embprobe.stages.extract import Extract
from embprobe.store import Artefact, Store
from embprobe.views import Embeddings
from tests.encoders.test_text import WORDS, save_tokenizer, text_folder
from tests.stages.conftest import captioned, store  # noqa: F401

transformers = pytest.importorskip("transformers")
SIDE, LENGTH, PAD = 16, 8, 1
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def siglip_folder(folder: Path, seed: int = 0) -> Path:
    """A tiny SigLIP with random weights, its tokenizer and its preprocessing, as transformers saves them."""
    torch.manual_seed(seed)
    sees = {**SIZES, "image_size": SIDE, "patch_size": 4}
    reads = {"vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "projection_size": 16, **SIZES}
    reads |= {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": PAD}
    model = transformers.SiglipModel(transformers.SiglipConfig(text_config=reads, vision_config=sees)).eval()
    for parameter in model.parameters():  # norms and the query as drawn would hide that they are not loaded
        nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.5] * 3, "image_std": [0.5] * 3}))
    return save_tokenizer(folder)


@pytest.fixture
def siglip(tmp_path: Path) -> Path:
    return siglip_folder(tmp_path / "siglip")


def rows(*ids: list[int], pad: int = PAD) -> Tensor:
    return torch.tensor([row + [pad] * (LENGTH - len(row)) for row in ids])


CAPTIONS, IDS = ["a dark cat", "a dog, light"], [[2, 4, 8, 5, 3], [2, 4, 6, 10, 9, 3]]


def test_siglip_reads_captions_as_it_was_trained(siglip: Path) -> None:
    model = transformers.SiglipModel.from_pretrained(siglip).eval()
    with torch.no_grad():
        expected = model.get_text_features(input_ids=rows(*IDS)).pooler_output
    reader = FolderReader(siglip, 256)
    torch.testing.assert_close(reader.vectors(CAPTIONS), expected, rtol=0, atol=1e-5)
    masked = reader(CAPTIONS)[:, -1]  # the states that denoisers learn with are others
    assert not torch.allclose(masked, expected, atol=1e-3)
    alone = torch.cat([reader.vectors([caption]) for caption in CAPTIONS])
    torch.testing.assert_close(alone, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("word", ["</s>", {"content": "</s>", "special": True}])
def test_a_caption_is_padded_as_the_tokenizer_is_told(siglip: Path, word: object) -> None:
    told = {"pad_token": word, "padding_side": "left", "do_lower_case": True}
    (siglip / "tokenizer_config.json").write_text(json.dumps(told))
    model = transformers.SiglipModel.from_pretrained(siglip).eval()
    left = torch.tensor([[3] * (LENGTH - len(row)) + row for row in IDS])
    with torch.no_grad():
        expected = model.get_text_features(input_ids=left).pooler_output
    found = FolderReader(siglip, 256).vectors(["a DARK cat", CAPTIONS[1]])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("end", [2, 3])
def test_clip_takes_the_state_at_the_end_of_the_text(tmp_path: Path, end: int) -> None:
    folder = text_folder(tmp_path / "clip")
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps(told | {"eos_token_id": end})
    )  # 2: configs of old are read otherwise
    model = transformers.CLIPTextModel.from_pretrained(folder).eval()
    found = FolderReader(folder, 256).vectors([*CAPTIONS, "a cat " * 20])
    for row, ids in enumerate([*IDS, [2, *[4, 5] * 5, 3]]):  # what is too long is cut before its end
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).pooler_output[0]
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("kind", "cls"), [("bert", "BertModel"), ("t5", "T5EncoderModel")])
def test_other_networks_give_the_mean_of_their_states(tmp_path: Path, kind: str, cls: str) -> None:
    folder = text_folder(tmp_path / kind, kind)
    model = getattr(transformers, cls).from_pretrained(folder).eval()
    found = FolderReader(folder, 256).vectors(CAPTIONS)
    for row, ids in enumerate(IDS):
        with torch.no_grad():
            expected = model(input_ids=torch.tensor([ids])).last_hidden_state[0].mean(0)
        torch.testing.assert_close(found[row], expected, rtol=0, atol=1e-5)


# ---- images


def embedded(images: Artefact, store: Store, folder: Path, **options: object) -> Embeddings:  # noqa: F811
    return Embeddings(make(Extract(images=images, encoder=str(folder), device="cpu", **options), store))  # type: ignore[arg-type]


def test_stored_tokens_give_the_image_vectors_of_the_whole_model(
    captioned: Artefact,  # noqa: F811
    store: Store,  # noqa: F811
    siglip: Path,
) -> None:
    embeddings = embedded(captioned, store, siglip)
    head = image_head(siglip, embeddings, "cpu")
    assert head is not None
    images = torch.from_numpy(embeddings.images.array.read())
    pixels = preprocess(images, (SIDE, SIDE), (0.5,) * 3, (0.5,) * 3, "bicubic")
    model = transformers.SiglipModel.from_pretrained(siglip).eval()
    with torch.no_grad():
        expected = model.get_image_features(pixel_values=pixels).pooler_output
    computed = load_encoder("folder", image_size=(SIDE, SIDE), weights=weights_in(siglip))(images)
    torch.testing.assert_close(head(computed), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(head(computed.flatten(1, 2)), head(computed))  # a grid of one axis
    stored = head(torch.from_numpy(embeddings.array.floats(np.arange(len(embeddings)))))
    torch.testing.assert_close(stored, expected, rtol=0, atol=5e-3 * float(expected.abs().max()))


def test_another_folder_a_lower_layer_or_another_encoder_has_no_such_head(
    captioned: Artefact,  # noqa: F811
    store: Store,  # noqa: F811
    siglip: Path,
    tmp_path: Path,
) -> None:
    own = embedded(captioned, store, siglip)
    assert image_head(siglip_folder(tmp_path / "copy"), own, "cpu") is not None  # by content, wherever it lies
    assert image_head(siglip, embedded(captioned, store, siglip, layer=("2",)), "cpu") is not None
    assert image_head(siglip_folder(tmp_path / "other", seed=1), own, "cpu") is None
    assert image_head(siglip, embedded(captioned, store, siglip, layer=("1",)), "cpu") is None
    pixels = make(Extract(images=captioned, encoder="pixels:4", device="cpu"), store)
    assert image_head(siglip, Embeddings(pixels), "cpu") is None
    assert image_head(text_folder(tmp_path / "clip"), own, "cpu") is None


@pytest.mark.parametrize("name", ["text_model.head.weight", "vision_model.head.probe"])
def test_a_head_that_the_folder_lacks_is_never_drawn(
    captioned: Artefact,  # noqa: F811
    store: Store,  # noqa: F811
    siglip: Path,
    name: str,
) -> None:
    tensors = load_file(siglip / "model.safetensors")
    save_file({k: v for k, v in tensors.items() if k != name}, siglip / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match=r"does not fit its config.json: .*head"):
        if name.startswith("text"):
            FolderReader(siglip, 256)
        else:
            image_head(siglip, embedded(captioned, store, siglip), "cpu")
