"""Readable names of classes: ImageNet's, or those of a file. A name changes nothing but what a class is called."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from embprobe.data.listing import checked_file
from embprobe.errors import UserError, did_you_mean

IMAGENET = "imagenet"
MOST_BYTES = 1 << 24
MOST_NAME = 200  # characters


def class_name_map(word: str) -> dict[str, str]:
    """What each class is called: of `imagenet`, its 1000 by WordNet id, or of a JSON, CSV or text file.

    Two classes of one name stay two: their own names stand behind it. Raises UserError for what is no such file.
    """
    path = Path(word).expanduser()
    if not path.is_file() and word == IMAGENET:
        names = imagenet_names()
    elif path.exists():
        names = read_names(path)
    else:
        raise UserError(
            f"--class-names {word}: there is no such file{did_you_mean(word, [IMAGENET])}; give one, or {IMAGENET}"
        )
    names = {key.strip(): name.strip() for key, name in names.items() if key.strip() and name.strip()}
    if not names or max(map(len, names.values())) > MOST_NAME:
        raise UserError(f"--class-names {word} holds no names, or ones of more than {MOST_NAME} characters")
    shared = Counter(names.values())
    return {key: f"{name} ({key})" if shared[name] > 1 else name for key, name in names.items()}


def imagenet_names() -> dict[str, str]:
    """The first word for each of ImageNet's 1000 WordNet ids, as timm ships them; timm itself is not imported."""
    found = find_spec("timm")
    if found is None or found.origin is None:
        raise UserError("--class-names imagenet reads the names that timm ships, and timm is not installed")
    folder = Path(found.origin).parent / "data" / "_info"
    ids = (folder / "imagenet_synsets.txt").read_text(encoding="utf-8").split()
    lemmas = (folder / "imagenet_synset_to_lemma.txt").read_text(encoding="utf-8").splitlines()
    words = dict(line.split("\t", 1) for line in lemmas if "\t" in line)
    return {key: words[key].split(",")[0] for key in ids if key in words}


def read_names(path: Path) -> dict[str, str]:
    """A map from a file: JSON (an object, or a list by number), CSV (class, name), else lines of a class and its name."""
    try:
        with checked_file(path).open(encoding="utf-8-sig", newline="") as file:
            text = file.read(MOST_BYTES)
        suffix = path.suffix.lower()
        if suffix == ".json":
            return json_names(json.loads(text))
        if suffix == ".csv":
            rows = [row for row in csv.reader(io.StringIO(text)) if row]
        else:
            rows = [line.replace("\t", " ").split(" ", 1) for line in map(str.strip, text.splitlines()) if line]
        short = next((row for row in rows if len(row) < 2), None)
        if short is not None:
            raise ValueError(f'"{short[0][:40]}" stands without a name')
        return {row[0].rstrip(":,"): row[1] for row in rows}
    except (OSError, ValueError, TypeError, RecursionError, csv.Error) as error:
        raise UserError(
            f"--class-names: cannot read {path} ({error}); it is lines of a class and its name, CSV, or a JSON object"
        ) from None


def json_names(found: object) -> dict[str, str]:
    """`{"n01440764": "tench"}`, `{"0": ["n01440764", "tench"]}` as Keras has it, or a list of names by number."""
    if isinstance(found, list):
        found = {str(number): name for number, name in enumerate(found)}
    if not isinstance(found, dict):
        raise TypeError("it is no object")
    pairs = [
        tuple(value) if isinstance(value, list) and len(value) == 2 else (key, value) for key, value in found.items()
    ]
    if not all(isinstance(key, str) and isinstance(name, str) for key, name in pairs):
        raise TypeError("a name is no text")
    "".join(name for _, name in pairs).encode()  # a ValueError where JSON spells what is no character
    return {str(key): str(name) for key, name in pairs}


def named_classes(classes: Sequence[str], names: Mapping[str, str], word: str) -> list[str]:
    """The classes, in their order, under their names; those without one keep their own. Raises UserError for no match."""
    if not any(name in names for name in classes):
        there = (
            f"none of the classes ({', '.join(classes[:3])}, …)" if classes else "nothing: the images have no classes"
        )
        raise UserError(f"--class-names {word} names {there}; leave it out, or give a map that fits")
    called = [names.get(name, name) for name in classes]
    shared = Counter(called)
    return [
        f"{new} ({own})" if shared[new] > 1 and new != own else new for new, own in zip(called, classes, strict=True)
    ]
