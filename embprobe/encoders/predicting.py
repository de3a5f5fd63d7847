"""A frozen encoder with what learned to predict beside it: images and masks in, predictions of hidden patches out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from embprobe.encoders.frozen import Encoder
from embprobe.encoders.live import asked_encoder
from embprobe.errors import UserError
from embprobe.nn.ijepa import normalised_tokens
from embprobe.nn.layers import gather
from embprobe.nn.masking import Asked
from embprobe.nn.predictor import (
    BlockPredictor,
    MaskedDecoder,
    Predictor,
    PredictorConfig,
    Target,
    open_predictor,
)
from embprobe.nn.vit import build_vit, embed_patches, run_blocks, takes_any_patches
from embprobe.nn.weights import Use, heads_of, load_into
from embprobe.pixels import normalised_patches, preprocess
from embprobe.store import Artefact
from embprobe.views import Embeddings

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer

HEADS = 16  # of MAE's decoder in every released file


@dataclass
class Predicting:
    """I-JEPA's two encoders and its predictor, or MAE's encoder and decoder; frozen."""

    encoder: Encoder  # whose embeddings of y are meant
    context: "VisionTransformer"  # sees x
    predictor: Predictor
    target: Target  # layer-normalised embeddings, or normalised pixels of patches

    def to(self, device: str) -> "Predicting":
        """Moves all of it."""
        self.encoder.to(device)
        self.context.to(device)
        self.predictor.to(device)
        return self

    def standardised(self, images_BHWC: Tensor) -> Tensor:
        """u8 images as the encoder takes them, (B,C,H,W)."""
        encoder = self.encoder
        mean, std = encoder.statistics or (encoder.mean, encoder.std)
        return preprocess(images_BHWC, encoder.size, mean, std, encoder.interpolation)

    @torch.no_grad()
    def truth(self, x_BCHW: Tensor) -> Tensor:
        """What is predicted of every patch, (B,L,P), from standardised images."""
        if self.target == "pixels":
            return normalised_patches(x_BCHW, self.encoder.patch)
        return normalised_tokens(self.encoder.network(x_BCHW))

    @torch.no_grad()
    def __call__(self, x_BCHW: Tensor, asked: Sequence[Asked]) -> tuple[Tensor, Tensor]:
        """Predictions (B,L,P), averaged where a patch was asked for more than once and 0 where never; how often (B,L)."""
        tokens = embed_patches(self.context, x_BCHW)
        total = tokens.new_zeros(*tokens.shape[:2], self.predictor.config.out)
        times = tokens.new_zeros(tokens.shape[:2])
        for places, context, targets in asked:
            places, context, targets = (t.to(tokens.device) for t in (places, context, targets))
            predicted = self.predicted(tokens[places], context, targets)
            for part, at in zip(predicted, targets, strict=True):
                rows = places[:, None].expand_as(at)
                total.index_put_((rows, at), part, accumulate=True)
                times.index_put_((rows, at), torch.ones_like(part[..., 0]), accumulate=True)
        return total / times.clamp_min(1)[..., None], times

    def predicted(self, tokens: Tensor, context: Tensor, targets: Tensor) -> Tensor:
        """Of patch tokens (b,L,D), the context's places (b,C) and the targets' (T,b,M): predictions (T,b,M,P)."""
        seen = run_blocks(self.context, gather(tokens, context))
        if isinstance(self.predictor, MaskedDecoder):
            hidden = torch.ones(tokens.shape[:2], device=tokens.device).scatter_(1, context, 0.0)
            rest = hidden.argsort(dim=1, descending=True, stable=True)[:, : tokens.shape[1] - context.shape[1]]
            every = self.predictor(seen, torch.cat([context, rest], 1).argsort(1))
            return torch.stack([gather(every, at) for at in targets])
        assert isinstance(self.predictor, BlockPredictor)
        count = len(tokens)
        predicted: Tensor = self.predictor(seen[:, -context.shape[1] :], context, targets)
        return predicted.reshape(len(targets), count, *predicted.shape[1:])


def load_predicting(embeddings: Embeddings, use: Use | None, heads: int | None) -> Predicting:
    """The encoder of some embeddings and its predictor, on the CPU; `use` says which of I-JEPA's encoders sees contexts.

    Raises UserError where nothing learned to predict beside the encoder, or where the encoder can't be run on a part of
    its patches.
    """
    artefact = embeddings.artefact
    if artefact.options["layer"] is not None or artefact.options.get("use") == "context":
        raise UserError(
            f"extract {artefact.short} is not of the layer and the encoder that are predicted; extract without --layer and --use"
        )
    encoder = asked_encoder(artefact, embeddings.images)
    vit = getattr(encoder.network, "vit", None)
    if not isinstance(vit, nn.Module) or not takes_any_patches(vit):
        raise UserError(
            f"the encoder of extract {artefact.short} is no plain ViT, so that patches can't be hidden from it"
        )
    source, weights = embeddings.encoder, artefact.options["weights"]
    if isinstance(source, Artefact):
        found = _of_artefact(source, encoder, use)
    elif weights:
        found = _of_file(Path(weights), encoder, use, heads)
    else:
        raise UserError(f"encoder {source} has learned no prediction; take one that pretrain, I-JEPA or MAE made")
    _on_its_grid(found)
    for module in (found.context, found.predictor):
        module.eval().requires_grad_(False)
    return found


def _on_its_grid(found: Predicting) -> None:
    """Context and predictor on the grid of the encoder, where that was given another resolution than it was trained at."""
    if found.encoder.trained_grid:
        found.predictor.on(found.encoder.grid)
        found.context.set_input_size(img_size=found.encoder.size)


def _of_artefact(source: Artefact, encoder: Encoder, use: Use | None) -> Predicting:
    from safetensors.torch import load_file

    facts = source.read_json("encoder.json", dict)
    if "predictor" not in facts:
        raise UserError(
            f"pretrain {source.short} was made by an earlier embprobe, which kept no predictor; pretrain again"
        )
    _check_use(use, facts["objective"])
    sizes = facts["predictor"]
    if sizes is None:
        raise UserError(
            f"pretrain {source.short} was given its encoder, and learned no prediction; extract from the file"
        )
    path = source.weights_beside()
    inner = {k.removeprefix("predictor."): v for k, v in load_file(str(path)).items() if k.startswith("predictor.")}
    kind = MaskedDecoder if facts["objective"] == "mae" else BlockPredictor
    predictor = kind(PredictorConfig.of(sizes))
    predictor.load_state_dict(inner)
    context = cast("VisionTransformer", encoder.network.vit)
    if facts["objective"] == "ijepa" and use != "target":
        context = build_vit(facts["network"])
        load_into(context, path, use="context")
    return Predicting(encoder, context, predictor, facts["target"])


def _check_use(use: Use | None, objective: str) -> None:
    """Raises UserError where there is one encoder and it was said which."""
    if use is not None and objective == "mae":
        raise UserError(f"--use {use} has no meaning for MAE, which has one encoder; leave it out")


def _of_file(path: Path, encoder: Encoder, use: Use | None, heads: int | None) -> Predicting:
    found = open_predictor(path)
    if found is None:
        raise UserError(
            f"{path} holds an encoder alone, without what predicts; take I-JEPA's own .pth.tar, or MAE's file with its decoder"
        )
    _check_use(use, found.objective)
    vit = cast("VisionTransformer", encoder.network.vit)
    usual = (heads_of(vit) or 1) if found.objective == "ijepa" else HEADS
    predictor = found.predictor(encoder.trained_grid or encoder.grid, heads or found.heads or usual)
    if predictor.config.dim != vit.embed_dim:
        raise UserError(
            f"{path}: its predictor takes tokens of {predictor.config.dim}, its encoder's have {vit.embed_dim}; it is not its own"
        )
    context = vit
    if found.objective == "ijepa" and (use == "context" or (use is None and found.has_context)):
        import copy

        context = copy.deepcopy(vit)
        if encoder.trained_grid:
            height, width = encoder.trained_grid
            context.set_input_size(img_size=(height * encoder.patch, width * encoder.patch))
        load_into(context, path, use="context")
    return Predicting(encoder, context, predictor, "embeddings" if found.objective == "ijepa" else "pixels")
