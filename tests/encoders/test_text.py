"""Frozen text encoders in folders of transformers: states, masks, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from embprobe.encoders.conditions import learned_conditions
from embprobe.encoders.text import FolderReader, text_reader
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.sample import Sample
from embprobe.store import Artefact, Store
from embprobe.views import Denoiser, Images
from tests.stages.conftest import captioned, captioned_latents, store  # noqa: F401

transformers = pytest.importorskip("transformers")
WORDS = ["[PAD]", "[UNK]", "<s>", "</s>", "a", "cat", "dog", "wild", "dark", "light", ","]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TINY = {"network": "dit", "depth": 1, "width": 16, "steps": 9, "batch": 8, "device": "cpu"}


def text_folder(folder: Path, kind: str = "clip", words: list[str] = WORDS) -> Path:
    """A text encoder with random weights and a tokenizer of a few words, as transformers saves them."""
    torch.manual_seed(0)
    common = {"vocab_size": len(words), "max_position_embeddings": 12, **SIZES}
    if kind == "clip":
        model = transformers.CLIPTextModel(transformers.CLIPTextConfig(**common, bos_token_id=2, eos_token_id=3))
    elif kind == "bert":
        model = transformers.BertModel(transformers.BertConfig(**common))
    else:
        model = transformers.T5EncoderModel(
            transformers.T5Config(vocab_size=len(words), d_model=16, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
        )
    model.save_pretrained(folder)
    return save_tokenizer(folder, words)


def save_tokenizer(folder: Path, words: list[str] = WORDS) -> Path:
    """A tokenizer of a few words beside a network."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.mark.parametrize("kind", ["clip", "bert", "t5"])
def test_states_are_the_networks_own_one_caption_at_a_time(tmp_path: Path, kind: str) -> None:
    folder = text_folder(tmp_path / kind, kind)
    reader = FolderReader(folder, 8)
    states = reader(["a dark cat", None, "a dog, light"])
    assert states.shape == (3, 8, 16) and not states[1].any()
    cls = {"clip": "CLIPTextModel", "bert": "BertModel", "t5": "T5EncoderModel"}[kind]
    network = getattr(transformers, cls).from_pretrained(folder).eval()
    for row, ids in ((0, [2, 4, 8, 5, 3]), (2, [2, 4, 6, 10, 9, 3])):
        with torch.no_grad():
            expected = network(input_ids=torch.tensor([ids])).last_hidden_state[0]
        torch.testing.assert_close(states[row, : len(ids)], expected, rtol=0, atol=1e-5)
        assert not states[row, len(ids) :].any()
    assert reader.sizes(["a dark cat", None]) == [5, 0]


def test_a_reader_is_as_long_as_the_longest_caption_and_no_longer_than_its_network(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "clip")
    assert text_reader(str(folder), 256, ["a cat", None, "a dark dog"]).length == 5
    assert FolderReader(folder, 256).length == 12


def test_a_denoiser_learns_from_a_folder_and_draws_by_prompts(
    store: Store,  # noqa: F811
    captioned_latents: Artefact,  # noqa: F811
    tmp_path: Path,
) -> None:
    folder = text_folder(tmp_path / "clip")
    out = make(Diffuse(latents=captioned_latents, text=str(folder), **TINY), store)  # type: ignore[arg-type]
    network = out.read_json("denoiser.json")["network"]
    assert network["text_width"] == 16 and network["text_length"] == 6 and set(out.spec["text"]) == {
        "config.json", "model.safetensors", "tokenizer.json",
    }  # fmt: skip
    images = Images(captioned_latents.inputs["embeddings"].inputs["images"])
    distinct = list(dict.fromkeys(images.captions or []))
    assert out.array("states").shape == (len(distinct), 6, 16)
    decode = {"width": 8, "steps": 2, "batch": 4, "perceptual": "none", "device": "cpu"}
    decoder = make(Decode(latents=captioned_latents, **decode), store)  # type: ignore[arg-type]
    given = {"denoiser": out, "decoder": decoder, "prompt": "a dark cat", "count": 4, "steps": 2, "device": "cpu"}
    drawn = make(Sample(**given), store)  # type: ignore[arg-type]
    assert drawn.array("images").shape[0] == 4 and Denoiser(out).text == str(folder)
    (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text().replace('"wild"', '"tame"'))
    with pytest.raises(UserError, match="is not the text encoder that denoiser"):
        make(Sample(**given | {"seed": 1}), store)  # type: ignore[arg-type]


def test_a_moved_folder_is_the_same_question(
    store: Store,  # noqa: F811
    captioned_latents: Artefact,  # noqa: F811
    tmp_path: Path,
) -> None:
    here = store.open(Diffuse(latents=captioned_latents, text=str(text_folder(tmp_path / "one"))))
    (tmp_path / "one").rename(tmp_path / "two")
    assert store.open(Diffuse(latents=captioned_latents, text=str(tmp_path / "two"))) == here


def test_kept_states_are_read_by_caption(captioned: Artefact, store: Store, tmp_path: Path) -> None:  # noqa: F811
    from tests.tiny import Toy

    reader, out = FolderReader(text_folder(tmp_path / "clip"), 6), store.open(Toy())
    images = Images(captioned)
    with out.locked():
        condition = learned_conditions(images, reader, out, "cpu")
        assert condition is not None
        rows = torch.tensor([6, 0, 3]).numpy()
        expected = reader([(images.captions or [])[row] for row in rows])
        torch.testing.assert_close(condition(rows), expected, rtol=1e-3, atol=1e-3)


def test_folders_that_are_no_text_encoder_are_refused(tmp_path: Path) -> None:
    folder = text_folder(tmp_path / "clip")
    (folder / "tokenizer.json").rename(folder / "other.json")
    with pytest.raises(UserError, match=r"has no tokenizer.json; save the tokenizer there"):
        FolderReader(folder, 8)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=r"tokenizer.json can't be read"):
        FolderReader(folder, 8)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"model_type": "gpt9"}))
    with pytest.raises(UserError, match="tells of a gpt9; the text encoders that are read are clip,"):
        FolderReader(folder, 8)
