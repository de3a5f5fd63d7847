"""Tokens as they are stored: the same numbers as by the plain formula, and statistics as accurate as f64 can be."""

import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from embprobe.encoders.load import load_encoder
from embprobe.encoders.tokens import DTYPES, LARGEST, Embed, Rounding
from tests import tiny

SCALE = 0.031


def attrs_of(storage: str, width: int) -> dict[str, Any]:
    return {"encoding": storage} | (
        {"scale": [SCALE * (1 + i / width) for i in range(width)]} if storage == "int8" else {}
    )


def plain(tokens: Tensor, storage: str) -> tuple[Tensor, Tensor, Tensor]:
    """What is stored, what that stands for in f64, and the clipped numbers of each channel: said at length."""
    clipped = torch.zeros(tokens.shape[-1], dtype=torch.float64)
    if storage == "int8":
        scale = torch.tensor(attrs_of("int8", tokens.shape[-1])["scale"])
        scaled = tokens / scale
        stored = scaled.round().clamp(-127, 127).to(torch.int8)
        return stored, (stored.float() * scale).double(), (scaled.abs() > 127.5).flatten(0, -2).sum(0).double()
    stored = tokens.bfloat16() if storage == "bf16" else tokens.clamp(-LARGEST, LARGEST).half()
    return stored, stored.double(), clipped


def encoded(tokens: Tensor, train: Tensor, storage: str) -> tuple[Tensor, Tensor]:
    rounding = Rounding(attrs_of(storage, tokens.shape[-1]), "cpu")
    into = rounding.of(np.empty(tuple(tokens.shape), DTYPES[storage]))
    return into, rounding.encode(tokens.clone(), train, into)


def random_tokens(rows: int = 13, grid: tuple[int, ...] = (16, 16), width: int = 320) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(0)
    tokens = torch.randn(rows, *grid, width, generator=draw) * torch.linspace(0.01, 30, width) + torch.linspace(
        -50, 50, width
    )
    return tokens, torch.rand(rows, generator=draw) < 0.7


@pytest.mark.parametrize("storage", list(DTYPES))
def test_numbers_and_moments_are_those_of_the_plain_formula(storage: str) -> None:
    tokens, train = random_tokens()
    stored, values, clipped = plain(tokens, storage)
    into, moments = encoded(tokens, train, storage)
    assert torch.equal(into, stored)
    flat = values[train].flatten(0, -2)
    torch.testing.assert_close(moments[0], flat.sum(0), rtol=1e-10, atol=1e-10 * float(flat.abs().sum(0).max()))
    torch.testing.assert_close(moments[1], flat.square().sum(0), rtol=1e-12, atol=0)
    assert torch.equal(moments[2], clipped)


@pytest.mark.parametrize("storage", list(DTYPES))
@pytest.mark.parametrize("parts", [1, 2, 5])
def test_moments_do_not_depend_on_how_rows_come(storage: str, parts: int) -> None:
    tokens, train = random_tokens()
    _, whole = encoded(tokens, train, storage)
    several = [encoded(t, m, storage)[1] for t, m in zip(tokens.chunk(parts), train.chunk(parts), strict=True)]
    torch.testing.assert_close(torch.stack(several).sum(0), whole, rtol=1e-11, atol=1e-6)


@pytest.mark.parametrize("row", [0, 1])
def test_what_f16_cannot_hold_is_the_largest_it_can_in_any_row(row: int) -> None:
    tokens = torch.ones(2, 4, 4, 8)
    tokens[row, 0, 0, 0], tokens[row, 1, 1, 1] = 1e6, -1e9
    into, moments = encoded(tokens, torch.tensor([True, False]), "f16")
    assert into[row, 0, 0, 0] == LARGEST and into[row, 1, 1, 1] == -LARGEST
    assert moments.isfinite().all() and moments[0, 0] == (16 if row else 15 + LARGEST)


def test_no_training_rows_are_no_moments() -> None:
    tokens, _ = random_tokens(3)
    assert not encoded(tokens, torch.zeros(3, dtype=torch.bool), "f16")[1].any()


def test_weights_rounded_once_give_the_tokens_that_autocast_gives() -> None:
    images = torch.from_numpy(np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8))
    encoder = load_encoder(tiny.ENCODER, image_size=(16, 16))
    with torch.autocast("cpu", torch.bfloat16):
        expected = encoder(images).float()
    found = Embed(encoder, "cpu", "bf16")(images)
    assert torch.equal(found, expected) and encoder.network.vit.blocks[0].attn.qkv.weight.dtype == torch.bfloat16


def test_storing_costs_little_beside_the_copy_itself() -> None:
    tokens, train = torch.randn(26, 16, 16, 1280), torch.ones(26, dtype=torch.bool)
    rounding = Rounding({"encoding": "f16"}, "cpu")
    into = rounding.of(np.zeros(tuple(tokens.shape), np.float16))

    def seconds() -> float:
        start = time.thread_time()
        rounding.encode(tokens, train, into)
        return time.thread_time() - start

    assert into.nbytes / min(seconds() for _ in range(5)) > 0.7e9  # 2 GB/s alone
