"""Figures of dense tasks against scikit-learn and by hand."""

import pytest
import torch

from embprobe.metrics.dense import Scene, confusions, image_figures, mean_of_images, patch_figures


def test_the_overlap_is_the_mean_jaccard_index() -> None:
    from sklearn.metrics import jaccard_score

    generator = torch.Generator().manual_seed(0)
    true = torch.randint(0, 4, (30, 9), generator=generator)
    read = torch.where(
        torch.rand(30, 9, generator=generator) < 0.6, true, torch.randint(0, 5, (30, 9), generator=generator)
    )
    scene = Scene(torch.ones(30), torch.ones(30), torch.rand(30, 9, generator=generator), true.byte())
    found = patch_figures(scene._replace(segments=read.byte()), scene, 5)
    wanted = jaccard_score(true.flatten(), read.flatten(), labels=[0, 1, 2, 3], average="macro")
    assert found["segments"].value == pytest.approx(wanted)
    assert found["segments_accuracy"].value == pytest.approx(float((read == true).double().mean()))
    assert found["depth"].value == 1.0 and found["segments"].low < wanted < found["segments"].high  # type: ignore[operator]
    assert confusions(read, true, 5).sum(0)[1, 3] == ((true == 1) & (read == 3)).sum()


def test_counts_are_right_to_the_nearest_whole_number() -> None:
    true = Scene(torch.tensor([1.0, 2, 3, 4]), torch.tensor([1.0, 1.5, 2.0, 2.5]), torch.ones(4, 1), torch.zeros(4, 1))
    found = image_figures(
        true._replace(number=torch.tensor([1.4, 2.6, 2.9, 4.0]), nearest=torch.full((4,), 1.75)), true
    )
    assert found["counting"].value == 0.75 and found["counting"].facts["chance"] == 0.25
    assert found["counting_mae"].value == pytest.approx((0.4 + 0.6 + 0.1) / 4)
    assert found["counting_r2"].value == pytest.approx(1 - (0.16 + 0.36 + 0.01) / 5)
    assert found["nearest"].value == pytest.approx(0)


def test_the_mean_of_images_has_students_interval() -> None:
    from scipy.stats import t

    values = torch.tensor([0.4, 0.9, 1.4, 0.6, 0.7], dtype=torch.float64)
    found = mean_of_images(values)
    low, high = t.interval(0.95, 4, values.mean(), values.std() / 5**0.5)
    assert (found.low, found.high) == pytest.approx((low, high))  # type: ignore[comparison-overlap]
