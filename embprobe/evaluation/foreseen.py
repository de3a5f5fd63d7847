"""What predictions and truths tell: energies, how well true pairs are told from swapped ones, which factors are foreseen."""

import numpy as np
import torch
from torch import Tensor

from embprobe.evaluation.imagining import imagined_fidelity
from embprobe.evaluation.readers import columns, factor_estimate, predictions
from embprobe.evaluation.truths import Truths
from embprobe.metrics.energies import better_than_mean, energy, partners, told_apart
from embprobe.metrics.probes import FOLDS
from embprobe.store import Artefact, Json
from embprobe.views import Images, blocks

SWAPS = 8  # other images whose patches an image's prediction is held against
COLLAPSED = 0.01  # of the truths' square, what varies between images where they hardly do
BLOCK = 64  # images taken at a time
ENERGIES = ("energy", "energy_whitened", "energy_of_mean", "energy_of_mean_whitened")


def prediction_figures(out: Artefact, truths: Truths, images: Images, rows: np.ndarray, seed: int) -> dict[str, Json]:
    """R² over the mean predictor, AUC of true against swapped pairs by raw and whitened energies, what varies at all,
    factors where scenes were drawn from some, pixels where there are pictures. Writes the energies, f32 (n,*grid)."""
    said, true, asked = (Grid.of(out, name) for name in ("predicted", "true", "asked"))
    hidden = asked.values[..., 0] > 0
    mean, raw = truths.mean_LP, None
    for name, map_PP in (("", None), ("_whitened", truths.map_PP)):
        energies = energy(said.values, true.values, map_PP), energy(mean.expand_as(true.values), true.values, map_PP)
        for kind, values in zip(("energy", "energy_of_mean"), energies, strict=True):
            shaped = torch.where(hidden, values, torch.nan).reshape(asked.shape).numpy()
            out.create(f"{kind}{name}", shaped.shape, "float32").write(shaped)
        raw = raw or energies
    squares = [(e.double().square() * hidden).sum(1) for e in raw or ()]
    spread = float(squares[1].sum() / (true.values.double().square().sum(-1) * hidden).sum())
    found: dict[str, Json] = {"r2": better_than_mean(squares[0], squares[1]).json(), "spread": spread}
    others = partners(len(rows), SWAPS, seed)
    for name, map_PP in (("auc", None), ("auc_whitened", truths.map_PP)):
        found[name] = told_apart(*_pairs(said.values, true.values, hidden, others, map_PP), others).json()
    found |= {"flat": not found["auc"]["low"] > 0.5, "collapsed": spread < COLLAPSED}
    if images.factors is not None and bool(hidden.all()):
        means = {"there": true.values.mean(1), "foreseen": said.values.mean(1)}
        values, facts = images.factors[0][rows], images.factors[1]
        found["factors"] = factors_foreseen(means, values, facts, squares[0])
    return found | imagined_fidelity(out, images, rows)


class Grid:
    """An array of the artefact with its patches in one row: `values` f32 (n,L,P)."""

    def __init__(self, values: Tensor, shape: tuple[int, ...]) -> None:
        self.values, self.shape = values, shape

    @staticmethod
    def of(out: Artefact, name: str) -> "Grid":
        array = out.array(name)
        values = torch.from_numpy(array.read().astype(np.float32))
        wide = values[..., None] if name == "asked" else values
        return Grid(wide.flatten(1, -2), array.shape)


def _pairs(said: Tensor, true: Tensor, hidden: Tensor, others: Tensor, map_PP: Tensor | None) -> tuple[Tensor, Tensor]:
    """The mean energy over hidden patches of every image's true pair (n,), and of its swapped ones (n,S)."""
    if map_PP is not None:
        said, true = said @ map_PP, true @ map_PP

    def mean(at: Tensor, of: Tensor) -> Tensor:
        return (energy(said[at], true[of]) * hidden[at]).sum(1) / hidden[at].sum(1)

    parts = [torch.from_numpy(at) for at in blocks(np.arange(len(said)), BLOCK)]
    own = torch.cat([mean(at, at) for at in parts])
    swapped = [torch.cat([mean(at, others[at, k]) for at in parts]) for k in range(others.shape[1])]
    return own.double(), torch.stack(swapped, 1).double()


def factors_foreseen(
    means: dict[str, Tensor], values_NF: np.ndarray, facts: list[Json], error_N: Tensor
) -> dict[str, Json]:
    """Of every planted factor: what ridge reads of it from each kind of mean token (n,P), true ones (`there`) and predicted
    ones (`foreseen`), each image by a reader of the others' folds; and the share of the variance of images' squared
    energies that it explains (`of_energy`)."""
    wanted, groups = columns(values_NF, facts)
    read = {name: _read(mean_NP, wanted, groups) for name, mean_NP in means.items()}
    found: dict[str, Json] = {}
    for fact, group in zip(facts, groups, strict=True):
        kind, true = fact["kind"], wanted[:, group]
        found[fact["name"]] = {name: factor_estimate(kind, r[:, group], true).json() for name, r in read.items()}
        found[fact["name"]] |= {"kind": kind, "of_energy": explained_by(error_N.double(), true)}
    return found


def _read(mean_NP: Tensor, wanted_NT: Tensor, groups: list[slice]) -> Tensor:
    """Factors (N,T) of every image, read by what was fitted on the other folds."""
    x = mean_NP.double() - mean_NP.double().mean(0)
    gram, fold = x @ x.T, torch.arange(len(x)) % FOLDS
    read = torch.empty_like(wanted_NT)
    for here in (fold == k for k in range(FOLDS)):
        read[here] = predictions(gram[~here][:, ~here], gram[here][:, ~here], wanted_NT[~here], groups)
    return read


def explained_by(value_N: Tensor, columns_NT: Tensor) -> float:
    """Adjusted R² of a linear fit of a value on some columns: the share of its variance that they explain."""
    x = torch.cat([columns_NT, torch.ones(len(value_N), 1, dtype=torch.float64)], 1)
    fitted = x @ (torch.linalg.pinv(x) @ value_N)
    rank = int(torch.linalg.matrix_rank(x)) - 1
    total = (value_N - value_N.mean()).square().sum().clamp_min(1e-300)
    share = (value_N - fitted).square().sum() / total
    return float(1 - share * (len(value_N) - 1) / max(1, len(value_N) - 1 - rank))
