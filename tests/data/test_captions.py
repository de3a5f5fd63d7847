"""Captions of planted scenes, and words in captions of any kind."""

import numpy as np
import pytest

from embprobe.data.captions import (
    HUES,
    chosen_words,
    factor_word,
    named_in,
    named_words,
    pairs_of,
    scene_captions,
    scene_words,
    without_pairs,
)
from embprobe.data.planted import FACTORS, planted_factors
from embprobe.errors import UserError

COLUMN = {f.name: place for place, f in enumerate(FACTORS)}


@pytest.mark.parametrize(
    ("degrees", "word"),
    [(0, "pink"), (11, "pink"), (25, "red"), (60, "orange"), (100, "yellow"), (145, "green"), (195, "cyan"),
     (250, "blue"), (300, "violet"), (350, "pink"), (360, "pink")],
)  # fmt: skip
def test_hues_are_called_as_one_sees_them(degrees: float, word: str) -> None:
    assert factor_word("hue", degrees / 360) == word


def test_every_caption_names_hue_and_creature_and_only_what_is_so() -> None:
    factors = planted_factors(3, 400)
    captions, words = scene_captions(3, factors, ()), scene_words(())
    assert set(words) == {"creature", "hue", "size", "texture", "x", "y"} and words["hue"] == list(HUES)
    named = named_in(captions, words)
    for place, (name, listed) in enumerate(words.items()):
        told = named[:, place] >= 0
        assert told.all() if name in ("hue", "creature") else 0.1 < told.mean() < 0.6
        true = [factor_word(name, float(value)) for value in factors[told, COLUMN[name]]]
        assert [listed[word] for word in named[told, place]] == true


def test_a_caption_depends_on_seed_and_scene_alone_and_says_nothing_of_what_rests() -> None:
    factors = planted_factors(3, 40, ("creature", "hue"))
    captions = scene_captions(3, factors, ("creature", "hue"))
    assert captions[:10] == scene_captions(3, factors[:10], ("creature", "hue"))
    assert all("," not in caption and len(caption.split()) == 3 for caption in captions)
    assert {caption.split()[0] for caption in captions} == {"a", "an"} and "an orange" in " ".join(captions)
    assert scene_captions(3, planted_factors(3, 40), ()) != scene_captions(4, planted_factors(3, 40), ())


def test_scenes_of_unseen_pairs_are_all_held_out() -> None:
    factors = planted_factors(0, 600)
    splits = without_pairs(["train"] * 600, factors, ("green beetle", "blue fish"))
    named = named_in(scene_captions(0, factors, ()), {"hue": list(HUES), "creature": FACTORS[0].values})
    pairs = [(list(HUES)[h], FACTORS[0].values[c]) for h, c in named]
    assert {pair for pair, split in zip(pairs, splits, strict=True) if split == "val"} == {
        *pairs_of(["green beetle", "blue fish"])
    }
    assert all(
        (pair in pairs_of(["green beetle", "blue fish"])) == (split == "val")
        for pair, split in zip(pairs, splits, strict=True)
    )
    with pytest.raises(UserError, match="'grey cat' is no hue and creature; hues are red"):
        pairs_of(["grey cat"])


def test_words_are_found_whole_once_and_in_any_case() -> None:
    words = {"colour": ["red", "green"], "shape": ["ball", "cube"]}
    assert named_words("A Red ball", words) == {"colour": 0, "shape": 0}
    assert named_words("redder balls, a green cube", words) == {"colour": 1, "shape": 1}
    assert named_words("red or green", words) == {} == named_words(None, words)
    np.testing.assert_array_equal(named_in(["a cube", None, "red ball"], words), [[-1, 1], [-1, -1], [0, 0]])


def test_factors_are_names_that_have_words_or_bring_their_own() -> None:
    assert chosen_words(["hue", "shape=ball/cube"], {"hue": ["red", "blue"]}) == {
        "hue": ["red", "blue"],
        "shape": ["ball", "cube"],
    }
    for wrong in ("size", "shape=ball"):
        with pytest.raises(UserError, match=r"needs two words or more.*has words for hue"):
            chosen_words([wrong], {"hue": ["red", "blue"]})
