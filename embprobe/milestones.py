"""At which steps weights are kept, and where; needs no torch."""

from embprobe.store import Artefact


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


def milestone_name(step: int) -> str:
    """The file of a milestone, relative to the artefact."""
    return f"milestones/step_{step:08d}.safetensors"


def milestone_steps(artefact: Artefact) -> list[int]:
    """Steps at which an artefact keeps weights."""
    return [int(name.split("_")[-1].split(".")[0]) for name in artefact.files("milestones")]
