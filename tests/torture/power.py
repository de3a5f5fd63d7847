"""What a disk holds after the power went: only what was flushed is sure, the rest came through in part."""

import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class File:
    """Bytes as written, and those that a cut can't take back; a link has a target and no bytes."""

    now: bytes = b""
    sure: bytes = b""
    target: Path | None = None


@dataclass
class Folder:
    """Names as they are, those that are sure, and the changes in between, in order."""

    now: dict[str, "Node"] = field(default_factory=dict)
    sure: dict[str, "Node"] = field(default_factory=dict)
    since: list[tuple[str, "Node | None"]] = field(default_factory=list)

    def put(self, name: str, node: "Node | None") -> None:
        """A name, or none any more."""
        if node is None:
            self.now.pop(name, None)
        else:
            self.now[name] = node
        self.since.append((name, node))


Node = File | Folder


def loaded(path: Path) -> Folder:
    """A folder as it lies on a disk, all of it sure."""
    entries: dict[str, Node] = {}
    for child in path.iterdir():
        if child.is_symlink():
            entries[child.name] = File(target=child.readlink())
        elif child.is_dir():
            entries[child.name] = loaded(child)
        else:
            data = child.read_bytes()
            entries[child.name] = File(data, data)
    return Folder(dict(entries), dict(entries))


class Disk:
    """A folder whose changes are replayed, to be cut at some moment."""

    def __init__(self, root: Path, tree: Folder) -> None:
        self.root, self.tree = root, tree

    def folder(self, path: Path) -> Folder:
        """The folder at a path."""
        node: Node = self.tree
        for part in path.relative_to(self.root).parts:
            assert isinstance(node, Folder)
            node = node.now[part]
        assert isinstance(node, Folder)
        return node

    def node(self, path: Path) -> Node:
        """What lies at a path."""
        return self.tree if path == self.root else self.folder(path.parent).now[path.name]

    def replay(self, name: str, path: Path, *rest: Any) -> None:
        """One call of the layer."""
        if path != self.root and self.root not in path.parents:
            return  # of another folder: the parents of the store
        if name == "sync":
            node = self.node(path)
            if isinstance(node, File):
                node.sure = node.now
            else:
                node.sure, node.since = dict(node.now), []
            return
        above = self.folder(path.parent)
        if name in ("create", "half create"):
            above.put(path.name, File(rest[0], rest[0] if name == "create" else b""))
        elif name in ("append", "half append"):
            file = above.now.get(path.name)
            if file is None:
                file = File()
                above.put(path.name, file)
            assert isinstance(file, File)
            torn = b"\0\n" if file.now and not file.now.endswith(b"\n") and name == "append" else b""
            file.now += torn + rest[0] + (b"\n" if name == "append" else b"")
        elif name == "make_folder":
            if path.name not in above.now:
                above.put(path.name, Folder())
        elif name == "rename":
            node = above.now[path.name]
            above.put(path.name, None)
            self.folder(rest[0].parent).put(rest[0].name, node)
        elif name == "link":
            self.folder(rest[0].parent).put(rest[0].name, above.now[path.name])
        elif name == "point":
            above.put(path.name, File(target=rest[0]))
        elif name == "unlink" or (name == "remove_folder" and not getattr(above.now.get(path.name), "now", None)):
            above.put(path.name, None)

    def cut(self, target: Path, chance: random.Random) -> None:
        """Writes what is left after a cut of the power."""
        _write(self.tree, target, chance)


def _write(folder: Folder, target: Path, chance: random.Random) -> None:
    target.mkdir(parents=True)
    names = dict(folder.sure)
    for name, node in folder.since:
        if chance.random() < 0.5:
            names.pop(name, None)
            if node is not None:
                names[name] = node
    for name, node in names.items():
        path = target / name
        if isinstance(node, Folder):
            _write(node, path, chance)
        elif node.target is not None:
            path.symlink_to(node.target)
        else:
            path.write_bytes(_left(node, chance))


def _left(file: File, chance: random.Random) -> bytes:
    """Its sure bytes, and perhaps some of the others: whole, cut short, or as zeros."""
    if file.now == file.sure:
        return file.now
    extra = file.now[len(file.sure) :]
    kept = extra[: chance.randrange(len(extra) + 1)]
    return chance.choice([file.sure, file.now, file.sure + kept, file.sure + b"\0" * len(kept)])
