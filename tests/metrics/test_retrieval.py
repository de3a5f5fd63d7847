"""Recall at 1 of images and captions: closed forms, a reference one pair at a time, and ties that favour nobody."""

import pytest
import torch
from torch import Tensor

from embprobe.metrics.intervals import wilson
from embprobe.metrics.retrieval import nearest_right, recalls, share_by_group


def drawn(count: int, captions: int, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    own = torch.cat([torch.arange(captions), torch.randint(captions, (count - captions,), generator=generator)])
    texts = torch.randn(captions, width, generator=generator)
    return texts[own] + 1.5 * torch.randn(count, width, generator=generator), texts, own


def test_every_nearest_is_found_as_one_pair_at_a_time_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("embprobe.metrics.retrieval.BLOCK", 100)  # so that queries come in several blocks
    images, texts, own = drawn(60, 14)
    cosine = torch.tensor([[float(torch.cosine_similarity(i, t, dim=0)) for t in texts] for i in images])
    by_image = [int(cosine[n].argmax()) == own[n] for n in range(60)]
    by_text = [int(own[cosine[:, c].argmax()]) == c for c in range(14)]
    found = recalls(images, texts, own)
    assert found["image_to_text_r1"].value == pytest.approx(sum(by_image) / 60) and 0 < sum(by_image) < 60
    assert found["text_to_image_r1"].value == pytest.approx(sum(by_text) / 14) and 0 < sum(by_text) < 14


def test_images_that_are_their_captions_are_all_found_however_many_share_one() -> None:
    _, texts, own = drawn(40, 10)
    for estimate in recalls(3 * texts[own], texts, own).values():
        assert estimate.value == 1 and estimate.high == 1 and estimate.low is not None
        assert estimate.low == pytest.approx(wilson(10, 10)[0])  # images of one caption are one
        assert estimate.facts["chance"] == 0.1


@pytest.mark.parametrize("collapsed", ["images", "texts", "both", "zeros"])
def test_collapsed_vectors_give_chance_and_neither_all_nor_nothing(collapsed: str) -> None:
    images, texts, own = drawn(40, 8)
    own = torch.arange(40) % 8
    if collapsed in ("images", "both"):
        images = images[:1] + 1e-7 * images  # rounding is no likeness
    if collapsed in ("texts", "both"):
        texts = texts[:1].expand(8, -1)
    if collapsed == "zeros":
        images, texts = torch.zeros_like(images), torch.zeros_like(texts)
    for name, estimate in recalls(images, texts, own).items():
        assert estimate.value == pytest.approx(1 / 8) and estimate.facts["chance"] == 1 / 8, name
        assert estimate.low is not None and estimate.high is not None and estimate.low < 1 / 8 < estimate.high


def test_several_equally_near_count_by_their_share() -> None:
    query = torch.tensor([[1.0, 0.0]])
    candidates = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.5, 0.0], [0.0, 1.0]])
    right = nearest_right(query, candidates, torch.tensor([5]), torch.tensor([5, 7, 5, 5]))
    assert right.tolist() == pytest.approx([2 / 3])


def test_random_vectors_score_chance_both_ways_however_uneven_the_captions() -> None:
    own = torch.cat([torch.zeros(40, dtype=torch.long), torch.arange(1, 21)])
    values: dict[str, list[float]] = {"image_to_text_r1": [], "text_to_image_r1": []}
    for seed in range(200):
        generator = torch.Generator().manual_seed(seed)
        vectors = (torch.randn(n, 32, generator=generator) for n in (60, 21))
        for name, estimate in recalls(*vectors, own).items():
            values[name].append(estimate.value)
    for name, each in values.items():
        error = torch.tensor(each).std() / 200**0.5
        assert abs(sum(each) / 200 - 1 / 21) < 4 * error, name
    assert recalls(torch.randn(60, 3), torch.randn(21, 3), own)["image_to_text_r1"].facts["commonest"] == 40 / 60


def test_images_of_one_caption_widen_the_interval_as_one_and_never_narrow_it() -> None:
    alone = torch.arange(200)
    right = (alone % 4 == 0).double()
    each = share_by_group(right, alone, {})
    together = share_by_group((alone // 10 % 4 == 0).double(), alone // 10, {})
    apart = share_by_group(right, alone // 4, {})
    assert each.value == 0.25 and together.value == pytest.approx(60 / 240)

    def wide(estimate: object) -> float:
        return estimate.high - estimate.low  # type: ignore[attr-defined, no-any-return]

    assert wide(together) > 2.5 * wide(each) and wide(apart) > 0.98 * wide(each)


def test_intervals_hold_what_they_promise_where_images_share_captions() -> None:
    """Whole captions are found or not with probability 0.3: about 95 % of the intervals hold it."""
    held, group = 0, torch.arange(120) // 4
    for seed in range(300):
        generator = torch.Generator().manual_seed(seed)
        right = (torch.rand(30, generator=generator) < 0.3).double()[group]
        estimate = share_by_group(right, group, {})
        assert estimate.low is not None and estimate.high is not None
        held += estimate.low <= 0.3 <= estimate.high
    assert 0.92 < held / 300 <= 0.995
