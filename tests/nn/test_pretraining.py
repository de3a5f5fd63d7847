"""I-JEPA's masks and target, MAE's reconstruction target, and what both log."""

import torch

from embprobe.nn.ijepa import IJEPA, group_contexts, sample_masks
from embprobe.nn.mae import MAE, patchify
from embprobe.nn.vit import build_vit, describe, effective_rank, random_crop


def batch(count: int = 8) -> dict[str, torch.Tensor]:
    return {
        "images": torch.randint(0, 256, (count, 32, 32, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    }


def small() -> object:
    torch.manual_seed(0)
    return build_vit(describe(32, 4, 16, 2, 2))


def test_context_and_targets_never_share_a_patch():
    torch.manual_seed(0)
    for _ in range(20):
        targets, keep = sample_masks(32, 14)
        assert targets.shape[0] == 4
        assert 0.12 * 196 <= targets.shape[2] <= 0.25 * 196  # scale 0.15-0.2, in whole patches
        for block in targets:
            assert not keep.gather(1, block).any()


def test_every_image_is_in_one_context_group_with_its_own_patches():
    torch.manual_seed(0)
    _, keep = sample_masks(30, 8)
    groups = group_contexts(keep, 4)
    assert sorted(int(r) for rows, _ in groups for r in rows) == list(range(30))
    for rows, index in groups:
        assert keep[rows].gather(1, index).all()


def test_the_target_encoder_follows_and_never_learns_by_gradient():
    task = IJEPA(small(), 1e-3, 100, width=8, depth=1)
    task.optimisers()
    [(_, loss)] = list(task.losses(batch(), 0))
    loss.backward()
    assert all(p.grad is None for p in task.network.parameters())
    with torch.no_grad():
        for p in task.context.parameters():
            p.add_(1.0)
    before = task.network.pos_embed.clone()
    task.after(1)
    moved = (task.network.pos_embed - before).mean()
    momentum = task.momentum + (1 - task.momentum) * 0.01
    torch.testing.assert_close(moved, torch.tensor(1 - momentum), rtol=1e-3, atol=1e-5)


def test_the_momentums_horizon_is_a_twentieth_of_a_short_run():
    assert IJEPA(small(), 1e-3, 400, width=8, depth=1).momentum == 0.95
    assert IJEPA(small(), 1e-3, 100_000, width=8, depth=1).momentum == 0.996


def test_mae_predicts_normalised_pixels_of_hidden_patches_only():
    task = MAE(small(), 1e-3, width=8, depth=1)
    torch.manual_seed(1)
    [(_, loss)] = list(task.losses(batch(), 0))
    assert 0.5 < float(loss) < 2.5  # an untrained prediction misses targets of variance 1 by about their variance
    loss.backward()
    assert task.hidden.grad is not None and task.network.patch_embed.proj.weight.grad is not None


def test_patchify_keeps_patches_in_reading_order():
    image = torch.arange(3 * 4 * 4.0).reshape(1, 3, 4, 4)
    torch.testing.assert_close(patchify(image, 2)[0, 1], image[0, :, :2, 2:].permute(1, 2, 0).reshape(-1))


def test_effective_rank_counts_directions():
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    assert 7.9 < float(effective_rank(x)) <= 8.001
    assert float(effective_rank(x[:, :1] @ torch.ones(1, 8))) < 1.01


def test_a_crop_of_everything_without_a_flip_changes_nothing():
    x = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(random_crop(x, 1.0, flip=False).mean(), x.mean(), atol=0.02, rtol=0)
