"""Damage: found, told, and mended; what is made again takes its place only once it is whole."""

import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from embprobe.errors import DamagedError, EmbprobeError
from embprobe.store import disk, trust
from embprobe.store.array import GROUP
from embprobe.store.artefact import MANIFEST, MANIFEST_SUM, SPEC, Artefact
from embprobe.store.files import CHECKSUMS, Folder, as_lines, digest, file_digest
from embprobe.store.log import FILE as LOG
from embprobe.store.log import MOST as LOG_MOST
from embprobe.store.trust import Json, as_json

SCRATCH, ANEW = ".repair", ".anew"  # in the artefact: where it is made again beside what is whole, or from nothing
FIXED = (SPEC, MANIFEST, MANIFEST_SUM, CHECKSUMS, LOG)


@dataclass
class Mended:
    """What came of a repair, by name."""

    remade: list[str] = field(default_factory=list)
    differ: list[str] = field(default_factory=list)  # among them, other bytes than the first
    kept: list[str] = field(default_factory=list)  # still damaged: nothing makes them again alone


@dataclass
class Found:
    """What an artefact should hold, as far as that can be known, and what it does not."""

    manifest: dict[str, Json] | None
    sums: dict[str, str]
    exact: bool  # whether `sums` are those of the manifest
    damaged: list[str]
    foreign: bool = False  # the manifest is of another question, so that nothing here need be its own


def is_made(artefact: Artefact) -> bool:
    """Whether it was finished once; its manifest may have been lost since."""
    return any(os.path.lexists(artefact.path / name) for name in (MANIFEST, MANIFEST_SUM))


def damage(artefact: Artefact) -> list[str]:
    """Names of files that are missing or whose bytes changed; what describes it included."""
    return examine(artefact).damaged


def examine(artefact: Artefact) -> Found:
    """Compares every file with its checksum, the checksums with the manifest, and the manifest with its own."""
    path, damaged = artefact.path, []
    try:
        manifest: dict[str, Json] | None = trust.manifest(path / MANIFEST, path / MANIFEST_SUM)
        if not (path / MANIFEST_SUM).exists():
            damaged.append(MANIFEST_SUM)
    except (DamagedError, FileNotFoundError):
        manifest = None
        damaged.append(MANIFEST)
    if manifest is not None:
        try:
            artefact.own(manifest)
        except DamagedError:
            return Found(None, {}, False, [MANIFEST, CHECKSUMS], foreign=True)
    with suppress(DamagedError):
        folder = Folder(path)
        sums, exact = _listed(folder, manifest)
        if folder.refused or (manifest and folder.digest != manifest["checksums"]):
            damaged.append(CHECKSUMS)
        folder.sums = sums
        damaged += [name for name in sorted(sums) if not folder.same(name)]
        return Found(manifest, sums, exact, damaged + _beside(path, manifest))
    return Found(manifest, {}, False, [*damaged, CHECKSUMS, *_beside(path, manifest)])


def _beside(path: Path, manifest: dict[str, Json] | None) -> list[str]:
    """What the manifest vouches for itself: the question and the log."""
    if manifest is None:
        return []
    asked = as_json({key: manifest[key] for key in trust.REQUEST})
    bad = [] if _bytes(path / SPEC, trust.MOST) == asked else [SPEC]
    vouched = manifest.get("log")  # not in manifests of earlier versions
    return bad if vouched in (None, digest(_bytes(path / LOG, LOG_MOST))) else [*bad, LOG]


def _bytes(path: Path, most: int) -> bytes:
    try:
        return disk.read(path, most)
    except (OSError, DamagedError):
        return b""


def _listed(folder: Folder, manifest: dict[str, Json] | None) -> tuple[dict[str, str], bool]:
    """The checksums; where their file is damaged, as the manifest vouches for them, if any reading of it fits."""
    if manifest is None or folder.digest == manifest["checksums"]:
        return folder.sums, manifest is not None and not folder.refused
    there: dict[str, str] = {}
    for name in _files(folder.path):
        with suppress(DamagedError):
            there[name] = file_digest(folder.path / name)
    for sums in (there | folder.sums, there):
        if digest(as_lines(sums)) == manifest["checksums"]:
            return sums, True
    return folder.sums, False


def _files(path: Path, below: str = "") -> Iterator[str]:
    """Names of the plain files that an artefact may have written."""
    for entry in os.scandir(path / below):
        name = f"{below}/{entry.name}" if below else entry.name
        if entry.name.startswith(".") or name in FIXED or not trust.is_plain(name):
            continue
        if entry.is_dir(follow_symlinks=False):
            yield from _files(path, name)
        elif entry.is_file(follow_symlinks=False):
            yield name


def asked(artefact: Artefact) -> dict[str, Json]:
    """What it was asked for, though its manifest be damaged. Raises DamagedError."""
    try:
        return artefact.request()
    except DamagedError:
        with suppress(OSError, DamagedError):
            return artefact.own(trust.request(artefact.path / SPEC))
        raise


def describe(artefact: Artefact, name: str) -> str:
    """A file, with the rows it holds where it is a chunk."""
    parts = name.split("/")
    if len(parts) > 3 and parts[0] == GROUP and parts[2] == "c":
        with suppress(EmbprobeError, ValueError):
            rows = artefact.array(parts[1]).rows_of(int(parts[3]))
            return f"{name} (chunk {parts[3]} of {parts[1]}, rows {rows.start} to {rows.stop - 1})"
    return name


