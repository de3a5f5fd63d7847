"""What is known of each metric: its name, its digits, which way is better, its bounds, whether counts bias it."""

import math
from dataclasses import dataclass

HUGE, TINY = 1e6, 1e-4  # from and below which a number is written as m.mmmeN


def significant(value: float, digits: int = 4, like: float | None = None) -> str:
    """A value with so many significant digits and a true minus; nothing that is not 0 reads as 0.

    `like`: the value that this one is a tolerance of, and as which it is written.
    """
    if value == 0 or not math.isfinite(value):
        return f"{value:g}".replace("-0", "0").replace("-", "−")
    size = abs(value if like is None or like == 0 else like)
    rounded = float(f"{value:.{digits - 1}e}")
    if size >= HUGE or min(size, abs(value)) < TINY or abs(rounded) >= HUGE:
        mantissa, _, power = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(power)}".replace("-", "−")
    places = digits - 1 - math.floor(math.log10(abs(rounded)))
    return f"{rounded:.{max(0, places)}f}".replace("-", "−")


@dataclass(frozen=True)
class Metric:
    """A metric by its key in every file and table. `higher` is better, lower is, or (None) neither."""

    key: str
    name: str
    digits: int
    higher: bool | None
    least: float | None = None
    most: float | None = None
    any_count: bool = False  # not biased by the number of images, so that rows of different counts compare
    of_embeddings: bool = False  # of an encoder, whoever judges its samples
    own_reference: bool = False  # taken against a reference of the row's own, so that nothing cancels in a difference
    is_control: bool = False  # stands beside a row for orientation, and is not compared
    per_class: bool = False  # taken for each class too
    over_training: bool = False  # drawn over the milestones
    noun: str = ""  # in a sentence, where the name alone does not do

    @property
    def in_a_sentence(self) -> str:
        return self.noun or self.name

    @property
    def header(self) -> str:
        return self.name + {True: " ↑", False: " ↓", None: ""}[self.higher]

    def text(self, value: float) -> str:
        """A value with the metric's digits and a true minus, with two significant ones where these would read as 0."""
        shown = f"{value:.{self.digits}f}"
        if abs(value) >= HUGE or (value and float(shown) == 0):
            return significant(value, 4 if abs(value) >= HUGE else 2)
        return shown.removeprefix("-") if value == 0 else shown.replace("-", "−")


METRICS = (
    Metric("fd", "FD", 1, False, least=0, per_class=True, over_training=True),
    Metric("fd_all", "FD, all training images", 1, False, least=0, per_class=True, over_training=True),
    Metric("fd_infinity", "FD∞", 1, False),
    Metric("kid", "KID", 4, False, any_count=True, per_class=True, over_training=True),
    Metric("score", "score", 2, True, least=1, per_class=True, over_training=True),
    Metric("tv", "TV", 3, False, least=0, most=1, over_training=True),
    Metric("precision", "precision", 3, True, per_class=True, over_training=True),
    Metric("recall", "recall", 3, True, per_class=True, over_training=True),
    Metric("density", "density", 3, True, least=0, per_class=True),
    Metric("coverage", "coverage", 3, True, per_class=True),
    Metric("authenticity", "authenticity", 3, None, per_class=True),
    Metric("asked_class", "asked class", 3, True, any_count=True),
    Metric("agreement", "agrees with prompt", 3, True, any_count=True, noun="agreement with the prompt"),
    Metric("latent_fd", "latent FD ÷ floor", 2, False, own_reference=True),
    Metric("gaussian_fd", "FD of Gaussian latents", 1, None, is_control=True),
    Metric("psnr", "PSNR", 1, True, any_count=True, of_embeddings=True),
    Metric("r2", "VAE R²", 3, None, any_count=True, of_embeddings=True),
    Metric("linear", "linear", 3, True, any_count=True, of_embeddings=True, noun="linear accuracy"),
    Metric("knn", "k-NN", 3, True, any_count=True, of_embeddings=True, noun="k-NN accuracy"),
    Metric("attentive", "attentive", 3, True, any_count=True, of_embeddings=True, noun="attentive accuracy"),
    Metric(
        "low_shot_1", "1 % of labels", 3, True, any_count=True, of_embeddings=True, noun="accuracy with 1 % of labels"
    ),
    Metric("low_shot_10", "10 % of labels", 3, True, any_count=True, of_embeddings=True, noun="accuracy with 10 %"),
    Metric("fine_tune", "fine-tuned", 3, True, any_count=True, of_embeddings=True, noun="accuracy after fine-tuning"),
    Metric("pixel_r2", "pixel R²", 3, None, any_count=True, of_embeddings=True),
    Metric("counting", "counting", 3, True, any_count=True, of_embeddings=True, noun="counting accuracy"),
    Metric("nearest", "nearest R²", 3, True, any_count=True, of_embeddings=True, noun="R² of the nearest depth"),
    Metric("depth", "depth R²", 3, True, any_count=True, of_embeddings=True, noun="R² of each patch's depth"),
    Metric("segments", "segments IoU", 3, True, any_count=True, of_embeddings=True, noun="IoU of segments"),
    Metric("image_to_text_r1", "image→text R@1", 3, True, any_count=True, of_embeddings=True, noun="image-to-text R@1"),
    Metric("text_to_image_r1", "text→image R@1", 3, True, any_count=True, of_embeddings=True, noun="text-to-image R@1"),
    Metric("effective_rank", "effective rank", 1, None, least=1, any_count=True, of_embeddings=True),
    Metric("similarity_decay", "similarity decay", 3, None, any_count=True, of_embeddings=True),
    Metric("cka", "CKA", 3, None, any_count=True, of_embeddings=True, least=0, most=1),
)
METRIC = {metric.key: metric for metric in METRICS}
