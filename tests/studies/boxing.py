"""Puts encoders into the box: python -m tests.studies.boxing NAME=PRETRAIN-ARTEFACT…

Writes embprobe/encoders/box/NAME.safetensors in f16: the encoder, in the names that timm has, its heads, and its predictor; and
the log of its training beside it. recipes/tiny.yaml makes the artefacts.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from embprobe.encoders.box import FOLDER
from embprobe.nn.predictor import MaskedDecoder, PredictorConfig, published_names
from embprobe.store import Artefact
from embprobe.store.store import Store

EVERY = 100  # steps between the rows of the log that are kept


def put(name: str, artefact: Artefact) -> None:
    """One encoder."""
    facts = artefact.read_json("encoder.json")
    beside = load_file(str(artefact.weights_beside()))
    predictor = {k: v for k, v in beside.items() if k.startswith("predictor.")}
    if facts["objective"] == "mae":
        network = MaskedDecoder(PredictorConfig.of(facts["predictor"]))
        network.load_state_dict({k.removeprefix("predictor."): v for k, v in predictor.items()})
        predictor = published_names(network)
    tensors = load_file(str(artefact.weights())) | predictor
    told = {"num_heads": str(facts["network"]["num_heads"]), "predictor_heads": str(facts["predictor"]["heads"])}
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{name}.safetensors"
    save_file({k: v.to(torch.float16).contiguous() for k, v in tensors.items()}, str(path), told)
    rows = [row for row in artefact.log.rows() if not row.get("step", 1) % EVERY]
    Path(FOLDER / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    for word in sys.argv[1:]:
        name, _, place = word.partition("=")
        put(name, Store(Path(place).parent.parent)[place])
