"""A folder of artefacts, found by alias, fingerprint, path or lineage."""

import os
import re
from pathlib import Path

from embprobe import console
from embprobe.errors import DamagedError, MissingInput, UserError, did_you_mean
from embprobe.store import disk, places, trust
from embprobe.store.artefact import SPEC, Artefact
from embprobe.store.hashes import fingerprint
from embprobe.store.question import Question

ALIASES = "names"
ALIAS = re.compile(r"[^\W_]([\w.+ -]{0,98}[\w.+-])?")
TARGET = re.compile(rf"\.\./({trust.STAGE.pattern})/({trust.FINGERPRINT.pattern})")


class Store:
    """A folder of artefacts; it may be read-only as long as nothing is made, and need not be there."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        if os.path.lexists(self.root) and not self.root.is_dir():
            raise UserError(f"{self.root} is no folder, and so no store; give another with --store")

    def open(self, stage: Question) -> Artefact:
        """The artefact that answers a stage's question, made or not."""
        spec = stage.spec()
        return Artefact(self.root, spec["stage"], fingerprint(spec), stage)

    def artefacts(self) -> list[Artefact]:
        """All there is, finished or not, oldest first."""
        dated = [(_age(path), path) for path in self.folders()]
        return [Artefact(self.root, path.parent.name, path.name) for _, path in sorted(dated)]

    def check_there(self) -> "Store":
        """Itself. Raises UserError if there is no such folder."""
        if not self.root.is_dir():
            raise UserError(f"there is no store at {self.root}; give one with --store, or start with `embprobe ingest`")
        return self

    def folders(self) -> list[Path]:
        """The folders of artefacts, whole or not. Raises UserError where they can't be read."""
        try:
            stages = [e.name for e in os.scandir(self.root) if trust.STAGE.fullmatch(e.name) and e.name != ALIASES]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise UserError(
                f"cannot read the store {self.root} ({error.strerror}); give another with --store"
            ) from None
        paths = []
        for stage in stages:
            if (self.root / stage).is_dir():
                entries = os.scandir(self.root / stage)
                paths += [
                    Path(e.path)
                    for e in entries
                    if trust.FINGERPRINT.fullmatch(e.name) and e.is_dir(follow_symlinks=False)
                ]
        return paths

    def lookup(self, word: str) -> Artefact | None:
        """An artefact by alias, fingerprint prefix or path; None if nothing is called so.

        Looks in the stores that this one knows as well. Raises UserError where a prefix fits several.
        """
        if ALIAS.fullmatch(word) and (target := self.target(word)):
            artefact = Artefact(places.home(self.root, *target), *target)
            if not artefact.path.is_dir():
                raise UserError(f"{word} names {artefact}, which is gone; `embprobe ls` lists what is there")
            return artefact
        if re.fullmatch(r"[0-9a-f]{6,32}", word):
            for root in (self.root, *places.others(self.root)):
                folders = [p for p in root.glob(f"*/{word}*") if trust.FINGERPRINT.fullmatch(p.name)]
                folders = [p for p in folders if p.parent.name != ALIASES and p.is_dir() and not p.is_symlink()]
                if len(folders) > 1:
                    listed = ", ".join(f"{p.parent.name} {p.name[:12]}" for p in folders)
                    raise UserError(f"{word} fits {len(folders)} artefacts ({listed}); give more digits")
                if folders:
                    return Artefact(root, folders[0].parent.name, folders[0].name)
        try:
            for path in (Path(word).absolute(), Path(word).resolve()):  # a link to an artefact serves as well
                if trust.STAGE.fullmatch(path.parent.name) and trust.FINGERPRINT.fullmatch(path.name) and path.is_dir():
                    return Artefact(path.parent.parent, path.parent.name, path.name)
        except (OSError, ValueError, RuntimeError):  # too long, a circle of links: no path
            pass
        return None

    def target(self, alias: str) -> tuple[str, str] | None:
        """Stage and fingerprint that an alias stands for; it is a link inside the store, or none."""
        if (self.root / ALIASES).is_symlink():
            return None
        try:
            found = TARGET.fullmatch(str((self.root / ALIASES / alias).readlink()))
        except OSError:
            return None
        return (found[1], found[2]) if found else None

    def __getitem__(self, word: str) -> Artefact:
        """An artefact by alias, prefix or path. Raises UserError."""
        artefact = self.lookup(word)
        if artefact is None:
            names = [n for n, _ in self.names()]
            raise UserError(
                f"nothing called {word!r} in {self.root}{did_you_mean(word, names)}; `embprobe ls` lists what is there"
            )
        return artefact

    def infer_input(self, option: str, made_by: tuple[str, ...], given: list[Artefact]) -> Artefact:
        """The artefact for an input that was not named: in the lineage of those given, else the only one that fits.

        One fits if, wherever its own lineage and that of the inputs given hold an artefact of the same stage, it is the
        same. Raises UserError where none or several fit.
        """
        lineage = {a for g in given for a in g.lineage()}
        inside = [a for a in lineage if a.stage in made_by]
        known = {a.stage: a for a in lineage}
        fitting = inside or [a for a in self.artefacts() if a.stage in made_by and a.complete and _goes_with(a, known)]
        dashed = option.replace("_", "-")
        if not fitting:
            raise MissingInput(
                f"--{dashed} is missing and nothing in {self.root} fits; make one with `embprobe {made_by[0]}`"
            )
        if len(fitting) > 1:
            listed = ", ".join(self.told_apart(fitting))
            raise MissingInput(f"--{dashed} is missing and {len(fitting)} artefacts fit ({listed}); name one")
        console.say(f"--{dashed} {fitting[0].short} ({'in the lineage' if inside else 'the only one that fits'})")
        return fitting[0]

    def told_apart(self, artefacts: list[Artefact]) -> list[str]:
        """Each by its alias, or its first digits and what it was asked otherwise than the others."""
        aliases = {artefact: name for name, artefact in reversed(self.names())}
        specs = [{k: v for k, v in a.options.items() if k not in a.inputs} for a in artefacts]
        differ = [k for k in specs[0] if len({repr(spec.get(k)) for spec in specs}) > 1]
        said = []
        for artefact, spec in zip(artefacts, specs, strict=True):
            options = [f"{k} {Path(str(spec.get(k))).name}" for k in differ[:2]]
            options += [f"{k} {aliases[a]}" for k, a in artefact.inputs.items() if a in aliases][:1]
            told = [artefact.stage, artefact.short, *([f"with {', '.join(options)}"] * bool(options))]
            known = aliases.get(artefact)
            said.append(f"{known} ({artefact.short})" if known else " ".join(told))
        return said

    def names(self) -> list[tuple[str, Artefact]]:
        """Aliases and what they name, whether it is there or not."""
        targets = [(link.name, self.target(link.name)) for link in self.alias_links()]
        return [(name, Artefact(places.home(self.root, *t), *t)) for name, t in targets if t]

    def alias_links(self) -> list[Path]:
        """The links in the folder of aliases, half-made ones too; none if that is a link itself."""
        folder = self.root / ALIASES
        if folder.is_symlink() or not folder.is_dir():
            return []
        return sorted(Path(entry.path) for entry in os.scandir(folder) if entry.is_symlink())

    @staticmethod
    def check_name(alias: str) -> None:
        """Raises UserError for what can't be a name."""
        if not ALIAS.fullmatch(alias) or len(alias.encode()) > 200 or re.fullmatch(r"[0-9a-f]{10,}", alias):
            raise UserError(
                f"--name {alias!r} can't be a name; take up to 100 letters, digits, spaces and . _ + - that begin with a letter "
                "or digit and are no fingerprint"
            )

    def name(self, alias: str, artefact: Artefact) -> None:
        """Gives an artefact a name; one used before moves, and it is said."""
        self.check_name(alias)
        link, target = self.root / ALIASES / alias, Path("..", artefact.stage, artefact.fingerprint)
        if link.parent.is_symlink():
            raise DamagedError(f"{link.parent} is a link; remove it, and give the name again")
        known = self.target(alias)
        if known == (artefact.stage, artefact.fingerprint):
            return
        if known:
            console.say(f"{alias} named {known[1][:10]} until now; it names {artefact.short} from here on")
        beside = link.with_name(f".{alias}.{os.getpid()}")
        try:
            if disk.make_folder(link.parent):
                disk.sync(self.root)
            disk.unlink(beside)
            disk.point(beside, target)
            disk.rename(beside, link)
            disk.sync(link.parent)
        except OSError as error:
            raise UserError(
                f"cannot write the name {link} ({error.strerror}); the artefact is {artefact.path}"
            ) from None

    def unname(self, artefact: Artefact) -> None:
        """Takes back the aliases of an artefact of this store."""
        for alias, named in self.names():
            if named == artefact and named.root == artefact.root:
                disk.unlink(self.root / ALIASES / alias)


def _age(path: Path) -> float:
    try:
        return os.lstat(path / SPEC).st_mtime
    except OSError:
        return 0.0


def _goes_with(artefact: Artefact, known: dict[str, Artefact]) -> bool:
    """Whether its lineage holds no other artefact of a stage than those known; a damaged one goes with nothing."""
    try:
        return all(known.get(b.stage, b) == b for b in artefact.lineage())
    except DamagedError:
        return False
