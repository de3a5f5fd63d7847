"""What each stage's artefact holds: typed, read-only, with its lineage; everybody reads artefacts through these."""

from embprobe.views.evaluations import Evaluation, Probing
from embprobe.views.features import Features
from embprobe.views.images import HELD_OUT, Images, split_of
from embprobe.views.latents import Embeddings, Latents, Learned, Scale
from embprobe.views.milestones import log_spaced, step_at
from embprobe.views.predictions import Prediction
from embprobe.views.samples import Decoder, Denoiser, Samples
from embprobe.views.view import (
    View,
    blocks,
    by_chunk,
    evenly,
    held_in,
    image_size,
    pixels_in,
    seeded_subset,
    size_to_be,
)

__all__ = [
    "HELD_OUT",
    "Decoder",
    "Denoiser",
    "Embeddings",
    "Evaluation",
    "Features",
    "Images",
    "Latents",
    "Learned",
    "Prediction",
    "Probing",
    "Samples",
    "Scale",
    "View",
    "blocks",
    "by_chunk",
    "evenly",
    "held_in",
    "image_size",
    "log_spaced",
    "pixels_in",
    "seeded_subset",
    "size_to_be",
    "split_of",
    "step_at",
]
