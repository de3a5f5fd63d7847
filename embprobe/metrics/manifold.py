"""k-nearest-neighbour manifolds: precision and recall; Kynkäänniemi et al. 2019."""

import torch
from torch import Tensor

from embprobe.errors import UserError

TILE = 1024


def squared_distances(x_ND: Tensor, y_MD: Tensor) -> Tensor:
    """Squared Euclidean distances (N,M) in f64."""
    x, y = x_ND.double(), y_MD.double()
    return (x.square().sum(1)[:, None] + y.square().sum(1) - 2 * x @ y.T).clamp_min(0)


def radii(x_ND: Tensor, k: int) -> Tensor:
    """Squared distance (N,) of each point to its k-th nearest other point. Raises UserError if N ≤ k."""
    if len(x_ND) <= k:
        raise UserError(f"{len(x_ND)} samples are too few for neighbourhoods of k = {k}; give more than {k}")
    found = []
    for start in range(0, len(x_ND), TILE):
        distances = squared_distances(x_ND[start : start + TILE], x_ND)
        rows = torch.arange(len(distances))
        distances[rows, rows + start] = -1.0  # the point itself comes first, whatever rounding says
        found.append(distances.kthvalue(k + 1, dim=1).values)
    return torch.cat(found)


def inside(queries_QD: Tensor, points_ND: Tensor, radii_N: Tensor) -> Tensor:
    """Whether each query (Q,) lies within the radius of some point; a distance equal to the radius counts."""
    found = [
        (squared_distances(queries_QD[start : start + TILE], points_ND) <= radii_N).any(1)
        for start in range(0, len(queries_QD), TILE)
    ]
    return torch.cat(found)


def precision_recall(real_ND: Tensor, made_MD: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """For each sample whether it lies in the real manifold (M,), and for each real image whether in the samples' (N,).

    Their means are precision and recall.
    """
    return inside(made_MD, real_ND, radii(real_ND, k)), inside(real_ND, made_MD, radii(made_MD, k))
