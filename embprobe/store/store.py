"""A folder of artefacts, found by alias, fingerprint, path or lineage."""

import os
import re
import shutil
from pathlib import Path

from embprobe import console
from embprobe.errors import UserError, did_you_mean
from embprobe.store.artefact import SPEC, Artefact, Question
from embprobe.store.hashes import fingerprint


class Store:
    """A folder of artefacts."""

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root).absolute()
        try:
            self.root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(
                f"cannot use {self.root} as the store ({error.strerror}); give another with --store"
            ) from None
        if not os.access(self.root, os.W_OK):
            raise UserError(f"cannot write to the store {self.root}; give another with --store")

    def open(self, stage: Question) -> Artefact:
        """The artefact that answers a stage's question, made or not."""
        spec = stage.spec()
        return Artefact(self.root, spec["stage"], fingerprint(spec), stage)

    def artefacts(self) -> list[Artefact]:
        """All there is, finished or not, oldest first."""
        folders = [p.parent for p in self.root.glob(f"*/*/{SPEC}") if not p.parent.is_symlink()]
        return [
            Artefact(self.root, p.parent.name, p.name)
            for p in sorted(folders, key=lambda p: (p / SPEC).stat().st_mtime)
        ]

    def lookup(self, word: str) -> Artefact | None:
        """An artefact by alias, fingerprint prefix or path; None if nothing is called so.

        Raises UserError where a prefix fits several.
        """
        link = self.root / "names" / word
        if "/" not in word and link.is_symlink():
            return self._at(link.resolve())
        if re.fullmatch(r"[0-9a-f]{6,32}", word):
            folders = [p for p in self.root.glob(f"*/{word}*") if (p / SPEC).exists() and not p.is_symlink()]
            if len(folders) > 1:
                listed = ", ".join(f"{p.parent.name} {p.name[:12]}" for p in folders)
                raise UserError(f"{word} fits {len(folders)} artefacts ({listed}); give more digits")
            if folders:
                return self._at(folders[0])
        path = Path(word)
        if (path / SPEC).exists():
            return self._at(path.resolve())
        return None

    def _at(self, path: Path) -> Artefact:
        if not (path / SPEC).exists():
            raise UserError(f"{path} is no artefact any more; `embprobe ls` lists what is there")
        root = self.root if path.parent.parent == self.root.resolve() else path.parent.parent
        return Artefact(root, path.parent.name, path.name)

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
        fitting = inside or [
            a
            for a in self.artefacts()
            if a.stage in made_by and a.complete and all(known.get(b.stage, b) == b for b in a.lineage())
        ]
        dashed = option.replace("_", "-")
        if not fitting:
            raise UserError(
                f"--{dashed} is missing and nothing in {self.root} fits; make one with `embprobe {made_by[0]}`"
            )
        if len(fitting) > 1:
            listed = ", ".join(f"{a.stage} {a.short}" for a in fitting)
            raise UserError(f"--{dashed} is missing and {len(fitting)} artefacts fit ({listed}); name one")
        console.say(f"--{dashed} {fitting[0].short} ({'in the lineage' if inside else 'the only one that fits'})")
        return fitting[0]

    def names(self) -> list[tuple[str, Artefact]]:
        """Aliases and what they name."""
        links = sorted((self.root / "names").glob("*")) if (self.root / "names").exists() else []
        return [
            (p.name, Artefact(self.root, p.resolve().parent.name, p.resolve().name)) for p in links if p.is_symlink()
        ]

    def name(self, alias: str, artefact: Artefact) -> None:
        """Gives an artefact a name; one used before moves, and it is said."""
        if not alias or "/" in alias or alias.startswith("."):
            raise UserError(f"--name {alias!r} can't be a name; leave out slashes and a leading dot")
        link = self.root / "names" / alias
        link.parent.mkdir(exist_ok=True)
        target = Path("..") / artefact.stage / artefact.fingerprint
        if link.is_symlink() and link.readlink() != target:
            console.say(f"{alias} named {link.readlink().name[:10]} until now; it names {artefact.short} from here on")
        beside = link.with_name(f".{alias}.{os.getpid()}")
        beside.unlink(missing_ok=True)
        beside.symlink_to(target)
        os.replace(beside, link)

    def remove(self, artefact: Artefact) -> None:
        """Removes an artefact and its aliases, whoever needs it."""
        for alias, named in self.names():
            if named == artefact:
                (self.root / "names" / alias).unlink()
        shutil.rmtree(artefact.path)
