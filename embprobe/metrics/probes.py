"""Probes: what linear maps and neighbours read from features; pure functions of tensors."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.intervals import GROUPS, centred, jackknife, wilson

L2 = tuple(10.0**e for e in range(-2, -7, -1))  # strengths of the linear probe, strong to weak
RIDGE = tuple(10.0**e for e in range(1, -7, -1))  # strengths of ridge, as a share of the mean variance of a feature


def accuracy(right_N: Tensor, chance: float) -> Estimate:
    """Share of right answers with Wilson's 95 % interval, and what always answering one class would score."""
    low, high = wilson(int(right_N.sum()), len(right_N))
    return Estimate(float(right_N.double().mean()), low, high, facts={"chance": chance})


def explained(error_N: Tensor, square_N: Tensor, total_NT: Tensor, each: int = 1) -> Estimate:
    """R² = 1 − Σ error / Σ (y − mean y)², all columns together, with a 95 % delete-group jackknife over rows.

    Each row stands for `each` targets of T columns (an image's patches): their squared error and squares, summed, and
    their sums by column; f64. Not a number where the targets do not vary.
    """

    def r2(rows: Tensor) -> float:
        variation = square_N[rows].sum() - total_NT[rows].sum(0).square().sum() / (each * len(rows))
        return float(1 - error_N[rows].sum() / variation)

    count = len(error_N)
    variation = square_N.sum() - total_NT.sum(0).square().sum() / (each * count)
    if count < 3 or float(variation) <= 1e-12 * float(square_N.sum()):
        return Estimate(math.nan)
    value = r2(torch.arange(count))
    low, high = centred(value, jackknife(r2, count), min(GROUPS, count))
    return Estimate(value, low, min(1.0, high))


# ---- classes


@dataclass(frozen=True)
class Linear:
    """A multinomial logistic regression."""

    weight: Tensor  # (D,C)
    bias: Tensor  # (C,)

    def __call__(self, x_ND: Tensor) -> Tensor:
        """The most probable class (N,)."""
        return (x_ND @ self.weight + self.bias).argmax(1)


