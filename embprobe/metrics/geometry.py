"""The geometry of tokens: effective rank, similarity of two representations, how similarity falls with distance."""

from collections.abc import Callable, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.intervals import centred, jackknife_error
from embprobe.metrics.probes import Normal


def spectral_rank(gram_DD: Tensor) -> Tensor:
    """exp of the entropy of the normalised singular values of centred features, from their XᵀX; Roy & Vetterli 2007."""
    values = torch.linalg.eigvalsh(gram_DD.double()).clamp_min(0).sqrt()
    share = values / values.sum().clamp_min(1e-12)
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum())


def linear_alignment(gram: Tensor, first: int) -> Tensor:
    """Linear CKA of two sets of features of the same rows, from XᵀX of both side by side, the first `first` columns one's.

    |XᵀY|² / (|XᵀX| |YᵀY|) of centred features, Frobenius norms; Kornblith et al. 2019.
    """
    x, y, both = gram[:first, :first], gram[first:, first:], gram[:first, first:]
    alike: Tensor = both.square().sum() / (x.square().sum() * y.square().sum()).sqrt().clamp_min(1e-12)
    return alike


def token_distances(grid: tuple[int, ...]) -> Tensor:
    """Euclidean distance between the places of all tokens, in reading order: (L,L)."""
    axes = torch.meshgrid(*(torch.arange(side, dtype=torch.float32) for side in grid), indexing="ij")
    places = torch.stack([axis.flatten() for axis in axes], 1)
    return torch.cdist(places, places)


def similarity_decay(tokens_BLD: Tensor, distance_LL: Tensor) -> Tensor:
    """For each image the correlation (B,) of two tokens' cosine with the distance of their places, over all pairs."""
    unit = nn.functional.normalize(tokens_BLD, dim=-1)
    count = len(distance_LL)
    one, other = torch.triu_indices(count, count, 1, device=tokens_BLD.device)
    cosine, far = (unit @ unit.mT)[:, one, other].double(), distance_LL[one, other].double()
    cosine, far = cosine - cosine.mean(1, keepdim=True), far - far.mean()
    correlation: Tensor = cosine @ far / (cosine.norm(dim=1) * far.norm()).clamp_min(1e-12)
    return correlation


def of_groups(statistic: Callable[[Tensor], Tensor], parts: Sequence[Normal]) -> Estimate:
    """A statistic of XᵀX about the mean, with a 95 % delete-group jackknife over the groups that the sums are of."""
    value = float(statistic(reduce(Normal.join, parts).centred()[0]))
    left = [reduce(Normal.join, [p for p in parts if p is not part]) for part in parts]
    low, high = centred(value, jackknife_error([float(statistic(s.centred()[0])) for s in left]), len(parts))
    return Estimate(value, low, high)
