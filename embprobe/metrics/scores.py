"""Scores of judged classes: Inception-style score, total variation of class shares, confusion, calibration."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


def inception_score(probabilities_NC: Tensor) -> float:
    """exp E KL(p(y|x) ‖ p(y)) over all samples at once, one split; Salimans et al. 2016. Between 1 and C."""
    p = probabilities_NC.double()
    information = torch.special.entr(p.mean(0)).sum() - torch.special.entr(p).sum(1).mean()
    return float(information.exp())


def class_shares(classes_N: Tensor, count: int) -> Tensor:
    """Share of each of `count` classes (C,), those that do not occur included."""
    return torch.bincount(classes_N.long(), minlength=count).double() / len(classes_N)


def total_variation(shares_C: Tensor, other_C: Tensor) -> float:
    """½ Σ |p − q| over all classes; 0 to 1."""
    return float((shares_C - other_C).abs().sum() / 2)


def confusion(asked_N: Tensor, judged_N: Tensor, count: int) -> Tensor:
    """Counts (C,C): rows asked, columns judged."""
    return torch.bincount(asked_N.long() * count + judged_N.long(), minlength=count * count).reshape(count, count)


def calibration_error(probabilities_NC: Tensor, true_N: Tensor, bins: int = 15) -> float:
    """Expected calibration error over bins of equal width in the confidence; Guo et al. 2017, eq. 3. 0 to 1."""
    confidence_N, judged_N = probabilities_NC.double().max(1)
    bin_N = (confidence_N * bins).ceil().long().clamp(1, bins) - 1  # bin m holds ((m − 1)/M, m/M]
    gap_N = (judged_N == true_N).double() - confidence_N
    gap_M = torch.zeros(bins, dtype=torch.float64).index_add_(0, bin_N.cpu(), gap_N.cpu())
    return float(gap_M.abs().sum() / len(gap_N))


def judged_words(probabilities_NC: Tensor, heads: Sequence[int]) -> Tensor:
    """The likeliest output of each head (N,heads) i64, of the heads' probabilities side by side."""
    return torch.stack([part.argmax(1) for part in torch.split(probabilities_NC, list(heads), 1)], 1)


def agreeing(judged_NH: np.ndarray, asked_NH: np.ndarray) -> np.ndarray:
    """Whether everything that is asked for, −1 where nothing is, was judged so: (n,) bool, of those that ask for anything."""
    told = asked_NH[(asked_NH >= 0).any(1)]
    right: np.ndarray = ((judged_NH[(asked_NH >= 0).any(1)] == told) | (told < 0)).all(1)
    return right
