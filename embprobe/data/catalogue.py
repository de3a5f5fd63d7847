"""A listing of files → the rows of a data set: keys, class names, captions, splits."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from embprobe.data.listing import Item, Source
from embprobe.data.names import SPLITS, folder_labels, folder_splits, regex_labels
from embprobe.data.split import nested_subset, seeded_split
from embprobe.errors import UserError

FOLDERS = "folders"
OF_FOLDERS = ("folder", "zip")  # whose folders tell classes that nothing beside the images does
TABLES = ("manifest", "table")  # whose keys are no paths that tell a split
TOLD_BY = {  # what stands beside images, by the kind of source
    "folder": "metadata beside the images",
    "zip": "metadata beside the images",
    "tar": "files beside the images",
    "manifest": "the manifest",
    "arrays": "the columns beside the images",
    "table": "the table",
}


@dataclass(frozen=True)
class Catalogue:
    """Rows in the order they are stored; all sequences are N long, absent ones None. `classes` are sorted names."""

    items: Sequence[Item]
    splits: Sequence[str]
    split_rule: str
    labels: Sequence[str] | None
    classes: Sequence[str]
    labels_from: str | None = None  # what told the classes, in words; None for an unlabelled set
    splits_from: str | None = None  # and the splits; None where nothing did

    def only(self, positions: Sequence[int]) -> "Catalogue":
        """Some of the rows; splits and class ids stay as they are."""
        labels = None if self.labels is None else [self.labels[p] for p in positions]
        items, splits = [self.items[p] for p in positions], [self.splits[p] for p in positions]
        return replace(self, items=items, splits=splits, labels=labels)

    def class_ids(self) -> list[int] | None:
        """The place of every label among the sorted class names; None for an unlabelled set."""
        if self.labels is None:
            return None
        ids = {name: number for number, name in enumerate(self.classes)}
        return [ids[label] for label in self.labels]

    def captions(self) -> list[str | None] | None:
        """A caption, or null, a row; None where no row has one."""
        captions = [item.caption for item in self.items]
        return captions if any(caption is not None for caption in captions) else None

    def split_counts(self) -> dict[str, int]:
        """Images a split, in the order train, val, test; splits without any are absent."""
        counts = Counter(self.splits)
        return {split: counts[split] for split in SPLITS if counts[split]}


def catalogue(source: Source, *, label_regex: str | None, val_share: float, seed: int, limit: int | None) -> Catalogue:
    """Reads labels and splits from a listing; raises UserError where only a part of it has them.

    Labels come from `label_regex`, else from what stands beside the files, else from folders. Splits, classes and
    their ids are those of the whole set whatever the limit.
    """
    keys = [item.key for item in source.items]
    folders = folders_of(source)
    given, splits_from = given_splits(source)
    labels: list[str] | None
    told = label_regex is None and whole_or_none(source, "label", [item.label for item in source.items])
    if label_regex is not None:
        labels, labels_from = regex_labels(keys, label_regex), "--label-regex"
    elif told or (source.described and source.kind not in OF_FOLDERS):
        labels, labels_from = told or None, TOLD_BY[source.kind]
    else:
        labels, labels_from = folder_labels(keys, below_splits=folders is not None), FOLDERS
    splits, rule = seeded_split(keys, labels, given, val_share, seed)
    classes = sorted(set(labels or ()))
    rows = Catalogue(source.items, splits, rule, labels, classes, labels_from if classes else None, splits_from)
    if limit is None or limit >= len(keys):
        return rows
    return rows.only(nested_subset(keys, labels, splits, limit, seed))


def folders_of(source: Source) -> list[str] | None:
    """The split whose folder each image lies in; None where folders tell none."""
    return None if source.kind in TABLES else folder_splits([item.key for item in source.items])


def given_splits(source: Source) -> tuple[list[str] | None, str | None]:
    """The split of each image and what tells it; None and None where nothing does."""
    given, folders = whole_or_none(source, "split", [item.split for item in source.items]), folders_of(source)
    return (given, TOLD_BY[source.kind]) if given else (folders, FOLDERS if folders else None)


def whole_or_none(source: Source, what: str, values: Sequence[str | None]) -> list[str] | None:
    """The values if all are there, None if none is; UserError names the first image without one."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    if len(present) < len(values):
        key = source.items[list(values).index(None)].key
        raise UserError(f'"{key}" in {source.name} has no {what} but others have; give every image one, or none')
    return present
