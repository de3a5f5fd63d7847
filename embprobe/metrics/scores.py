"""Scores of judged classes: Inception-style score, total variation of class shares, confusion."""

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
