"""Splits and subsets depend on keys and seed alone."""

import random
from collections import Counter
from typing import IO

import pytest

from embprobe.data.catalogue import catalogue
from embprobe.data.sources import Item, Source
from embprobe.data.split import nested_subset, seeded_split
from embprobe.errors import UserError

KEYS = [f"{kind}/{number}.jpg" for kind, count in (("cat", 60), ("dog", 30), ("wild", 10)) for number in range(count)]
LABELS = [key.partition("/")[0] for key in KEYS]


def listing(keys: list[str], **told: list[str | None]) -> Source:
    def nothing() -> IO[bytes]:
        raise AssertionError("a catalogue reads no image")

    columns = [{name: values[row] for name, values in told.items()} for row in range(len(keys))]
    items = [Item(key, nothing, 0, **column) for key, column in zip(keys, columns, strict=True)]
    return Source("manifest" if told else "folder", "set", items, [], described=bool(told))


def test_the_seeded_split_holds_out_the_share_of_every_class() -> None:
    splits, rule = seeded_split(KEYS, LABELS, None, 0.1, 0)
    assert rule == "seeded"
    held = Counter(label for label, split in zip(LABELS, splits, strict=True) if split == "val")
    assert held == {"cat": 6, "dog": 3, "wild": 1}


def test_the_seeded_split_does_not_depend_on_the_order_of_keys_and_does_on_the_seed() -> None:
    first = dict(zip(KEYS, seeded_split(KEYS, LABELS, None, 0.1, 0)[0], strict=True))
    order = random.Random(0).sample(range(len(KEYS)), len(KEYS))
    keys, labels = [KEYS[i] for i in order], [LABELS[i] for i in order]
    assert dict(zip(keys, seeded_split(keys, labels, None, 0.1, 0)[0], strict=True)) == first
    assert dict(zip(keys, seeded_split(keys, labels, None, 0.1, 1)[0], strict=True)) != first


def test_given_splits_stay_and_validation_comes_from_training_images_only() -> None:
    assert seeded_split(["a", "b"], None, ["val", "train"], 0.5, 0) == (["val", "train"], "given")
    splits, _ = seeded_split(list("abcd"), None, ["train", "train", "test", "train"], 0.1, 0)
    assert splits[2] == "test"
    assert Counter(splits) == {"train": 2, "val": 1, "test": 1}


def test_where_no_training_images_are_given_those_of_val_are_taken_else_those_of_test() -> None:
    splits, rule = seeded_split(list("abcdef"), None, ["val", "val", "test", "val", "val", "test"], 0.25, 0)
    assert Counter(splits) == {"train": 3, "val": 1, "test": 2} and splits[2] == splits[5] == "test"
    assert rule == "no train given: val taken for it, val seeded from it"
    assert Counter(seeded_split(list("abcd"), None, ["test"] * 4, 0.25, 0)[0]) == {"train": 3, "val": 1}


def test_small_sets_keep_an_image_on_either_side() -> None:
    assert seeded_split(["a"], None, None, 0.5, 0)[0] == ["train"]
    assert sorted(seeded_split(["a", "b"], None, None, 0.01, 0)[0]) == ["train", "val"]
    assert sorted(seeded_split(["a", "b"], None, None, 0.99, 0)[0]) == ["train", "val"]
    assert seeded_split(["a", "b"], None, None, 0.0, 0)[0] == ["train", "train"]


def test_smaller_subsets_lie_in_larger_ones_and_keep_the_shares() -> None:
    splits = seeded_split(KEYS, LABELS, None, 0.2, 0)[0]
    small, large = (nested_subset(KEYS, LABELS, splits, limit, 0) for limit in (10, 50))
    assert set(small) < set(large)
    assert small == sorted(small)
    assert Counter(LABELS[i] for i in large) == {"cat": 30, "dog": 15, "wild": 5}


def test_class_ids_are_sorted_names_whatever_the_limit() -> None:
    rows = catalogue(listing(KEYS[::-1]), label_regex=None, val_share=0.1, seed=0, limit=3)
    assert rows.classes == ["cat", "dog", "wild"]
    assert rows.class_ids() == [rows.classes.index(item.key.partition("/")[0]) for item in rows.items]


def test_an_unlabelled_set_has_no_labels() -> None:
    rows = catalogue(listing(["1.jpg", "2.jpg"]), label_regex=None, val_share=0.1, seed=0, limit=None)
    assert rows.labels is None
    assert rows.class_ids() is None


@pytest.mark.parametrize("column", ["label", "split"])
def test_a_partly_told_column_is_refused(column: str) -> None:
    source = listing(["1.jpg", "2.jpg"], **{column: ["train", None]})
    with pytest.raises(UserError, match=f'"2.jpg" in set has no {column}'):
        catalogue(source, label_regex=None, val_share=0.1, seed=0, limit=None)
