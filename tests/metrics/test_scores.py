"""Scores of judged classes at their known ends."""

import pytest
import torch

from embprobe.metrics.scores import calibration_error, class_shares, confusion, inception_score, total_variation


def test_the_score_runs_from_one_to_the_number_of_classes():
    assert inception_score(torch.eye(5).repeat(20, 1)) == pytest.approx(5.0)
    assert inception_score(torch.full((10, 5), 0.2)) == pytest.approx(1.0)


def test_absent_classes_count_in_the_total_variation():
    shares = class_shares(torch.tensor([0, 0, 0, 0]), 4)
    assert total_variation(shares, torch.full((4,), 0.25).double()) == pytest.approx(0.75)


def test_swapped_labels_show_off_the_diagonal():
    asked = torch.tensor([0, 0, 1, 1, 2])
    assert confusion(asked, torch.tensor([1, 1, 0, 0, 2]), 3).tolist() == [[0, 2, 0], [2, 0, 0], [0, 0, 1]]


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_accuracy():
    certain = torch.tensor([[0.9, 0.1]] * 4)  # half of them right: a gap of 0.4
    doubtful = torch.tensor([[0.4, 0.6]] * 6)  # all right: 0.4 the other way, in another bin
    true = torch.tensor([0, 0, 1, 1, *[1] * 6])
    assert calibration_error(torch.cat([certain, doubtful]), true) == pytest.approx(0.4)
    assert calibration_error(torch.cat([certain, doubtful]), true, bins=1) == pytest.approx(0.08)


def test_a_calibrated_judge_has_no_calibration_error_and_a_sure_and_wrong_one_the_whole():
    assert calibration_error(torch.tensor([[0.75, 0.25]] * 4), torch.tensor([0, 0, 0, 1])) == pytest.approx(0)
    assert calibration_error(torch.eye(2), torch.tensor([1, 0])) == pytest.approx(1)
