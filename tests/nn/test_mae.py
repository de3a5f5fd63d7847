"""MAE's reconstruction target."""

import torch

from embprobe.nn.layers import sin_cos_positions
from embprobe.nn.mae import MAE
from embprobe.nn.vit import build_vit, vit_config
from tests.drawn import losses


def test_it_predicts_normalised_pixels_of_hidden_patches_on_any_grid_and_channels() -> None:
    for size, channels in (((32, 32), 3), ((16, 32), 1)):
        torch.manual_seed(0)
        task = MAE(build_vit(vit_config(size, 4, 16, 2, 2, channels)), 1e-3, width=8, depth=1)
        torch.manual_seed(1)
        images = torch.randint(0, 256, (8, *size, channels)).to(torch.uint8)
        [(_, loss)] = losses(task, {"images": images})
        assert 0.5 < float(loss) < 2.5  # an untrained prediction misses targets of variance 1 by about their variance
        loss.backward()
        assert task.predictor.mask_token.grad is not None and task.network.patch_embed.proj.weight.grad is not None


def test_positions_are_the_fixed_ones_and_never_train() -> None:
    torch.manual_seed(0)
    task = MAE(build_vit(vit_config((32, 32), 4, 16, 2, 2, 3)), 1e-2, width=8, depth=1)
    optimised = [p for group in task.optimisers()["mae"].param_groups for p in group["params"]]
    assert task.network.pos_embed is not None and not any(p is task.network.pos_embed for p in optimised)
    assert torch.equal(task.network.pos_embed.data, sin_cos_positions((8, 8), 16)[None])
