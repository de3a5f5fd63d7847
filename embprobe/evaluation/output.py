"""What a judge says of images."""

from typing import NamedTuple

from torch import Tensor


class JudgeOutput(NamedTuple):
    """What a judge says of images."""

    features: Tensor  # (n,F)
    probabilities: Tensor | None  # (n,C); None from a judge that knows no classes
