"""What patch tokens look like: their first three principal components as colours, and which of them are alike."""

from dataclasses import dataclass

import numpy as np

TAILS = (1.0, 99.0)  # percentiles that the colours span
LEVEL = 0.5  # a colour where nothing varies


@dataclass(frozen=True)
class Colours:
    """Tokens as colours: three principal components, each from the lowest to the highest percentile of those it is of."""

    mean: np.ndarray  # (D,)
    axes: np.ndarray  # (3,D), unit and orthogonal; zeros where tokens have fewer directions
    low: np.ndarray  # (3,)
    high: np.ndarray
    share: float  # of the variance that the three components hold

    def components(self, tokens: np.ndarray) -> np.ndarray:
        """(…,D) → (…,3)."""
        found: np.ndarray = (tokens - self.mean) @ self.axes.T
        return found

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """(…,D) → RGB u8 (…,3)."""
        span = self.high - self.low
        flat = span <= 1e-6 * max(1e-30, float(span.max()))
        shares = np.where(flat, LEVEL, (self.components(tokens) - self.low) / np.where(flat, 1.0, span))
        return (shares.clip(0, 1) * 255).round().astype(np.uint8)


def pca_colours(tokens_nD: np.ndarray) -> Colours:
    """The colours of tokens by their own principal components, centred and not scaled (Oquab et al. 2024, figure 1).

    A component's sign is the one in which its largest loading is positive.
    """
    from scipy.linalg import eigh

    width = tokens_nD.shape[1]
    mean = tokens_nD.mean(0, dtype=np.float64).astype(np.float32)
    centred = tokens_nD - mean
    covariance_DD = (centred.T @ centred).astype(np.float64) / len(tokens_nD)
    most = min(3, width)
    variances, vectors = eigh(covariance_DD, subset_by_index=(width - most, width - 1))
    largest = np.abs(vectors).argmax(0)
    vectors = vectors * np.where(vectors[largest, np.arange(most)] < 0, -1.0, 1.0)
    axes = np.zeros((3, width), np.float32)
    axes[:most] = vectors.T[::-1]
    total = float(np.trace(covariance_DD))
    low, high = np.percentile(centred @ axes.T, TAILS, axis=0).astype(np.float32)
    return Colours(mean, axes, low, high, float(variances.sum() / total) if total > 0 else 1.0)


def directions(tokens: np.ndarray, mean_D: np.ndarray, std_D: np.ndarray) -> np.ndarray:
    """Tokens (…,D) standardised per channel and of length 1, so that products are cosines; channels that are still count 0."""
    still = std_D <= 1e-6 * max(1e-30, float(std_D.max()))
    values = np.where(still, 0.0, (tokens - mean_D) / np.where(still, 1.0, std_D)).astype(np.float32)
    lengths = np.linalg.norm(values, axis=-1, keepdims=True)
    unit: np.ndarray = values / np.maximum(lengths, 1e-12)
    return unit


def best_patches(queries_qD: np.ndarray, images_nLD: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each query the cosine (q,n) of each image's most alike patch, and its place (q,n); all of length 1."""
    cosines_qnL = np.einsum("qd,nld->qnl", queries_qD, images_nLD, optimize=True)
    return cosines_qnL.max(-1), cosines_qnL.argmax(-1)


def most_alike(cosines_qn: np.ndarray, count: int) -> np.ndarray:
    """Places (q,count) of the largest cosines, the largest first; of equal ones the first."""
    return np.argsort(-cosines_qn, axis=1, kind="stable")[:, :count]
