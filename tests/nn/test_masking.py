"""Masks under which predictions are looked at."""

import pytest
import torch

from embprobe.errors import UserError
from embprobe.nn.masking import asked_of, grid_parts, rectangle


@pytest.mark.parametrize("grid", [(8, 8), (4, 6), (3, 5), (2, 4, 4), (7,)])
def test_parts_hold_every_patch_once_on_any_grid(grid: tuple[int, ...]) -> None:
    length = int(torch.tensor(grid).prod())
    for cuts in (2, 4):
        every = grid_parts(grid, cuts)
        assert sorted(torch.cat(every).tolist()) == list(range(length))
        assert len(every) == int(torch.tensor([min(cuts, side) for side in grid]).prod())


@pytest.mark.parametrize("masking", ["each", "quadrants", "blocks", "1,2,3,4"])
def test_nothing_that_is_asked_for_is_seen(masking: str) -> None:
    asked = asked_of(masking, (8, 8), [3, 1, 4, 15], 0)
    assert sorted({p for a in asked for p in a.places.tolist()}) == [0, 1, 2, 3]
    for _, context, targets in asked:
        for target in targets:
            assert not (context[:, :, None] == target[:, None, :]).any()
            assert context.shape[1] and target.shape[1]
    if masking in ("each", "quadrants"):
        (every,) = {int(torch.cat([a.targets[0, 0] for a in asked]).unique().numel())}
        assert every == 64


def test_an_images_blocks_depend_on_the_image_alone() -> None:
    def of(rows: list[int]) -> dict[int, tuple[list[int], list[int]]]:
        asked = asked_of("blocks", (8, 8), rows, 5)
        return {
            rows[int(p)]: (a.context[i].tolist(), a.targets[:, i].flatten().tolist())
            for a in asked
            for i, p in enumerate(a.places)
        }

    together, alone = of([7, 8, 9]), of([8])
    assert together[8] == alone[8] and together[7] != together[9]


@pytest.mark.parametrize("words", ["0,0,8,8", "6,6,3,1", "1,1,0,2", "1,2,3", "a,b,c,d", "", "-1,0,2,2", "1e3,0,1,1"])
def test_a_rectangle_that_cant_be_is_told(words: str) -> None:
    with pytest.raises(UserError, match="--masking"):
        rectangle(words, (8, 8))


def test_a_rectangle_is_where_it_says() -> None:
    assert rectangle("1,2,2,3", (4, 6)).tolist() == [8, 9, 10, 14, 15, 16]
