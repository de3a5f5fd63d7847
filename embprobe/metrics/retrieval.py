"""Retrieval between images and captions: recall at 1, both ways."""

import torch
from torch import Tensor, nn

from embprobe.metrics.estimate import Estimate, Spread
from embprobe.metrics.intervals import share_interval, wilson

TIED = 1e-6  # cosines that differ by less are alike, as f32 tells them
BLOCK = 1 << 24  # cosines at a time


def recalls(image_ND: Tensor, text_CD: Tensor, caption_N: Tensor) -> dict[str, Estimate]:
    """R@1 by cosine of N images among C captions and of captions among images; caption_N says which each image's is.

    Image to text: share of images whose nearest caption is their own. Text to image: share of captions whose nearest
    image is one of their own. Of several that are equally near each counts by its share. A random ranking scores 1/C
    either way: N images have their own one of C captions, and a caption's share of the images is 1/C on average.
    `commonest` is what always naming one caption scores at best. 95 % intervals are over captions, with the images of one
    staying together, among the candidates as they are.
    """
    number = torch.arange(len(text_CD), device=caption_N.device)
    images = nearest_right(image_ND, text_CD, caption_N, number)
    texts = nearest_right(text_CD, image_ND, number, caption_N)
    of_caption = torch.bincount(caption_N, minlength=len(text_CD))
    facts = {"chance": 1 / len(text_CD), "images": len(image_ND), "captions": len(text_CD)}
    most = {"commonest": int(of_caption.max()) / len(image_ND)}
    value, (low, high) = float(texts.mean()), wilson(float(texts.sum()), len(texts))
    return {
        "image_to_text_r1": share_by_group(images, caption_N, facts | most),
        "text_to_image_r1": Estimate(value, low, high, facts=facts),
    }


def nearest_right(query_QD: Tensor, candidate_MD: Tensor, own_Q: Tensor, of_M: Tensor) -> Tensor:
    """Share of each query's nearest candidates by cosine that are its own (Q,) f64: 0 or 1 where none are equally near.

    A candidate is a query's own where `of_M` equals `own_Q`.
    """
    candidates, right = nn.functional.normalize(candidate_MD.double(), dim=1), []
    for query, own in zip(*(torch.split(each, max(1, BLOCK // len(of_M))) for each in (query_QD, own_Q)), strict=True):
        cosine = nn.functional.normalize(query.double(), dim=1) @ candidates.T
        near = cosine >= cosine.amax(1, keepdim=True) - TIED
        mine = near & (own[:, None] == of_M)
        right.append(mine.sum(1).double() / near.sum(1))
    return torch.cat(right)


def share_by_group(right_N: Tensor, group_N: Tensor, facts: dict[str, float]) -> Estimate:
    """A mean of N shares with Wilson's 95 % interval at the number of images that would vary as much as whole groups.

    The variance is that of a ratio of sums over G groups, Cochran 1977 (9A.3), and never less than that of N independent
    images; where nothing varies each group counts as one.
    """
    value, count = float(right_N.mean()), len(right_N)
    groups, place = torch.unique(group_N, return_inverse=True)
    apart = torch.zeros(len(groups), dtype=torch.float64, device=right_N.device).index_add_(0, place, right_N - value)
    freedom = len(groups) - 1
    if freedom < 1 or not 0 < value < 1:
        low, high = wilson(value * len(groups), len(groups))
    else:
        variance = len(groups) / freedom * float(apart.square().sum()) / count**2
        least = value * (1 - value) / count
        low, high = share_interval(value, count, Spread(max(variance, least), freedom))
    return Estimate(value, low, high, facts=facts)
