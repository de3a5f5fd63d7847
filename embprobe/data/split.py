"""Seeded, stratified choices that depend on keys alone: validation images, and nested subsets."""

from collections import defaultdict
from collections.abc import Collection, Hashable, Sequence
from hashlib import blake2b

from embprobe.data.names import SPLITS


def stratified_order(keys: Sequence[str], strata: Sequence[Hashable], seed: int, purpose: str) -> list[int]:
    """Positions in a seeded order of which every beginning holds each stratum in (nearly) its share.

    Within a stratum, positions are ranked by a hash of (purpose, seed, key); the j-th of g is at quantile (j + ½)/g.
    """
    ranks = [blake2b(f"{purpose}\0{seed}\0{key}".encode(), digest_size=8).digest() for key in keys]
    members: dict[Hashable, list[int]] = defaultdict(list)
    for position, stratum in enumerate(strata):
        members[stratum].append(position)
    placed = []
    for positions in members.values():
        positions.sort(key=lambda position: ranks[position])
        placed += [((j + 0.5) / len(positions), ranks[p], p) for j, p in enumerate(positions)]
    return [position for _, _, position in sorted(placed)]


def seeded_split(
    keys: Sequence[str], labels: Sequence[str] | None, given: Sequence[str] | None, val_share: float, seed: int
) -> tuple[list[str], str]:
    """The split of every key, and the rule in words.

    Given splits are kept; where they hold training but no validation images, a share of the training images becomes
    validation, stratified by class, at least one of two or more. Where they hold no training images, those of val, else
    of test, are taken for them.
    """
    splits = list(given) if given is not None else ["train"] * len(keys)
    alone = lacks_train(splits)
    if alone is not None:
        splits = ["train" if split == alone else split for split in splits]
    elif "val" in splits:
        return splits, "given"
    pool = [position for position, split in enumerate(splits) if split == "train"]
    strata = [labels[position] if labels is not None else None for position in pool]
    order = stratified_order([keys[position] for position in pool], strata, seed, "val")
    held = round(val_share * len(pool))
    if val_share > 0 and len(pool) > 1:
        held = min(max(held, 1), len(pool) - 1)
    for position in order[:held]:
        splits[pool[position]] = "val"
    if alone is not None:
        return splits, f"no train given: {alone} taken for it, val seeded from it"
    return splits, "seeded" if given is None else "given, val seeded from train"


def lacks_train(splits: Collection[str]) -> str | None:
    """The split that is taken for train where none is given, val before test; None where it is."""
    return None if "train" in splits else next((split for split in ("val", "test") if split in splits), None)


def nested_subset(
    keys: Sequence[str], labels: Sequence[str] | None, splits: Sequence[str], limit: int, seed: int
) -> list[int]:
    """Rising positions of `limit` keys, each split and class in its share; smaller subsets lie in larger ones."""
    strata = [(split, labels[position] if labels is not None else None) for position, split in enumerate(splits)]
    return sorted(stratified_order(keys, strata, seed, "limit")[:limit])


def split_codes(splits: Sequence[str]) -> list[int]:
    """0 train, 1 val, 2 test."""
    return [SPLITS.index(split) for split in splits]
