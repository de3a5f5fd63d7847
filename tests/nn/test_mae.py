"""MAE's reconstruction target."""

import torch

from embprobe.nn.mae import MAE
from embprobe.nn.vit import build_vit, vit_config


def test_it_predicts_normalised_pixels_of_hidden_patches_on_any_grid_and_channels() -> None:
    for size, channels in (((32, 32), 3), ((16, 32), 1)):
        torch.manual_seed(0)
        task = MAE(build_vit(vit_config(size, 4, 16, 2, 2, channels)), 1e-3, width=8, depth=1)
        torch.manual_seed(1)
        images = torch.randint(0, 256, (8, *size, channels)).to(torch.uint8)
        [(_, loss)] = list(task.losses({"images": images}, 0))
        assert 0.5 < float(loss) < 2.5  # an untrained prediction misses targets of variance 1 by about their variance
        loss.backward()
        assert task.mask_token.grad is not None and task.network.patch_embed.proj.weight.grad is not None
