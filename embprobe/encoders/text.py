"""Captions as conditions: bytes, or the states of a text encoder in a folder that transformers saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from embprobe import console, signals
from embprobe.device import device_of
from embprobe.encoders.folders import NOT_IN_TOKENS, read_config, transformers_network
from embprobe.encoders.names import TOKENIZER, TOKENIZER_CONFIG, text_files
from embprobe.errors import UserError
from embprobe.nn.text import byte_rows

BYTES = "bytes"
BATCH = 32  # captions at a time
NETWORKS = {  # config.json's model_type → class
    "clip": "CLIPTextModel",
    "clip_text_model": "CLIPTextModel",
    "siglip": "SiglipTextModel",
    "siglip_text_model": "SiglipTextModel",
    "t5": "T5EncoderModel",
    "bert": "BertModel",
    "distilbert": "DistilBertModel",
    "roberta": "RobertaModel",
    "xlm-roberta": "XLMRobertaModel",
    "mpnet": "MPNetModel",
}
Captions = Sequence[str | None]


class TextReader(Protocol):
    """Captions to conditions (n,length), or (n,length,width), on the CPU; zeros where a caption has ended."""

    length: int

    @property
    def width(self) -> int | None:
        """Of a state; None for bytes."""
        ...

    def __call__(self, captions: Captions) -> Tensor: ...

    def sizes(self, captions: Captions) -> list[int]:
        """How many bytes or tokens each caption has."""
        ...

    def to(self, device: str) -> None:
        """Moves what there is to move."""
        ...


def text_reader(source: str, most: int, captions: Captions) -> TextReader:
    """The reader of `bytes` or of a folder, at most so long, and as long as the longest caption; says what is cut."""
    reader = reader_of(source, most)
    sizes = reader.sizes(list(dict.fromkeys(captions)))
    reader.length = max(1, min(reader.length, max(sizes, default=1)))
    tell_cut(reader, captions)
    return reader


def reader_of(source: str, length: int) -> TextReader:
    """The reader of `bytes` or of a folder at a length, or at the most that its network takes. Raises UserError."""
    return ByteReader(length) if source == BYTES else FolderReader(Path(source), length)


def tell_cut(reader: TextReader, captions: Captions) -> None:
    """Says how many captions are longer than what is read of them."""
    cut = sum(size > reader.length for size in reader.sizes(captions))
    if cut:
        unit = "bytes" if reader.width is None else "tokens"
        console.say(f"{cut} of {len(captions)} captions are longer than {reader.length} {unit}, and cut there")


class ByteReader:
    """UTF-8 bytes, i16."""

    width: int | None = None

    def __init__(self, length: int) -> None:
        self.length = length

    def __call__(self, captions: Captions) -> Tensor:
        return torch.from_numpy(byte_rows(captions, self.length))

    def sizes(self, captions: Captions) -> list[int]:
        """Bytes of each caption."""
        return [len((caption or "").encode()) for caption in captions]

    def to(self, device: str) -> None:
        """Bytes lie on no device."""


class FolderReader:
    """The last states of a frozen text encoder, f32; only networks of transformers itself, and nothing remote."""

    def __init__(self, folder: Path, most: int) -> None:
        text_files(folder)
        model_type = str(read_config(folder).get("model_type"))
        if model_type not in NETWORKS:
            raise UserError(
                f"{folder} tells of a {model_type}; the text encoders that are read are {', '.join(NETWORKS)}"
            )
        self.family = model_type.removesuffix("_text_model")
        free = () if self.family == "siglip" else NOT_IN_TOKENS  # its head makes a caption's vector
        network: Any = transformers_network(folder, NETWORKS[model_type], free)  # Any: transformers types little
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = _tokenizer(folder)
        self.told = read_config(folder, TOKENIZER_CONFIG)
        settings = self.network.config
        places = getattr(settings, "max_position_embeddings", None)
        self.length = min(most, int(places)) if places else most
        self.width = int(settings.hidden_size)
        self.device = "cpu"

    def to(self, device: str) -> None:
        """Moves the network."""
        self.device = device_of(device)
        self.network.to(self.device)

    def sizes(self, captions: Captions) -> list[int]:
        """Tokens of each caption."""
        return [len(self.tokenizer.encode(caption).ids) if caption else 0 for caption in captions]

    @torch.no_grad()
    def __call__(self, captions: Captions) -> Tensor:
        states = torch.zeros(len(captions), self.length, self.width)
        told = [place for place, caption in enumerate(captions) if caption]
        for start in range(0, len(told), BATCH):
            places = told[start : start + BATCH]
            ids = [self.tokenizer.encode(captions[place]).ids[: self.length] for place in places]
            there = torch.tensor([[1] * len(row) + [0] * (self.length - len(row)) for row in ids])
            padded = torch.tensor([row + [0] * (self.length - len(row)) for row in ids])
            out = self.network(input_ids=padded.to(self.device), attention_mask=there.to(self.device))
            states[places] = (out.last_hidden_state.float().cpu() * there[:, :, None]).contiguous()
        return states

    @torch.no_grad()
    def vectors(self, captions: Sequence[str]) -> Tensor:
        """One vector for each caption (n,W), f32, on the network's device.

        SigLIP's pooled output of captions padded to the whole length, without a mask, as it was trained; CLIP's state at
        the end of the text; of other networks the mean of the states of the tokens that there are. What is too long is
        cut before the last special tokens.
        """
        lower = self.told.get("do_lower_case") is True
        self.tokenizer.enable_truncation(self.length)
        encoded = self.tokenizer.encode_batch([caption.lower() if lower else caption for caption in captions])
        self.tokenizer.no_truncation()
        parts = []
        with console.progress("reading captions", total=len(captions), unit="captions") as bar:
            for start in range(0, len(captions), BATCH):
                signals.check()
                ids = [one.ids for one in encoded[start : start + BATCH]]
                parts.append((self._trained_whole(ids) if self.family == "siglip" else self._pooled(ids)).float())
                bar.advance(len(ids))
        return torch.cat(parts)

    def _trained_whole(self, ids: list[list[int]]) -> Tensor:
        """SigLIP's vectors (n,W): padding is read like any other token."""
        pad, left = self._pad(), self.told.get("padding_side") == "left"
        filled = [[pad] * (self.length - len(row)) for row in ids]
        rows = [more + row if left else row + more for row, more in zip(ids, filled, strict=True)]
        pooled: Tensor = self.network(input_ids=torch.tensor(rows).to(self.device)).pooler_output
        return pooled

    def _pooled(self, ids: list[list[int]]) -> Tensor:
        length = max(1, *map(len, ids))
        padded = torch.tensor([row + [0] * (length - len(row)) for row in ids]).to(self.device)
        there = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ids]).to(self.device)
        out = self.network(input_ids=padded, attention_mask=there)
        mean: Tensor = (out.last_hidden_state * there[:, :, None]).sum(1) / there.sum(1, keepdim=True).clamp_min(1)
        return out.pooler_output if self.family == "clip" else mean

    def _pad(self) -> int:
        """The token that pads: as the tokenizer is told, else as the network is."""
        word = self.told.get("pad_token")
        told = self.tokenizer.token_to_id(word.get("content") if isinstance(word, dict) else word) if word else None
        return int(self.network.config.pad_token_id or 0) if told is None else int(told)


def _tokenizer(folder: Path) -> Any:  # Any: a library that need not be installed
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library raises bare exceptions; whatever it was, the file can't be taken
        raise UserError(f"{folder / TOKENIZER} can't be read ({str(error)[:200]}); save the tokenizer again") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
