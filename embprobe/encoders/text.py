"""Captions as conditions: bytes, or the states of a text encoder in a folder that transformers saved."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from embprobe import console
from embprobe.device import device_of
from embprobe.encoders.folders import read_config, transformers_network
from embprobe.encoders.names import TOKENIZER, text_files
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
        network: Any = transformers_network(folder, NETWORKS[model_type])  # Any: transformers types little
        self.network = network.eval().requires_grad_(False)
        self.tokenizer = _tokenizer(folder)
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


def _tokenizer(folder: Path) -> Any:  # Any: a library that need not be installed
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    except Exception as error:  # the library raises bare exceptions; whatever it was, the file can't be taken
        raise UserError(f"{folder / TOKENIZER} can't be read ({str(error)[:200]}); save the tokenizer again") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
