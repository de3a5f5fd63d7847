"""What a judge says of images."""

from typing import NamedTuple

from torch import Tensor


class JudgeOutput(NamedTuple):
    """Features (n,F), and of a classifier probabilities (n,C)."""

    features: Tensor
    probabilities: Tensor | None
