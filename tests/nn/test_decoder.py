"""The decoder at any grid and image size."""

import pytest
import torch

from embprobe.nn.decoder import Decoder


def test_the_papers_decoder_has_3_27_million_parameters() -> None:
    with torch.device("meta"):
        decoder = Decoder(16, 16, 128)
    assert sum(p.numel() for p in decoder.parameters()) == 3_274_179


@pytest.mark.parametrize(("side", "size"), [(8, 64), (7, 50), (14, 32), (16, 16), (16, 10)])
def test_any_grid_to_any_size(side: int, size: int) -> None:
    decoder = Decoder(4, side, size, width=8)
    image = decoder(torch.randn(2, side, side, 4))
    assert image.shape == (2, 3, size, size)
    image.mean().backward()
    assert decoder.last_layer.grad is not None