# ---- mending


def mend(artefact: Artefact, make_again: Callable[[Artefact], None], *, anew: bool = False) -> Mended:
    """Mends what is damaged. `make_again` makes the artefact it is given, where that is not whole already.

    A repair that is cut short leaves the damage as it was, and the next one goes on with it. With `anew` all is made again
    from nothing, for what can't be made alone.
    """
    with artefact.locked(doing="mended"):
        for name in (ANEW, SCRATCH):
            if (artefact.path / name).is_symlink() or not (artefact.path / name).is_dir():
                disk.unlink(artefact.path / name)
        found = examine(artefact)
        easy = {SPEC, MANIFEST_SUM, CHECKSUMS} if found.exact else set()
        hard = [name for name in found.damaged if name not in easy]
        leftover = next((name for name in (ANEW, SCRATCH) if (artefact.path / name).is_dir()), None)
        if found.foreign and not anew:
            return Mended(kept=found.damaged)
        if hard and (anew or leftover == ANEW or hard != [LOG]):
            scratch = _scratch(artefact, found, ANEW if anew else leftover or SCRATCH)
            if not scratch.complete:
                make_again(scratch)
            mended = _install(artefact, scratch, found)
        else:
            _describe_again(artefact, found)
            mended = Mended(kept=hard)
        rest = [name for name in found.damaged if name not in mended.remade + mended.kept]
        mended.remade += [name for name in rest if os.path.lexists(artefact.path / name)]
        for name in (ANEW, SCRATCH):
            disk.remove_tree(artefact.path / name)
        return mended


def _scratch(artefact: Artefact, found: Found, name: str) -> Artefact:
    """The artefact inside itself, with its whole files unless it is made anew."""
    again = Artefact(artefact.root, artefact.stage, artefact.fingerprint, artefact.question, artefact.path / name)
    if name == ANEW or (again.path / CHECKSUMS).exists():
        return again
    disk.make_folder(again.path)
    folder = Folder(again.path)
    whole = {n: value for n, value in found.sums.items() if n not in found.damaged}
    for file in whole:
        with suppress(FileExistsError):  # of an earlier repair, cut short here
            disk.link(artefact.path / file, folder.room(file))
    rows = _bytes(artefact.path / LOG, LOG_MOST)
    if LOG not in found.damaged and rows:
        folder.place(LOG, rows)
    again.log.add(event="reopened", damaged=found.damaged)
    folder.sums = whole
    folder.save()
    return again


def _install(artefact: Artefact, again: Artefact, found: Found) -> Mended:
    """Moves what was made again into its place, then its checksums and manifest if any of it is new."""
    new, own = Folder(again.path).sums, Folder(artefact.path)
    unlike = [name for name, value in new.items() if found.sums.get(name) != value]
    anew = again.path.name == ANEW
    if found.manifest is not None and not found.exact and not anew:
        proven = [sums for sums in (found.sums | new, new) if digest(as_lines(sums)) == found.manifest["checksums"]]
        if not proven:  # another's files, perhaps, which their own checksums fit
            return Mended(kept=found.damaged)
        found = replace(found, sums=proven[0], exact=True)
    mended = Mended([n for n in found.damaged if n in new], [n for n in unlike if found.sums.get(n, new[n]) != new[n]])
    whole = {n: value for n, value in found.sums.items() if found.exact and n not in found.damaged}
    known = whole | new if anew else found.sums | new  # a name may be damaged too
    mended.kept = [n for n in found.damaged if n in known and n not in new]
    for name in dict.fromkeys([*mended.remade, *unlike]):
        own.take(again.path / name, name)
    own.settle()
    log_too = LOG in found.damaged and anew
    if found.manifest is not None and found.exact and known == found.sums and not log_too:
        mended.kept += [LOG] if LOG in found.damaged else []
        _describe_again(artefact, found)
        return mended
    own.take(again.path / LOG, LOG)
    own.sums = known
    facts = {"files": len(own.sums), "bytes": sum(_size(artefact.path / name) for name in own.sums)}
    manifest = trust.manifest(again.path / MANIFEST, again.path / MANIFEST_SUM) | facts | {"checksums": own.save()}
    own.place(SPEC, as_json({key: manifest[key] for key in trust.REQUEST}))
    own.place(MANIFEST_SUM, trust.sum_of(as_json(manifest), MANIFEST))
    own.place(MANIFEST, as_json(manifest))
    own.sweep()
    if anew or not found.exact:  # files that nothing vouches for
        mended.kept += [name for name in _files(artefact.path) if name not in own.sums]
    return mended


def _describe_again(artefact: Artefact, found: Found) -> None:
    """Writes again what the manifest vouches for, byte by byte: the question, the checksums, its own checksum."""
    if found.manifest is None or not found.exact:
        return
    own = Folder(artefact.path)
    if CHECKSUMS in found.damaged:
        own.sums = found.sums
        own.save()
    if SPEC in found.damaged:
        own.place(SPEC, as_json({key: found.manifest[key] for key in trust.REQUEST}))
    if MANIFEST_SUM in found.damaged:
        own.place(MANIFEST_SUM, trust.sum_of(disk.read(artefact.path / MANIFEST, trust.MOST), MANIFEST))
    own.sweep()


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0
