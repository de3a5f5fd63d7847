"""Probes: what linear maps and neighbours read from features; pure functions of tensors."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from embprobe.metrics.estimate import Estimate, Spread
from embprobe.metrics.intervals import GROUPS, centred, jackknife, share_interval, welch, wilson

L2 = tuple(10.0**e for e in range(-2, -7, -1))  # strengths of the linear probe, strong to weak
RANGE = (-12, 4)  # strengths of ridge tried first, half decades, as a share of the mean variance of a feature
WIDEST = 24  # half decades from 1 that they may reach
FOLDS = 5


def accuracy(right_N: Tensor, chance: float) -> Estimate:
    """Share of right answers with Wilson's 95 % interval, and what always answering one class would score."""
    low, high = wilson(int(right_N.sum()), len(right_N))
    return Estimate(float(right_N.double().mean()), low, high, facts={"chance": chance})


def mean_accuracy(right_RN: Tensor, chance: float) -> Estimate:
    """Share of right answers of N images, averaged over R ≥ 2 draws of what was fitted on.

    The 95 % interval is over images and over draws: Wilson's at the number of images that would vary as much as both
    together; each of the two alone stands among the facts, that over draws by Student's t.
    """
    (draws, count), value = right_RN.shape, float(right_RN.double().mean())
    by_draw, by_image = right_RN.double().mean(1), right_RN.double().mean(0)
    images, chosen = (float(by_image.var()) / count, count - 1.0), (float(by_draw.var()) / draws, draws - 1.0)
    low, high = share_interval(value, count, Spread(*welch([images, chosen])))
    facts = {"chance": chance, "by_draw": by_draw.tolist()}
    facts |= {"over_images": list(share_interval(value, count, Spread(*images)))}
    facts |= {"over_draws": list(centred(value, math.sqrt(chosen[0]), draws))}
    return Estimate(value, low, high, facts=facts)


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


