"""What a file is, from shapes and first bytes alone."""

from pathlib import Path

import pytest
import torch

from embprobe.nn.recognise import kind_of_bytes, kind_of_names, size_differences, sizes_of


def vit(width: int = 32, depth: int = 2, patch: int = 8, positions: int = 17) -> dict[str, tuple[int, ...]]:
    """The shapes that tell the sizes of a ViT with a class token."""
    blocks = {f"blocks.{i}.attn.proj.weight": (width, width) for i in range(depth)}
    names = {"cls_token": (1, 1, width), "pos_embed": (1, positions, width)}
    return {"patch_embed.proj.weight": (width, 3, patch, patch), **names, **blocks}


def test_the_grid_is_told_with_the_class_token_among_the_positions_and_without() -> None:
    assert [sizes_of(vit(positions=n)).grid for n in (17, 16, 1370, 12)] == [4, 4, 37, None]


def test_equal_sizes_differ_in_nothing_and_others_in_what_they_are() -> None:
    own = sizes_of(vit())
    assert size_differences(own, own) == [] == size_differences(sizes_of(vit(positions=16)), own)
    assert size_differences(sizes_of(vit(width=48, depth=3)), own) == [
        "its width is 48, not 32",
        "its depth is 3, not 2",
    ]
    [said] = size_differences(sizes_of(vit(positions=13)), own)
    assert said.startswith("it is for 13 positions, not for 32 px (4×4 patches)")


def test_names_that_say_nothing_are_some_vits() -> None:
    assert kind_of_names(vit()) is None and kind_of_names(vit(), "target_encoder") is None
    assert kind_of_names({"patch_embed.proj.weight": (32, 3, 2, 8, 8)}, "model") == (
        "VideoMAE or V-JEPA, a video encoder: its patches are 2 frames deep"
    )


@pytest.mark.parametrize("length", [4097, 4098, 4099, 9000])
def test_a_text_is_one_wherever_its_letters_are_cut(length: int, tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    path.write_bytes(b"a" * (length % 5) + "ü–".encode() * length)
    assert kind_of_bytes(path) == "a text file"


def test_bytes_that_are_no_text_may_be_weights(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.")
    assert kind_of_bytes(tmp_path / "w.pth") is None


def test_a_zip_whose_directory_is_damaged_is_told(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"weight": torch.zeros(3)}, path)
    data = bytearray(path.read_bytes())
    at = data.rfind(b"PK\x01\x02") + 46  # the name of its last file
    data[at] = 0x85
    data[at - 46 + 8 + 1] |= 0x08  # which is said to be UTF-8
    path.write_bytes(bytes(data))
    assert kind_of_bytes(path) == "a torch file that is damaged; fetch it again"
