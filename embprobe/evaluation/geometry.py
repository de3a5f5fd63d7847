"""The geometry of embeddings on held-out images: their rank, their likeness to others, their likeness across an image."""

import torch

from embprobe import console
from embprobe.evaluation.readers import ProbeRows, mean_token
from embprobe.metrics.dense import mean_of_images
from embprobe.metrics.geometry import linear_alignment, of_groups, similarity_decay, spectral_rank, token_distances
from embprobe.metrics.intervals import GROUPS, group_of
from embprobe.metrics.probes import Normal
from embprobe.store import Json
from embprobe.views import Embeddings


def read_geometry(data: ProbeRows, beside: Embeddings | None) -> dict[str, Json]:
    """Effective rank of tokens, correlation of their cosine with distance, and linear CKA of mean tokens with others'."""
    embeddings, device = data.embeddings, data.device
    groups = min(GROUPS, len(data.held))
    member, mean = group_of(len(data.held), groups), torch.from_numpy(embeddings.mean).to(device)
    wide = embeddings.width + (beside.width if beside else 0)
    ranks = [Normal(embeddings.width, 0, device) for _ in range(groups)]
    pairs = [Normal(wide, 0, device) for _ in range(groups)] if beside else []
    decay, far = torch.empty(len(data.held), dtype=torch.float64), token_distances(embeddings.grid).to(device)
    with console.progress("measuring", total=len(data.held), unit="img") as bar:
        for places, tokens in data.measured():
            at = torch.from_numpy(places)
            x = tokens.flatten(1, -2) - mean
            decay[at] = similarity_decay(x, far).cpu()
            others = [torch.from_numpy(beside.array.floats(data.held[places])).to(device)] if beside else []
            means = torch.cat([mean_token(part) for part in (tokens, *others)], 1)
            for group in sorted(set(member[at].tolist())):
                mine = (member[at] == group).to(device)
                flat = x[mine].flatten(0, 1)
                ranks[group].add(flat, flat[:, :0])
                if beside:
                    pairs[group].add(means[mine], means[mine][:, :0])
            bar.advance(len(places))
    found = {"effective_rank": of_groups(spectral_rank, ranks), "similarity_decay": mean_of_images(decay)}
    if beside:
        found["cka"] = of_groups(lambda gram: linear_alignment(gram, embeddings.width), pairs)
    return {name: estimate.json() for name, estimate in found.items()}
