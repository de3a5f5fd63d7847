"""How often the 95 % intervals hold what they are about, on samples whose distribution is known. Run by hand.

    python tests/studies/coverage_study.py [--draws 200] [--count 500] [--width 32]

Real and made images are Gaussian clouds of unequal spread, shifted and scaled against each other. FD and KID have closed forms;
what a k-NN metric is about depends on the counts, so its truth is the mean over all draws. FD is biased at any count: it is
held against its closed form and against its own mean.
"""

import argparse

import torch
from torch import Tensor

from embprobe.evaluation.figures import figures
from embprobe.evaluation.output import JudgeOutput
from embprobe.metrics.frechet import frechet


def deviations(width: int) -> Tensor:
    return torch.arange(1, width + 1).double().rsqrt()


def cloud(count: int, width: int, seed: int, shift: float, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, width, generator=generator, dtype=torch.float64) * deviations(
        width
    ) * scale + shift * deviations(width)


def kernel_truth(width: int, shift: float, scale: float) -> float:
    """E k(x,x') + E k(y,y') − 2 E k(x,y) for k = (x·y/D + 1)³: moments of x·y for independent Gaussians with a mean."""
    cov_x, cov_y = deviations(width).square(), (deviations(width) * scale).square()
    mean_y = shift * deviations(width)

    def mean(cov_a: Tensor, mu_a: Tensor, cov_b: Tensor, mu_b: Tensor) -> float:
        m1 = float(mu_a @ mu_b)
        variance = float((cov_a * cov_b).sum() + (mu_a.square() * cov_b).sum() + (mu_b.square() * cov_a).sum())
        third = float(6 * (cov_a * cov_b * mu_a * mu_b).sum())  # third cumulant of a bilinear form
        raw = (m1, variance + m1**2, third + 3 * m1 * variance + m1**3)
        return 1 + 3 * raw[0] / width + 3 * raw[1] / width**2 + raw[2] / width**3

    zero = torch.zeros(width, dtype=torch.float64)
    return mean(cov_x, zero, cov_x, zero) + mean(cov_y, mean_y, cov_y, mean_y) - 2 * mean(cov_x, zero, cov_y, mean_y)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("draws", 200), ("count", 500), ("width", 32)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    count, width, shift, scale = given.count, given.width, 0.15, 0.9
    draws = [
        figures(
            JudgeOutput(cloud(count, width, 2 * seed, shift, scale), None),
            JudgeOutput(cloud(count, width, 2 * seed + 1, 0.0, 1.0), None),
            3,
            extrapolated=True,
        )
        for seed in range(given.draws)
    ]
    cov = deviations(width).square().diag()
    fd = frechet(shift * deviations(width), cov * scale**2, torch.zeros(width, dtype=torch.float64), cov)
    truths = {"fd": fd, "fd_infinity": fd, "kid": kernel_truth(width, shift, scale)}
    print(f"{given.draws} draws of {count} against {count}, width {width}")
    for name in draws[0]:
        estimates = [draw[name] for draw in draws]
        mean = sum(estimate.value for estimate in estimates) / len(estimates)
        intervals = [estimate.ends for estimate in estimates if estimate.ends is not None]
        for truth in [mean] if name not in truths else [truths[name], mean]:
            inside = sum(low <= truth <= high for low, high in intervals) / len(estimates)
            kind = "closed form" if truth != mean else "mean of draws"
            print(f"{name:14} {kind:14} {truth:10.5f}  mean {mean:10.5f}  covered {inside:6.1%}")


if __name__ == "__main__":
    main()
