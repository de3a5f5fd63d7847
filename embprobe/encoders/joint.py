"""Image vectors of a joint model of images and text, by its own head, from tokens that were stored."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from embprobe.encoders.folders import read_config, transformers_network
from embprobe.encoders.names import CONFIG, FOLDER, WEIGHTS_FILE, text_files
from embprobe.views import Embeddings

NETWORK = "SiglipVisionModel"  # its head looks at all tokens of the last layer


def image_head(folder: Path, embeddings: Embeddings, device: str) -> Callable[[Tensor], Tensor] | None:
    """Tokens (B,*grid,D) to vectors (B,W) beside the same folder's captions; None where it did not make these tokens.

    For SigLIP (Zhai et al. 2023), whose head pools by attention; the tokens must be of its last layer.
    """
    if not _made_by(folder, embeddings):
        return None
    network: Any = transformers_network(folder, NETWORK, ())  # Any: transformers types little
    network = network.eval().requires_grad_(False).to(device)
    head = getattr(network, "vision_model", network).head  # in transformers before 5 a level deeper

    @torch.no_grad()
    def vectors(tokens: Tensor) -> Tensor:
        pooled: Tensor = head(tokens.flatten(1, -2))
        return pooled

    return vectors


def _made_by(folder: Path, embeddings: Embeddings) -> bool:
    """Whether the folder is that of the embeddings' own encoder, with a head, and these are of its last layer."""
    config, asked = read_config(folder), embeddings.artefact.spec
    sees = config.get("vision_config") or {}
    if config.get("model_type") != "siglip" or embeddings.encoder != FOLDER or not sees.get("vision_use_head", True):
        return False
    content = text_files(folder)
    layer = embeddings.artefact.metrics["encoder"]["layer"]
    whole = {"weights": content[WEIGHTS_FILE], CONFIG: content[CONFIG], "layer": sees.get("num_hidden_layers", 12)}
    return bool({"weights": asked["weights"], CONFIG: asked[CONFIG], "layer": layer} == whole)
