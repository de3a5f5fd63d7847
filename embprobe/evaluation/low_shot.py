"""Low-shot probes: a linear probe of mean tokens that knows few labels, drawn several times."""

import numpy as np
import torch

from embprobe import signals
from embprobe.evaluation.readers import ProbeRows, mean_tokens
from embprobe.metrics.probes import FOLDS, linear_probe, mean_accuracy
from embprobe.store import Json

SHARES = {"low_shot_1": 0.01, "low_shot_10": 0.1}  # of the training labels


def read_low_shot(data: ProbeRows, draws: int, seed: int) -> dict[str, Json]:
    """Accuracy with each share of the labels, averaged over draws."""
    train, held = mean_tokens(data)
    known, true = data.labels
    label, found = known.cpu().numpy(), dict[str, Json]()
    for name, share in SHARES.items():
        right, count = torch.empty(draws, len(true), dtype=torch.bool), 0
        for draw in range(draws):
            signals.check()
            chosen, number = few_labels(label, share, np.random.default_rng([seed, draw, 0x10F5]))
            rows = torch.from_numpy(chosen).to(data.device)
            least = np.unique(label[chosen], return_counts=True)[1].min()
            folds = min(FOLDS, least) if least > 1 else 0  # of one label a class none can be left out
            tunes = [torch.from_numpy(number % folds == fold).to(data.device) for fold in range(folds)]
            probe, _ = linear_probe(train[rows], known[rows], len(data.classes), tunes)
            right[draw], count = (probe(held) == true).cpu(), len(chosen)
        found[name] = mean_accuracy(right, data.chance).json() | {"labels": count}
    return found


def few_labels(label_N: np.ndarray, share: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Places of a share of each class, at least one, and for each which of its class it is: (n,), (n,)."""
    chosen, numbers = [], []
    for name in np.unique(label_N):
        members = rng.permutation(np.nonzero(label_N == name)[0])
        chosen.append(members[: max(1, round(share * len(members)))])
        numbers.append(np.arange(len(chosen[-1])))
    return np.concatenate(chosen), np.concatenate(numbers)
