"""At which steps weights are kept."""


def step_at(epoch: float, images: int, batch: int) -> int:
    """The step nearest to an epoch, the first at least; an epoch is images seen ÷ training images."""
    return max(1, round(epoch * images / batch))


def log_spaced(steps: int, count: int = 8, first: int = 1) -> tuple[int, ...]:
    """At least `count` steps up to `steps`, evenly spaced in the logarithm (fewer only if there are fewer steps)."""
    if steps <= count:
        return tuple(range(1, steps + 1))
    spaced: set[int] = set()
    n = count
    while len(spaced) < count:
        ratio = (steps / first) ** (1 / (n - 1))
        spaced = {min(steps, max(first, round(first * ratio**i))) for i in range(n)} | {steps}
        n += 1
    return tuple(sorted(spaced))
