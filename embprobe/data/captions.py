"""Words of captions by the factor that they name: what planted scenes are told by, and what is read of any caption."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

from embprobe.data.planted import FACTORS, Floats, Names, stream, varying
from embprobe.errors import UserError

Words = Mapping[str, Sequence[str]]
"""The words of each factor, of which a caption holds one or none."""
HUES = {"red": 12, "orange": 45, "yellow": 82, "green": 122, "cyan": 170, "blue": 220, "violet": 275, "pink": 325}
"""Where each range of the OKLCH hue circle begins, in degrees, by what creatures of that hue look like."""
ENDS: dict[str, tuple[str, str]] = {"size": ("small", "large"), "x": ("left", "right"), "y": ("high", "low")}
"""Words of the lowest and of the highest third of a scalar."""
TOLD = 0.5  # chance that a caption tells of a factor beside creature and hue
STREAM = 1 << 32  # keeps the draws of captions apart from those of scenes


def factor_word(name: str, value: float) -> str | None:
    """The word for a factor's value; None where nothing is said of it."""
    factor = next(f for f in FACTORS if f.name == name)
    if factor.kind == "category":
        return factor.values[int(value)]
    if name == "hue":
        degrees = 360 * value % 360
        return next((word for word, start in reversed(HUES.items()) if degrees >= start), "pink")
    if name not in ENDS:
        return None
    share = (value - factor.low) / (factor.high - factor.low)
    return ENDS[name][0] if share < 1 / 3 else ENDS[name][1] if share > 2 / 3 else None


def scene_words(vary: Names) -> dict[str, list[str]]:
    """The words of every factor that captions of such scenes may name."""
    known = {f.name: list(HUES) if f.name == "hue" else list(ENDS.get(f.name, f.values)) for f in FACTORS}
    return {FACTORS[column].name: words for column in varying(vary) if (words := known[FACTORS[column].name])}


def scene_captions(seed: int, factors_NF: Floats, vary: Names) -> list[str]:
    """A caption of each scene: hue and creature, then some of size, ground and place in an order drawn from the seed."""
    names = list(scene_words(vary))
    return [_caption(stream(seed, STREAM + i), row, names) for i, row in enumerate(factors_NF)]


def _caption(rng: np.random.Generator, factors_F: Floats, names: Sequence[str]) -> str:
    value = {f.name: float(v) for f, v in zip(FACTORS, factors_F, strict=True)}
    words = {name: word for name in names if (word := factor_word(name, value[name]))}
    named = " ".join(words[name] for name in ("hue", "creature") if name in words)
    parts = [f"{'an' if named[0] in 'aeiou' else 'a'} {named}"]
    details = {
        "size": "{}",
        "texture": "on {}",
        "x": "to the {}",
        "y": "{} up" if words.get("y") == "high" else "{} down",
    }
    if words.get("texture") == "plain":
        details["texture"] = "on a {} ground"
    told = rng.random(len(details)) < TOLD
    for place in rng.permutation(len(details)):
        name = list(details)[place]
        if told[place] and name in words:
            parts.append(details[name].format(words[name]))
    return ", ".join(parts)


def pairs_of(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Hue and creature of pairs such as `green beetle`. Raises UserError for other words."""
    creatures, found = FACTORS[0].values, []
    for text in texts:
        hue, _, creature = text.strip().partition(" ")
        if hue not in HUES or creature not in creatures:
            raise UserError(
                f"--unseen {text!r} is no hue and creature; hues are {', '.join(HUES)}, creatures {', '.join(creatures)}"
            )
        found.append((hue, creature))
    return found


def without_pairs(splits: Sequence[str], factors_NF: Floats, texts: Sequence[str]) -> list[str]:
    """The splits, with every scene of one of these pairs of hue and creature in val."""
    pairs, hue = set(pairs_of(texts)), [f.name for f in FACTORS].index("hue")
    told = [(factor_word("hue", float(row[hue])), factor_word("creature", float(row[0]))) for row in factors_NF]
    return ["val" if pair in pairs else split for pair, split in zip(told, splits, strict=True)]


# ---- of any caption


def chosen_words(factors: Sequence[str], known: Words) -> dict[str, list[str]]:
    """The words of factors, by the names that a data set has words for, or as NAME=WORD/WORD/…. Raises UserError."""
    chosen: dict[str, list[str]] = {}
    for text in factors:
        name, _, listed = text.strip().partition("=")
        words = [word.strip() for word in listed.split("/") if word.strip()] if listed else list(known.get(name, ()))
        if len(set(words)) < 2:
            there = f"; this data set has words for {', '.join(known)}" if known else ""
            raise UserError(f"--factors {text!r} needs two words or more, as in colour=red/green/blue{there}")
        chosen[name] = words
    return chosen


def named_words(caption: str | None, words: Words) -> dict[str, int]:
    """For each factor of which a caption holds exactly one word, that word's place; whole words, whatever their case."""
    held = set(re.findall(r"\w+", (caption or "").casefold()))
    found = {name: [place for place, word in enumerate(of) if word.casefold() in held] for name, of in words.items()}
    return {name: places[0] for name, places in found.items() if len(places) == 1}


def named_in(captions: Sequence[str | None], words: Words) -> np.ndarray:
    """The place of each factor's word in every caption (N,factors) i64; −1 where it names none, or several."""
    known: dict[str | None, list[int]] = {}
    for caption in captions:
        if caption not in known:
            named = named_words(caption, words)
            known[caption] = [named.get(name, -1) for name in words]
    return np.array([known[caption] for caption in captions], np.int64).reshape(len(captions), len(words))
