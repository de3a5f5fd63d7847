"""Which blocks' tokens an encoder gives: the last, one, several side by side, or the mean of the last ones. No torch."""

import re
from dataclasses import dataclass

from embprobe.errors import UserError

LAST = re.compile(r"last([1-9]\d{0,3})")
Words = tuple[str, ...] | None


@dataclass(frozen=True)
class Layers:
    """Blocks as_asked from 1, in order; their tokens side by side, or averaged if `mean`."""

    blocks: tuple[int, ...]
    mean: bool = False

    @property
    def wide(self) -> int:
        """How many times the network's width a token is."""
        return 1 if self.mean else len(self.blocks)


def words_of(value: object) -> Words:
    """The words of an option, however it was given: 3, "last4", [3, 6]; None for none."""
    several = value if isinstance(value, (list, tuple)) else () if value is None else (value,)
    return tuple(map(str, several)) or None


def check_layers(words: Words) -> None:
    """Raises UserError for words that name no layers of any network."""
    if (
        words
        and not LAST.fullmatch(words[0])
        and not all(word.isdecimal() and len(word) < 5 and int(word) > 0 for word in words)
    ):
        raise UserError(
            f"--layer is {','.join(words)!r}; it must be a block from 1, several as 3,6,12 (tokens side by side), or last4 "
            "(the mean of the last 4)"
        )
    numbers = [int(word) for word in words or () if word.isdecimal() and len(word) < 5]
    if words and (sorted(set(numbers)) != numbers or (not numbers and len(words) > 1)):
        raise UserError(f"--layer is {','.join(words)!r}; give each block once, in order, or last4 alone")


def chosen_layers(words: Words, depth: int) -> Layers | None:
    """The layers of a network so deep; None for its last alone. Raises UserError for those that it does not have."""
    if not words:
        return None
    last = LAST.fullmatch(words[0])
    blocks = range(depth - int(last[1]) + 1, depth + 1) if last else [int(word) for word in words]
    if not 1 <= min(blocks) <= max(blocks) <= depth:
        raise UserError(f"--layer is {','.join(words)}; this encoder has layers 1 to {depth}")
    return Layers(tuple(blocks), mean=last is not None)


def as_asked(words: Words) -> int | str | list[int] | None:
    """The words as a fingerprint and a manifest take them."""
    if not words:
        return None
    numbers = [int(word) for word in words if word.isdecimal()]
    return words[0] if not numbers else numbers[0] if len(numbers) == 1 else numbers