def logistic(x_ND: Tensor, label_N: Tensor, classes: int, l2: float, start: Linear | None = None) -> Linear:
    """Logistic regression by L-BFGS over all rows; l2 times half the squared weights is added to the mean loss."""
    weight = (start.weight.clone() if start else x_ND.new_zeros(x_ND.shape[1], classes)).requires_grad_()
    bias = (start.bias.clone() if start else x_ND.new_zeros(classes)).requires_grad_()
    optimiser = torch.optim.LBFGS(
        [weight, bias], max_iter=60, history_size=10, tolerance_grad=1e-5, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(x_ND @ weight + bias, label_N) + 0.5 * l2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return Linear(weight.detach(), bias.detach())


def linear_probe(x_ND: Tensor, label_N: Tensor, classes: int, tune_N: Tensor) -> tuple[Linear, float]:
    """Logistic regression whose strength is chosen on the rows `tune_N`, then fitted on all; also the strength."""
    best: tuple[float, float, Linear | None] = (-1.0, L2[0], None)
    fitted = None
    for l2 in L2:
        fitted = logistic(x_ND[~tune_N], label_N[~tune_N], classes, l2, fitted)
        score = float((fitted(x_ND[tune_N]) == label_N[tune_N]).double().mean())
        if score > best[0]:
            best = (score, l2, fitted)
    return logistic(x_ND, label_N, classes, best[1], best[2]), best[1]


def nearest_votes(x_ND: Tensor, label_N: Tensor, query_MD: Tensor, k: int, classes: int) -> Tensor:
    """The class (M,) most frequent among the k rows nearest by cosine; a tie goes to the larger summed cosine."""
    x = nn.functional.normalize(x_ND, dim=1)
    judged = []
    for query in torch.split(nn.functional.normalize(query_MD, dim=1), 512):
        near = (query @ x.T).topk(min(k, len(x)), dim=1)
        votes = nn.functional.one_hot(label_N[near.indices], classes).to(x.dtype)
        judged.append((votes * (1 + near.values[..., None] / (4 * k))).sum(1).argmax(1))
    return torch.cat(judged)


# ---- ridge


def ridge(gram_DD: Tensor, cross_DT: Tensor, strength: float) -> Tensor:
    """Weights (D,T) of ridge regression from XᵀX and Xᵀy; `strength` counts in means of XᵀX's diagonal."""
    penalty = strength * gram_DD.diagonal().mean().clamp_min(1e-12)
    eye = torch.eye(len(gram_DD), dtype=gram_DD.dtype, device=gram_DD.device)
    factor = torch.linalg.cholesky(gram_DD + penalty * eye)
    return torch.cholesky_solve(cross_DT, factor)


def ridge_path(gram_NN: Tensor, y_NT: Tensor, strengths: Sequence[float] = RIDGE) -> list[Tensor]:
    """Dual weights (N,T) for every strength, from the Gram matrix XXᵀ of centred rows; Saunders et al. 1998."""
    return [ridge(gram_NN, y_NT, strength) for strength in strengths]


def kernel_predictions(
    gram_NN: Tensor, cross_MN: Tensor, y_NT: Tensor, tune_N: Tensor, groups: Sequence[slice]
) -> Tensor:
    """Ridge predictions (M,T) of query rows from Gram matrices, f64.

    Each group of columns takes the strength that errs least on the rows `tune_N` when fitted on the others. Rows are
    centred by the rows that are fitted on.
    """
    fit = ~tune_N
    tuned = _predict_path(gram_NN[fit][:, fit], gram_NN[tune_N][:, fit], y_NT[fit])
    whole = _predict_path(gram_NN, cross_MN, y_NT)
    out = y_NT.new_empty(len(cross_MN), y_NT.shape[1])
    for group in groups:
        errors = [float((p[:, group] - y_NT[tune_N][:, group]).square().sum()) for p in tuned]
        out[:, group] = whole[min(range(len(errors)), key=errors.__getitem__)][:, group]
    return out


def _predict_path(gram_NN: Tensor, cross_MN: Tensor, y_NT: Tensor) -> list[Tensor]:
    rows, level = gram_NN.mean(0), gram_NN.mean()
    centred_gram = gram_NN - rows - rows[:, None] + level
    centred_cross = cross_MN - rows - cross_MN.mean(1, keepdim=True) + level
    mean = y_NT.mean(0)
    return [centred_cross @ dual + mean for dual in ridge_path(centred_gram, y_NT - mean)]


class Normal:
    """Sums from which ridge regression is solved, gathered batch by batch in f64: rows are never held."""

    def __init__(self, width: int, targets: int, device: str) -> None:
        self.count = 0
        self.x = torch.zeros(width, dtype=torch.float64, device=device)
        self.y = torch.zeros(targets, dtype=torch.float64, device=device)
        self.xx = torch.zeros(width, width, dtype=torch.float64, device=device)
        self.xy = torch.zeros(width, targets, dtype=torch.float64, device=device)
        self.yy = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, x_ND: Tensor, y_NT: Tensor) -> None:
        """Takes rows in."""
        x, y = x_ND.double(), y_NT.double()
        self.count += len(x)
        self.x += x.sum(0)
        self.y += y.sum(0)
        self.xx.addmm_(x.T, x)
        self.xy.addmm_(x.T, y)
        self.yy += y.square().sum()

    def join(self, other: "Normal") -> "Normal":
        """The sums of both."""
        total = Normal(len(self.x), len(self.y), str(self.x.device))
        total.count = self.count + other.count
        for name in ("x", "y", "xx", "xy", "yy"):
            setattr(total, name, getattr(self, name) + getattr(other, name))
        return total

    def centred(self) -> tuple[Tensor, Tensor]:
        """XᵀX and Xᵀy about the means."""
        return (
            self.xx - self.x[:, None] * self.x / self.count,
            self.xy - self.x[:, None] * self.y / self.count,
        )

    def solve(self, strength: float) -> tuple[Tensor, Tensor]:
        """Weights (D,T) and bias (T,)."""
        weight = ridge(*self.centred(), strength)
        return weight, self.y / self.count - (self.x / self.count) @ weight

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Summed squared error of these rows under a linear map."""
        fitted = (weight * (self.xx @ weight)).sum() + 2 * bias @ (self.x @ weight) + self.count * bias.square().sum()
        return float(self.yy - 2 * ((weight * self.xy).sum() + bias @ self.y) + fitted)


def tuned_ridge(fit: Normal, tune: Normal) -> tuple[Tensor, Tensor, float]:
    """Weights, bias and strength: chosen on `tune` when fitted on `fit`, then fitted on both."""
    errors = {s: tune.error(*fit.solve(s)) for s in RIDGE} if tune.count and fit.count else {RIDGE[-1]: 0.0}
    strength = min(errors, key=errors.__getitem__)
    return *fit.join(tune).solve(strength), strength
