"""Names inside a data set: one spelling for a folder, a zip and a tar, and the split and class that a name tells."""

import math
import re
import unicodedata
from collections.abc import Iterable
from pathlib import PurePosixPath

from embprobe.errors import UserError

IMAGE_SUFFIXES = frozenset(
    (
        ".jpg",
        ".jpeg",
        ".jfif",
        ".png",
        ".webp",
        ".bmp",
        ".gif",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pnm",
        ".jp2",
        ".avif",
    )
)
SPLITS = ("train", "val", "test")
SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


def is_image(name: str) -> bool:
    """Whether a relative POSIX path names an image; hidden files and macOS's `__MACOSX` do not count."""
    parts = PurePosixPath(name).parts
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in parts)
    return not hidden and PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def checked_member(name: str, archive: str) -> str:
    """The name of an archive's member without a leading `./`; raises UserError where it points outside the archive."""
    path = name.replace("\\", "/")
    if path.startswith("/") or re.match(r"[A-Za-z]:/", path) or ".." in path.split("/"):
        raise UserError(f'{archive} has a member that points outside it ("{name}"); unpack and repack it')
    return "/".join(part for part in name.split("/") if part not in ("", "."))


def normalised(names: list[str], source: str) -> list[str]:
    """The names in NFC and without the directories that only wrap the set.

    A single top directory is dropped if all files lie at least two levels below it (it holds splits or classes) or if
    it has the source's own name; never if it names a split. So `faces/`, `faces.zip` of `faces/…` and of `…` agree.
    Raises UserError where two names become the same, or one is not UTF-8.
    """
    for name in names:
        checked_spelling(name)
    names = [unicodedata.normalize("NFC", name) for name in names]
    source = unicodedata.normalize("NFC", source)
    while names:
        tops = {name.partition("/")[0] for name in names}
        top = next(iter(tops))
        if len(tops) > 1 or top.lower() in SPLIT_NAMES or any("/" not in name for name in names):
            break
        rest = [name.partition("/")[2] for name in names]
        if top != source and any("/" not in name for name in rest):
            break
        names = rest
    repeated = first_repeated(names)
    if repeated is not None:
        raise UserError(f'{source} holds two files named "{repeated}"; rename one of them')
    return names


def checked_spelling(name: str) -> None:
    """Raises UserError for a file name whose bytes are not UTF-8: no artefact could hold it."""
    try:
        name.encode()
    except UnicodeEncodeError:
        raise UserError(f"the file name {name!r} is not UTF-8; rename it") from None


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that occurs a second time."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def folder_splits(names: list[str]) -> list[str] | None:
    """The split of each name where all lie in train, val or test folders; None where none is meant.

    One folder among others (`car`, `plane`, `train`) is a class. Raises UserError where several split folders stand
    beside others.
    """
    tops = [name.partition("/")[0] if "/" in name else "" for name in names]
    splits = {top for top in tops if top.lower() in SPLIT_NAMES}
    others = sorted(set(tops) - splits)
    if splits and not others:
        return [SPLIT_NAMES[top.lower()] for top in tops]
    if len(splits) > 1:
        stray = names[tops.index(others[0])]
        raise UserError(f'"{stray}" lies outside the split folders ({", ".join(sorted(splits))}); move or remove it')
    return None


def folder_labels(names: list[str], below_splits: bool) -> list[str] | None:
    """The first folder of each name, below the split folder if there is one; None for a flat set."""
    paths = [name.split("/")[1:] if below_splits else name.split("/") for name in names]
    flat = [name for name, path in zip(names, paths, strict=True) if len(path) < 2]
    if len(flat) == len(names):
        return None
    if flat:
        raise UserError(f'"{flat[0]}" lies outside the class folders; move or remove it, or give --label-regex')
    return [path[0] for path in paths]


def label_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression whose first group is a class; raises UserError for one that isn't."""
    try:
        regex = re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        raise UserError(f"--label-regex '{pattern}' is not a regular expression ({error})") from None
    if regex.groups < 1:
        raise UserError(f"--label-regex '{pattern}' has no group; put the class in parentheses, like '_(cat|dog)_'")
    return regex


def regex_labels(names: list[str], pattern: str) -> list[str]:
    """The first group of `pattern` in each name; UserError names the first name that has none."""
    regex = label_pattern(pattern)
    labels = []
    for name in names:
        match = regex.search(name)
        if match is None or not match.group(1):
            raise UserError(f"--label-regex '{pattern}' finds no class in \"{name}\"")
        labels.append(match.group(1))
    return labels


BRACES = re.compile(r"\{(\d{1,18})\.\.(\d{1,18})\}")
MOST_SHARDS = 100_000


def expand_braces(pattern: str) -> list[str]:
    """`a{000..003}.tar` → a000.tar … a003.tar; several ranges multiply. Without braces, the pattern itself.

    Raises UserError for more than 100 000.
    """
    count = math.prod(max(0, int(last) - int(first) + 1) for first, last in BRACES.findall(pattern))
    if not 0 < count <= MOST_SHARDS:
        raise UserError(f"{pattern} stands for {count:,} files; give a range of 1 to {MOST_SHARDS:,}")
    return _expanded(pattern)


def _expanded(pattern: str) -> list[str]:
    match = BRACES.search(pattern)
    if match is None:
        return [pattern]
    first, last = match.group(1), match.group(2)
    width = max(len(first), len(last)) if first.startswith("0") or last.startswith("0") else 0
    tails = _expanded(pattern[match.end() :])
    head = pattern[: match.start()]
    return [f"{head}{number:0{width}d}{tail}" for number in range(int(first), int(last) + 1) for tail in tails]