def linear_probe(x_ND: Tensor, label_N: Tensor, classes: int, tunes_N: Sequence[Tensor]) -> tuple[Linear, float]:
    """Logistic regression whose strength is chosen on left-out rows, then fitted on all; also the strength.

    `tunes_N`: the rows left out, one set or several in turn; without any the middle strength is taken.
    """
    scores, last = dict.fromkeys(L2, 0.0), dict[float, Linear]()
    for tune_N in tunes_N:
        fitted = None
        for l2 in L2:
            fitted = last[l2] = logistic(x_ND[~tune_N], label_N[~tune_N], classes, l2, fitted)
            scores[l2] += float((fitted(x_ND[tune_N]) == label_N[tune_N]).double().sum())
    l2 = max(L2, key=scores.__getitem__) if tunes_N else L2[len(L2) // 2]
    return logistic(x_ND, label_N, classes, l2, last.get(l2)), l2


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


@dataclass(frozen=True)
class Ridge:
    """Ridge regression at every strength from one decomposition of XᵀX or XXᵀ about the means; Hoerl & Kennard 1970."""

    values: Tensor  # (D,) eigenvalues
    vectors: Tensor  # (D,D)
    level: Tensor  # mean of the diagonal, in which strengths count

    @staticmethod
    def of(gram_DD: Tensor) -> "Ridge":
        """From a symmetric matrix, f64."""
        values, vectors = torch.linalg.eigh(gram_DD)
        return Ridge(values.clamp_min(0), vectors, gram_DD.diagonal().mean().clamp_min(1e-12))

    def solve(self, cross_DT: Tensor, strength: float) -> Tensor:
        """(gram + penalty)⁻¹ cross (D,T)."""
        kept: Tensor = (self.vectors.mT @ cross_DT) / (self.values + strength * self.level)[:, None]
        return self.vectors @ kept

    def left_out_errors(self, y_NT: Tensor, strength: float) -> Tensor:
        """What each of N rows errs by (N,T) when it is not fitted on, from XXᵀ about the mean and y about its own.

        residual / (1 − leverage); the mean is fitted too, so that its leverage 1/N counts. Allen 1974.
        """
        penalty = strength * self.level
        residual = penalty * self.solve(y_NT, strength)
        leverage = 1 / len(y_NT) + self.vectors.square() @ (self.values / (self.values + penalty))
        return residual / (1 - leverage).clamp_min(1e-12)[:, None]


def chosen(error: Callable[[float], float]) -> float:
    """The strength of the least error: by half decades, from a range that grows until neither end is the best."""
    low, high = RANGE
    errors: dict[int, float] = {}
    while True:
        errors |= {e: error(10 ** (e / 2)) for e in range(low, high + 1) if e not in errors}
        best = min(errors, key=errors.__getitem__)
        if (best not in (low, high)) or (best == low and low <= -WIDEST) or (best == high and high >= WIDEST):
            return float(10 ** (best / 2))
        low, high = (low - 4, high) if best == low else (low, high + 4)


def kernel_predictions(gram_NN: Tensor, cross_MN: Tensor, y_NT: Tensor, groups: Sequence[slice]) -> Tensor:
    """Ridge predictions (M,T) of query rows from Gram matrices, f64; rows are centred by those that are fitted on.

    Each group of columns takes the strength that errs least on rows left out one at a time.
    """
    rows, level, mean = gram_NN.mean(0), gram_NN.mean(), y_NT.mean(0)
    model = Ridge.of(gram_NN - rows - rows[:, None] + level)
    cross = cross_MN - rows - cross_MN.mean(1, keepdim=True) + level
    out = y_NT.new_empty(len(cross_MN), y_NT.shape[1])
    for group in groups:
        y = y_NT[:, group] - mean[group]
        strength = chosen(lambda s, y=y: float(model.left_out_errors(y, s).square().sum()))  # type: ignore[misc]
        out[:, group] = cross @ model.solve(y, strength) + mean[group]
    return out


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

    def fitted(self, model: Ridge, strength: float) -> tuple[Tensor, Tensor]:
        """Weights (D,T) and bias (T,) by the decomposition of these sums' own XᵀX."""
        weight = model.solve(self.centred()[1], strength)
        return weight, self.y / self.count - (self.x / self.count) @ weight

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Summed squared error of these rows under a linear map."""
        fitted = (weight * (self.xx @ weight)).sum() + 2 * bias @ (self.x @ weight) + self.count * bias.square().sum()
        return float(self.yy - 2 * ((weight * self.xy).sum() + bias @ self.y) + fitted)


def tuned_ridge(folds: Sequence[Normal]) -> tuple[Tensor, Tensor, float]:
    """Weights, bias and strength: that which errs least on each fold when fitted on the others; then fitted on all."""
    whole = reduce(Normal.join, folds)
    others = [reduce(Normal.join, [f for f in folds if f is not fold]) for fold in folds if fold.count < whole.count]
    models = [Ridge.of(other.centred()[0]) for other in others]
    left_out = [fold for fold in folds if fold.count < whole.count]

    def error(strength: float) -> float:
        parts = zip(left_out, others, models, strict=True)
        return sum(fold.error(*other.fitted(model, strength)) for fold, other, model in parts)

    strength = chosen(error)
    return *whole.fitted(Ridge.of(whole.centred()[0]), strength), strength


def discriminant(sums: Normal, strength: float) -> tuple[Tensor, Tensor]:
    """Weights (D,C) and biases (C,) of linear discriminant analysis, from sums whose targets are one column a class.

    The largest x @ weights + bias is the likeliest class of Gaussians with one covariance, at the classes' own shares;
    Fisher 1936, Hastie et al. 2009 (4.10). Classes without rows are never the largest. `strength` is added to the
    covariance within, as a share of the mean variance.
    """
    means = sums.xy / sums.y.clamp_min(1)
    within = (sums.xx - (means * sums.y) @ means.T) / sums.count
    weight = Ridge.of(within).solve(means, strength)
    return weight, (sums.y / sums.count).log() - 0.5 * (means * weight).sum(0)
