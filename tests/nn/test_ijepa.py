"""I-JEPA's masks, its predictor and the encoder that follows."""

import torch

from embprobe.nn.ijepa import IJEPA, group_contexts, sample_masks
from embprobe.nn.layers import sin_cos_positions
from embprobe.nn.predictor import BlockPredictor, PredictorConfig
from embprobe.nn.vit import VisionTransformer, build_vit, vit_config
from tests.drawn import losses, seeded


def batch(size: tuple[int, int] = (32, 32), channels: int = 3) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"images": torch.randint(0, 256, (8, *size, channels), generator=generator).to(torch.uint8)}


def small(size: tuple[int, int] = (32, 32), channels: int = 3) -> VisionTransformer:
    torch.manual_seed(0)
    return build_vit(vit_config(size, 4, 16, 2, 2, channels))


def test_context_and_targets_never_share_a_patch() -> None:
    seeds = seeded()
    for grid in ((14, 14), (7, 28)):
        for _ in range(20):
            targets, keep = sample_masks(32, grid, seeds)
            assert targets.shape[0] == 4 and keep.shape == (32, 196)
            assert 0.1 * 196 <= targets.shape[2] <= 0.25 * 196  # scale 0.15-0.2, in whole patches
            for block in targets:
                assert not keep.gather(1, block).any()


def test_a_context_keeps_enough_patches_on_large_and_small_grids() -> None:
    seeds = seeded()
    for grid, least in (((16, 16), 10), ((8, 8), 10), ((6, 10), 10), ((4, 4), 2)):
        fewest = min(int(sample_masks(64, grid, seeds)[1].sum(1).min()) for _ in range(200))
        assert fewest > least, (grid, fewest)
    for grid in ((1, 1), (1, 2), (2, 2)):  # where nothing can be kept, one patch is
        assert sample_masks(8, grid, seeds)[1].any(1).all()


def test_context_and_targets_stay_apart_when_masks_are_drawn_anew() -> None:
    seeds = seeded()
    for _ in range(50):
        targets, keep = sample_masks(64, (4, 4), seeds)
        assert not torch.stack([keep.gather(1, block) for block in targets]).any()


def test_a_target_is_a_block_of_the_grid() -> None:
    seeds = seeded()
    targets, _ = sample_masks(16, (6, 10), seeds)
    for place in targets.flatten(0, 1):
        rows, columns = place // 10, place % 10
        assert len(place) == (rows.max() - rows.min() + 1) * (columns.max() - columns.min() + 1)
        assert rows.max() < 6


def test_every_image_is_in_one_context_group_with_its_own_patches() -> None:
    seeds = seeded()
    _, keep = sample_masks(30, (8, 8), seeds)
    groups = group_contexts(keep, 4, seeds)
    assert sorted(int(r) for rows, _ in groups for r in rows) == list(range(30))
    for rows, index in groups:
        assert keep[rows].gather(1, index).all()


def test_the_target_encoder_follows_and_never_learns_by_gradient() -> None:
    task = IJEPA(small(), 1e-3, 100, width=8, depth=1)
    task.optimisers()
    [(_, loss)] = losses(task, batch())
    loss.backward()
    assert all(p.grad is None for p in task.network.parameters())
    assert all(p.grad is not None for p in task.predictor.parameters())
    with torch.no_grad():
        for p in task.context.parameters():
            p.add_(1.0)
    assert task.network.pos_embed is not None
    before = task.network.pos_embed.clone()
    task.after(1)
    moved = (task.network.pos_embed - before).mean()
    momentum = task.momentum + (1 - task.momentum) * 0.01
    torch.testing.assert_close(moved, torch.tensor(1 - momentum), rtol=1e-3, atol=1e-5)


def test_positions_are_the_fixed_ones_and_never_train() -> None:
    task = IJEPA(small(), 1e-2, 100, width=8, depth=1)
    optimiser = task.optimisers()["ijepa"]
    [(_, loss)] = losses(task, batch())
    loss.backward()
    optimiser.step()
    task.after(0)
    fixed = sin_cos_positions((8, 8), 16)[None]
    for vit in (task.context, task.network):
        assert vit.pos_embed is not None and not vit.pos_embed.requires_grad
        torch.testing.assert_close(vit.pos_embed.data, fixed, rtol=0, atol=1e-6)
    assert not torch.equal(task.context.blocks[0].mlp.fc1.weight, task.network.blocks[0].mlp.fc1.weight)


def test_every_trained_parameter_is_optimised_once() -> None:
    task = IJEPA(small(), 1e-3, 100, width=8, depth=1)
    optimised = [id(p) for group in task.optimisers()["ijepa"].param_groups for p in group["params"]]
    assert sorted(optimised) == sorted(id(p) for p in task.parameters() if p.requires_grad)


def test_images_that_are_neither_square_nor_rgb_serve_as_well() -> None:
    task = IJEPA(small((16, 48), 1), 1e-3, 100, width=8, depth=1)
    task.optimisers()
    [(_, loss)] = losses(task, batch((16, 48), 1))
    assert loss.isfinite()


def test_a_prediction_depends_on_where_its_target_is() -> None:
    torch.manual_seed(0)
    predictor = BlockPredictor(PredictorConfig.sized((4, 6), 16, 16, width=8, depth=1))
    tokens, places = torch.randn(2, 5, 16), torch.arange(5).expand(2, -1)
    targets = torch.tensor([[[10, 11], [10, 11]], [[20, 21], [20, 21]]])
    predicted = predictor(tokens, places, targets)
    assert predicted.shape == (4, 2, 16)
    assert not torch.allclose(predicted[:2], predicted[2:])


def test_the_momentums_horizon_is_a_twentieth_of_a_short_run() -> None:
    assert IJEPA(small(), 1e-3, 400, width=8, depth=1).momentum == 0.95
    assert IJEPA(small(), 1e-3, 100_000, width=8, depth=1).momentum == 0.996
