"""Captions into denoisers: bytes, the null caption, and what is not read."""

import numpy as np
import pytest
import torch

from embprobe.nn.denoiser import DenoiserConfig, build_denoiser
from embprobe.nn.text import CrossAttention, byte_rows

BASE = ("dit", 4, (4, 4), 32, (1, 2, 4), 2, "cross", None, 0.0, "flow", 1.0)


def config(network: str, length: int | None = 24, frozen: int | None = None) -> DenoiserConfig:
    return DenoiserConfig(network, *BASE[1:], text_length=length, text_width=frozen)  # type: ignore[arg-type]


def denoiser(told: DenoiserConfig, seed: int = 0) -> torch.nn.Module:
    """A denoiser none of whose parts are zero any more."""
    torch.manual_seed(seed)
    network = build_denoiser(told).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return network


def test_bytes_are_utf8_plus_one_cut_at_the_length() -> None:
    np.testing.assert_array_equal(byte_rows(["aé", None, "", "abcdef"], 4), [
        [98, 196, 170, 0], [0] * 4, [0] * 4, [98, 99, 100, 101],
    ])  # fmt: skip


@pytest.mark.parametrize("network", ["dit", "unet"])
@pytest.mark.parametrize("frozen", [None, 6])
def test_captions_matter_and_the_padding_behind_them_does_not(network: str, frozen: int | None) -> None:
    build = denoiser(config(network, 24, frozen))
    longer = denoiser(config(network, 40, frozen))
    z, time = torch.randn(1, 4, 4, 4).expand(3, -1, -1, -1), torch.full((3,), 400.0)
    if frozen is None:
        short, long = (torch.from_numpy(byte_rows(["a cat", None, "Löwe"], n)) for n in (24, 40))
    else:
        short = torch.zeros(3, 24, frozen)
        short[0, :5], short[2, :3] = torch.randn(5, frozen), torch.randn(3, frozen)
        long = torch.cat([short, torch.zeros(3, 16, frozen)], 1)
    with torch.no_grad():
        first, second = build(z, time, short), longer(z, time, long)
    torch.testing.assert_close(first, second, rtol=0, atol=1e-5)
    assert (first[0] - first[1]).abs().max() > 1e-3 and (first[2] - first[1]).abs().max() > 1e-3


@pytest.mark.parametrize("network", ["dit", "unet"])
def test_the_null_condition_is_the_empty_caption(network: str) -> None:
    for frozen in (None, 6):
        told = config(network, 24, frozen)
        null = told.null_condition
        assert null is not None and not null.any()
        if frozen is None:
            assert torch.equal(null, torch.from_numpy(byte_rows([""], 24))[0])
        assert DenoiserConfig.of(told.json()) == told


def test_at_first_no_block_reads_anything() -> None:
    torch.manual_seed(0)
    network = build_denoiser(config("dit"))
    x, states = torch.randn(2, 16, 32), (torch.randn(2, 25, 32), torch.ones(2, 25, dtype=torch.bool))
    for block in network.blocks:  # type: ignore[union-attr]
        assert not block.read(x, *states).any()


def test_a_denoiser_without_text_is_what_it_always_was() -> None:
    """The names of its weights, and the numbers drawn for them: those of a network built without the module."""
    told = config("dit", None)
    torch.manual_seed(0)
    network = build_denoiser(told)
    after = torch.rand(1)
    assert not [name for name in network.state_dict() if "read" in name or "text" in name]
    assert "text_length" not in told.json() and "text_width" not in told.json()
    torch.manual_seed(0)
    reference_draws(told)
    assert torch.equal(after, torch.rand(1))


def reference_draws(told: DenoiserConfig) -> None:
    """Draws modules as a DiT without text has them, in its order, each drawn by torch and then by Xavier."""
    from torch import nn

    w = told.width
    linears = [nn.Linear(4, w), nn.Linear(256, w), nn.Linear(w, w)]
    for _ in range(told.depth):
        linears += [nn.Linear(w, 6 * w), nn.Linear(w, 3 * w), nn.Linear(w, w), nn.Linear(w, 4 * w), nn.Linear(4 * w, w)]
    linears += [nn.Linear(w, 2 * w), nn.Linear(w, 4)]
    for layer in linears:
        nn.init.xavier_uniform_(layer.weight)


def test_cross_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = CrossAttention(16, 16, 2), torch.nn.MultiheadAttention(16, 2, batch_first=True)
    ours.query_norm, ours.key_norm = torch.nn.Identity(), torch.nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.states.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.states.bias]))
        theirs.out_proj.load_state_dict(ours.project.state_dict())
    x, states = torch.randn(3, 5, 16), torch.randn(3, 7, 16)
    there = torch.rand(3, 7) < 0.6
    there[:, 0] = True
    expected, _ = theirs(x, states, states, key_padding_mask=~there)
    torch.testing.assert_close(ours(x, states, there), expected)
