"""Taking away: artefacts that are not wanted any more, and what kills left behind."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from embprobe import console, signals
from embprobe.errors import DamagedError, Interrupted, UserError
from embprobe.store import disk, mending, places
from embprobe.store.artefact import CHECKPOINTS, LOCK, Artefact
from embprobe.store.files import BESIDE, Folder
from embprobe.store.lock import Lock
from embprobe.store.store import Store

GONE = ".removed-"  # in front of a fingerprint: no artefact any more, its files are being removed


# ---- artefacts


def dependents(chosen: Sequence[Artefact], stores: Iterable[Store]) -> list[Artefact]:
    """Artefacts made from those chosen, by way of others too: nearest last. One that can't be read tells of none."""
    users: dict[Path, list[Artefact]] = {}
    for artefact in {a.path: a for store in stores for a in store.artefacts()}.values():
        for needed in _needed(artefact):
            users.setdefault(needed, []).append(artefact)
    found: dict[Path, Artefact] = {}
    queue = [a.path for a in chosen]
    while queue:
        fresh = [a for a in users.get(queue.pop(0), []) if a.path not in found]
        found |= {a.path: a for a in fresh}
        queue += [a.path for a in fresh]
    return [a for a in reversed(found.values()) if a.path not in {c.path for c in chosen}]


def _needed(artefact: Artefact) -> Iterator[Path]:
    """Where the artefacts lie that one was made from, as far as it can still be read."""
    try:
        named = mending.asked(artefact)["inputs"]
    except DamagedError:
        console.say(f"{artefact.path} can't be read, and so nobody knows what it was made from")
        return
    for stage, fingerprint in named.values():
        yield places.home(artefact.root, stage, fingerprint) / stage / fingerprint


def related(artefacts: Sequence[Artefact], store: Store) -> list[Store]:
    """The stores in which something may have been made from these artefacts."""
    roots = dict.fromkeys([*(a.root for a in artefacts), store.root])
    roots |= dict.fromkeys(other for root in list(roots) for other in places.others(root))
    return [Store(root) for root in roots if root.is_dir()]


def check_removable(artefact: Artefact, store: Store) -> None:
    """Raises UserError for a folder that is no artefact's: one in no store at all, or behind a link."""
    if artefact.path.is_symlink() or artefact.path.parent.is_symlink():
        raise UserError(f"{artefact.path} lies behind a link; go to the store that it is in, and remove it there")
    if artefact.root == store.root:
        return
    try:
        mending.asked(artefact)
    except DamagedError as error:
        raise UserError(f"{artefact.path} is not removed: {error}; give its store with --store if it is one") from None


def remove(artefact: Artefact) -> None:
    """Removes an artefact and its aliases. Raises Interrupted while another process makes it."""
    gone = artefact.path.with_name(f"{GONE}{artefact.fingerprint}")
    with _alone(artefact, "made"):
        disk.remove_tree(gone)
        disk.rename(artefact.path, gone)
        disk.sync(gone.parent)
    Store(artefact.root).unname(artefact)
    disk.remove_tree(gone)
    disk.sync(gone.parent)


def withdraw(artefact: Artefact) -> None:
    """Takes back a request of which nothing was made; for the one who holds it."""
    if not artefact.folder.sums:
        gone = artefact.path.with_name(f"{GONE}{artefact.fingerprint}")
        disk.rename(artefact.path, gone)
        disk.remove_tree(gone)


@contextmanager
def _alone(artefact: Artefact, doing: str) -> Iterator[None]:
    try:
        with Lock(artefact.path / LOCK).held(wait=False, what=f"{artefact.stage} {artefact.short}", doing=doing):
            yield
    except OSError as error:
        raise UserError(f"cannot change {artefact.path} ({error.strerror or error})") from None


# ---- litter


@dataclass(frozen=True)
class Litter:
    """Something that nobody needs."""

    path: Path
    why: str
    artefact: Artefact | None  # to hold while it is removed

    @property
    def bytes(self) -> int:
        """What it takes on the disk."""
        return size_of(self.path)


def litter(store: Store) -> Iterator[Litter]:
    """What kills left behind, and requests of which nothing was ever made; nothing that a result or a retry needs."""
    for path in store.folders():
        signals.check()
        if path.parent.is_symlink():
            continue  # of another store
        artefact = Artefact(store.root, path.parent.name, path.name)
        yield from (Litter(p, why, artefact) for p, why in _left_in(artefact))
    gone = (p for p in sorted(store.root.glob(f"*/{GONE}*")) if not p.parent.is_symlink() and not p.is_symlink())
    yield from (Litter(path, "removal cut short", None) for path in gone)
    for link in store.alias_links():
        target = store.target(link.name)
        if target is None or not places.home(store.root, *target).joinpath(*target).is_dir():
            yield Litter(link, "names nothing that is there", None)
        elif link.name.startswith("."):
            yield Litter(link, "half-made name", None)


def _left_in(artefact: Artefact) -> Iterator[tuple[Path, str]]:
    path, made = artefact.path, mending.is_made(artefact)
    if not made and _is_empty(artefact):
        if not dependents([artefact], related([artefact], Store(artefact.root))):
            yield path, "asked for, and nothing made yet"
        return
    if (path / BESIDE).exists():
        yield path / BESIDE, "half-written files"
    for old in (*path.glob(f"{LOCK}.*"), *path.glob("manifest.before.json"), *path.rglob("*.part*")):
        if old.name.startswith(".") or old.name.endswith((".partial", ".json")):
            yield old, "half-written file"
    if made and (path / CHECKPOINTS).exists():
        yield path / CHECKPOINTS, "checkpoints of finished work"
    repairs = [path / name for name in (mending.SCRATCH, mending.ANEW) if (path / name).exists()]
    if repairs and not mending.damage(artefact):
        yield from ((p, "repair of what is whole") for p in repairs)


def _is_empty(artefact: Artefact) -> bool:
    """Whether an unfinished artefact holds nothing but what was asked."""
    with suppress(DamagedError):
        return not Folder(artefact.path).sums and not any(artefact.path.glob("[!.]*/"))
    return False


def discard(item: Litter) -> bool:
    """Removes a piece of litter; False where somebody is at work there, or it is none any more."""
    if item.artefact is None:
        _away(item.path)
        return True
    try:
        with _alone(item.artefact, "made"):
            if item.path not in {path for path, _ in _left_in(item.artefact)}:
                return False
            if item.path != item.artefact.path:
                _away(item.path)
                return True
        remove(item.artefact)
    except Interrupted:
        return False
    return True


def _away(path: Path) -> None:
    disk.remove_tree(path) if path.is_dir() and not path.is_symlink() else disk.unlink(path)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; links count nothing."""
    if not path.is_dir() or path.is_symlink():
        return path.lstat().st_size if os.path.lexists(path) else 0
    return sum(size_of(Path(entry.path)) for entry in os.scandir(path))
