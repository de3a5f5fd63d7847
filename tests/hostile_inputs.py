"""Hostile inputs by family: each writes its files below a folder and gives the command line that meets them."""

# ruff: noqa: E501
import io
import itertools
import json
import os
import pickle
import socket
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

Words = list[object]
Case = tuple[str, Callable[[Path], Words], tuple[int, ...]]  # name, command line, the exit codes that are right
WRONG = (2, 3)
EITHER = (0, 2, 3)  # harmless where it happens to be readable

ESCAPES = ("\x1b]0;owned\x07", "\x1b[2J", "\x7f", "\x9b31m", "\u202etxt", "\u2066x\u2069", "\u2028", "a\nb", "a\rb", "\t", "\x08" * 9, "\ufeff")  # fmt: skip


def picture(size: int = 8, kind: str = "PNG", mode: str = "RGB") -> bytes:
    """One small image of noise."""
    levels = np.random.default_rng(0).integers(0, 255, (size, size, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(levels).convert(mode).save(buffer, kind)
    return buffer.getvalue()


def source(name: str, write: Callable[[Path], object], codes: tuple[int, ...] = WRONG, *more: object) -> Case:
    """A file or folder that is given to ingest."""

    def words(folder: Path) -> Words:
        write(folder / name)
        return ["ingest", "--source", folder / name, "--size", 8, "--store", folder / "store", *more]

    return name, words, codes


def recipe(text: str, *sets: str) -> Case:
    """A recipe that is only planned; where nothing is wrong with its YAML, something must be with its steps."""

    def words(folder: Path) -> Words:
        (folder / "r.yaml").write_text(text, encoding="utf-8", errors="surrogateescape")
        return ["plan", folder / "r.yaml", "--store", folder / "store", *(w for s in sets for w in ("--set", s))]

    return text[:60], words, WRONG


def plain(*words: object) -> Case:
    """A command line that needs no files."""
    return " ".join(map(str, words))[:80], lambda folder: [*words, "--store", folder / "store"], WRONG


# ---- recipes


def recipes() -> Iterator[Case]:
    """YAML that no recipe is."""
    step = "steps: [{ingest: {source: planted, count: $a}}]"
    for bracket in ("[", "{a: ", "- ", "? ", "[[", "{", "a: [", "!!set {"):
        for count in (60, 2000, 20_000):
            yield recipe(bracket * count)
    for unit in ("[{r}]", "{{k: [{r}]}}", "{{<<: [{r}]}}"):
        for width in (2, 9, 40):
            letters = "abcdefghijklmnopqrstuvwxyz"
            first = "a: &a {x: y}\n" if "<<" in unit else "a: &a [x, x]\n"
            rows = "".join(
                f"{c}: &{c} " + unit.format(r=", ".join([f"*{p}"] * width)) + "\n"
                for p, c in itertools.pairwise(letters)
            )
            yield recipe(first + rows + "steps: [{ingest: {source: *z}}]")
    for text in ("&a [*a]", "&a {a: *a}", "a: &a {<<: *a}", "steps: &a [{for: *a, steps: *a}]", "&a [[*a]]"):
        yield recipe(text)
    for length in (300_000, 3_000_000):
        yield recipe("#" * length)
        yield recipe("about: " + "x" * length)
    for n in (101, 10_001, 10**5, 10**9):
        yield recipe(
            f"set: {{a: {list(range(min(n, 20_000)))}}}\nsteps: [{{for: {{x: $a, y: $a}}, steps: [{{toy: 1}}]}}]"
        )
    for levels in (2, 5, 9):
        inner = "{ingest: {source: planted}}"
        for level in range(levels):
            inner = f"{{for: {{n{level}: {list(range(150))}}}, steps: [{inner}]}}"
        yield recipe(f"steps: [{inner}]")
        axes = ", ".join(f"n{level}: {list(range(120))}" for level in range(levels))
        yield recipe(f"steps: [{{for: {{{axes}}}, steps: [{{ingest: {{source: planted}}}}]}}]")
        yield recipe(f"steps: [{{for: {{{axes}}}, steps: []}}]")
    for count in (200, 2000):
        inner = "{ingest: {source: $n9}}"
        for level in range(9, 0, -1):
            word = f"$n{level - 1}" * count if level > 1 else "x" * 50
            inner = f"{{for: {{n{level}: ['{word}']}}, steps: [{inner}]}}"
        yield recipe(f"steps: [{inner}]")
        inner = "{ingest: {source: $n9}}"
        for level in range(9, 0, -1):
            items = ", ".join([f"$n{level - 1}"] * count) if level > 1 else "x"
            inner = f"{{for: {{n{level}: [[{items}]]}}, steps: [{inner}]}}"
        yield recipe(f"steps: [{inner}]")
    odd = ("3", "null", "3.5", "true", "2001-01-01", "[1]", "{a: 1}", "!!binary aGk=", "~", "'\\0'", '"\\x1b[2J"')
    for key in odd:
        yield recipe(f"set: {{{key}: 1}}\n{step}")
        yield recipe(f"{key}: 1\n{step}")
        yield recipe(f"steps: [{{{key}: {{source: planted}}}}]")
        yield recipe(f"steps: [{{ingest: {{{key}: planted}}}}]")
        yield recipe(f"steps: [{{for: {{{key}: [1]}}, steps: [{{ingest: {{source: planted, count: $a}}}}]}}]")
        yield recipe(f"steps: [{{ingest: {key}}}]")
        yield recipe(f"steps: {key}")
        yield recipe(f"steps: [{{for: {key}, steps: [{key}]}}]")
    for word in ("!!int x", "!!int ''", "!!timestamp x", "2001-99-99", "!!bool z", "!!float z", "!!binary x", "!!omap [1]",
                 "!!python/object/apply:os.system [ls]", "9" * 5000, "9" * 400, "1:" * 5000 + "1", ".nan", ".inf", "-1",
                 "1e999", "0x" + "f" * 500, "!!set {x}", "[]", "{}"):  # fmt: skip
        yield recipe(f"set: {{a: {word}}}\n{step}")
        yield recipe("set: {a: 1}\n" + step, f"a={word}")
    for nothing in (
        "",
        "\0",
        "---\n---\n",
        "%YAML 9.9\n---\na",
        "\udcff\udcfe",
        "\x1b[2J",
        "steps",
        "[]",
        "''",
        "a: 1\na",
    ):
        yield recipe(nothing)
    yield recipe('steps: [{ingest: {source: "a\\0b.zip"}}]')
    yield recipe(f"steps: [{{ingest: {{source: {'y' * 5000}}}}}]")
    yield recipe(f"steps: [{{ingest: {{source: {'y/' * 3000}x.zip}}}}]")


# ---- archives


def zip_of(path: Path, *names: str, data: bytes | None = None, how: int = zipfile.ZIP_STORED) -> bytearray:
    """A zip of images under these names, as bytes too."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name in names:
            archive.writestr(name, picture() if data is None else data)
    return bytearray(path.read_bytes())


def patched(path: Path, signature: bytes, offset: int, value: bytes) -> None:
    """The zip with bytes replaced in every header of a kind."""
    data, place = bytearray(path.read_bytes()), -1
    while (place := data.find(signature, place + 1)) >= 0:
        data[place + offset : place + offset + len(value)] = value
    path.write_bytes(data)


def zips() -> Iterator[Case]:
    """Zips that lie, climb out, or unpack without end."""
    for name in ("../a.png", "/etc/a.png", "a/../../b.png", "C:/a.png", "..\\a.png", "a/..", "//x/a.png", "./../a.png"):
        yield source("climbs.zip", lambda p, n=name: zip_of(p, "ok.png", n, data=picture()))
    for text in ESCAPES:
        yield source("named.zip", lambda p, t=text: zip_of(p, f"{t}.png", data=b"no image"))
        yield source("twice.zip", lambda p, t=text: zip_of(p, f"a{t}.png", f"./a{t}.png"))
    for how in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield source("packed.zip", lambda p, h=how: zip_of(p, "a.png", data=bytes(1 << 20), how=h))

    def sized(path: Path, size: int, packed: bytes) -> None:
        zip_of(path, "a.png", "b.png", data=packed, how=zipfile.ZIP_DEFLATED)
        patched(path, b"PK\x01\x02", 24, struct.pack("<I", size))

    for size in (0, 1, 1000, 1 << 26, (1 << 31) - 1, 1 << 31, (1 << 32) - 2, (1 << 32) - 1):
        yield source("claims.zip", lambda p, s=size: sized(p, s, picture()), EITHER)
        yield source("hides.zip", lambda p, s=size: sized(p, s, bytes(1 << 24)))
    for where, value in ((16, b"\0\0\0\0"), (20, b"\xff\xff\xff\x7f"), (20, b"\0\0\0\0"), (42, b"\xff\xff\xff\x7f"), (42, b"\1\0\0\0"),
                         (10, b"\x09\0"), (10, b"\x63\0"), (8, b"\1\0"), (6, b"\xff\0"), (28, b"\xff\xff"), (30, b"\xff\xff"), (8, b"\0\x08")):  # fmt: skip
        yield source(
            "lies.zip",
            lambda p, w=where, v=value: (zip_of(p, "a.png", "b.png"), patched(p, b"PK\x01\x02", w, v)),
            EITHER,
        )
    for where, value in ((8, b"\xff\xff"), (10, b"\xff\xff"), (12, b"\xff\xff\xff\xff"), (16, b"\xff\xff\xff\xff"), (16, b"\0\0\0\0"), (20, b"\xff\xff")):  # fmt: skip
        yield source(
            "ends.zip", lambda p, w=where, v=value: (zip_of(p, "a.png"), patched(p, b"PK\x05\x06", w, v)), EITHER
        )

    def overlapping(path: Path) -> None:
        zip_of(path, *(f"{i}.png" for i in range(200)), data=bytes(1 << 18), how=zipfile.ZIP_DEFLATED)
        patched(path, b"PK\x01\x02", 42, b"\0\0\0\0")

    yield source("overlaps.zip", overlapping)
    yield source("deep.zip", lambda p: zip_of(p, "a/" * 5000 + "a.png", "a/" * 5000 + "b.txt", data=b"x"))
    yield source("longname.zip", lambda p: zip_of(p, "n" * 60_000 + ".png", data=b"x"))
    yield source("many.zip", lambda p: zip_of(p, *(f"{i}.txt" for i in range(5000)), data=b""))
    yield source("in.zip", lambda p: p.write_bytes(bytes(zip_of(p, "a.png"))[:-30]))
    yield source("zeros.zip", lambda p: p.write_bytes(bytes(1 << 16)))
    yield source("empty.zip", lambda p: p.write_bytes(b""))


def header(name: str, size: int, kind: bytes = b"0", link: str = "") -> bytes:
    """A tar's header block, whatever size it claims."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = 0, kind, link
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT)[-512:])
    if 0 <= size < 8**11:
        block[124:136] = b"%011o\0" % size
    else:
        block[124:136] = (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=size < 0)
    block[148:156] = b"%06o\0 " % (sum(block[:148]) + 256 + sum(block[156:]))
    return bytes(block)


def padded(data: bytes) -> bytes:
    """Whole blocks."""
    return data + bytes(-len(data) % 512)


def tars() -> Iterator[Case]:
    """Tars that lie, climb out, hold devices, or never end."""
    good = header("a.png", len(picture())) + padded(picture())
    end = bytes(1024)

    def of(*parts: bytes) -> Callable[[Path], object]:
        return lambda path: path.write_bytes(b"".join(parts))

    for name in ("../a.png", "/etc/a.png", "a/../../b.png", "C:/a.png", "..\\a.png"):
        yield source("climbs.tar", of(good, header(name, len(picture())), padded(picture()), end))
    for kind in (b"1", b"2", b"3", b"4", b"6", b"S"):
        yield source("kinds.tar", of(good, header("b.png", 0, kind, "/dev/zero"), end))
    for size in (-1, -512, -1024, -(1 << 40), 1 << 20, 1 << 33, 1 << 40, 1 << 62, (1 << 87) - 1):
        yield source("sizes.tar", of(good, header("b.png", size), end))
        yield source("first.tar", of(header("b.png", size), good, end))
        for kind in (b"x", b"g", b"L", b"K", b"S", b"V", b"M"):
            yield source(
                f"header{kind.decode()}.tar", of(good, header("pax", size, kind), padded(b"20 path=b.png\n"), good, end),
                EITHER if kind in (b"V", b"M") else WRONG,
            )  # fmt: skip
    for words in (b"9" * 30_000, b"12 size=-512\n", b"19 size=-99999999\n", b"99999999999 path=x\n", b"0 path=x\n", b"x=1\n", b"=\n",
                  b"29 GNU.sparse.size=100000000\n", b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n27 GNU.sparse.name=a.png\n",
                  b"25 GNU.sparse.map=1,2,3,4\n", b"20 path=\xff\xfe.png\n\n\n", b"23 path=" + b"\x1b[2J.png\n", b"18 size=999999999\n"):  # fmt: skip
        yield source(
            "pax.tar", of(header("pax", len(words), b"x"), padded(words), header("b.png", 0), good[:512], end), EITHER
        )
    for kind, data in ((b"x", b"11 path=ab\n"), (b"L", b"ab"), (b"K", b"ab")):
        yield source("rows.tar", of((header("pax", len(data), kind) + padded(data)) * 3000, good, end), EITHER)
    yield source(
        "longname.tar", of(header("long", 60_000, b"L"), padded(b"n" * 60_000), header("x", 1), padded(b"x"), end)
    )
    for length in (1, 100, 511, 600, len(good) - 1):
        yield source("cut.tar", of(good, good[:length]))
    yield source("torn.tar", of(good, b"\x01" * 512, good, end))
    for name, data in (("a.json", b"[" * 100_000), ("a.json", b'{"label": "\\ud800"}'), ("a.cls", b"\xff"), ("a.json", b"{"),
                       ("a.json", b'{"cls": ' + b"9" * 9000 + b"}"), ("a.cls", b"\x1b[2J"), ("a.txt", bytes(2 << 20))):  # fmt: skip
        bad = header("b.png", 2) + padded(b"no")
        yield source("beside.tar", of(good, header(name, len(data)), padded(data), bad, end))
    yield source("zeros.tar", lambda p: p.write_bytes(bytes(10_240)))
    yield source("empty.tar", lambda p: p.write_bytes(b""))
    for tail in ("{0..999999999}", "{0..9999}{0..9999}", "{0..99}{0..99}{0..99}{0..99}", "{5..1}", "{0..99999999999999999999}",
                 "{" + "9" * 5000 + ".." + "9" * 5001 + "}", "{}", "{a..b}", "{0..1}/../{0..2}", "{000000001..200000}"):  # fmt: skip
        yield f"braces {tail[:30]}", lambda folder, t=tail: ["ingest", "--source", f"{folder}/s{t}.tar"], WRONG


# ---- folders and single files


def nodes() -> Iterator[Case]:
    """What is no plain file, in the place of every file that a command opens."""

    def bound_socket(path: Path) -> None:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path is short
        try:
            socket.socket(socket.AF_UNIX).bind(path.name)
        finally:
            os.chdir(here)

    def self_link(path: Path) -> None:
        path.symlink_to(path.name)

    kinds: dict[str, Callable[[Path], object]] = {
        "fifo": os.mkfifo,
        "socket": bound_socket,
        "zero": lambda p: p.symlink_to("/dev/zero"),
        "null": lambda p: p.symlink_to("/dev/null"),
        "dangling": lambda p: p.symlink_to("nowhere"),
        "self": self_link,
        "fifo behind a link": lambda p: (os.mkfifo(p.parent / "pipe"), p.symlink_to("pipe")),
        "folder": Path.mkdir,
    }
    for kind, make in kinds.items():
        for name in ("x.zip", "x.tar", "x.csv", "x.jsonl", "x.npy", "x.npz", "x.parquet", "x.arrow", "x.rar"):
            yield f"{kind} {name}", source(name, make)[1], WRONG
        if kind != "folder":

            def inside(folder: Path, m: Callable[[Path], object] = make) -> None:
                folder.mkdir()
                (folder / "ok.png").write_bytes(picture())
                (folder / "cat").mkdir()
                m(folder / "cat" / "x.png")

            yield f"{kind} among images", source("faces", inside)[1], WRONG

        def row(path: Path, m: Callable[[Path], object] = make) -> None:
            m(path.parent / "x.png")
            path.write_text('{"path": "x.png"}\n')

        yield f"{kind} in a manifest", source("set.jsonl", row)[1], WRONG
        for words in (
            ("extract", "--images", "images", "--encoder", "timm:vit_tiny_patch16_224", "--weights"),
            ("evaluate", "--samples", "samples", "--reference", "images", "--judges"),
            ("decode", "--latents", "latents", "--perceptual", "lpips-squeeze", "--perceptual-weights"),
            ("run",),
        ):
            name = "x.yaml" if words == ("run",) else "x.pth"
            yield f"{kind} for {words[0]}", lambda f, m=make, w=words, n=name: (m(f / n), [*w, f / n])[1], WRONG


def columns() -> Iterator[Case]:
    """Parquet and Arrow files cut, flipped and of other columns; saved sets, metadata and names that point astray."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = pa.table(
        {"image": [picture()] * 6, "label": list("ababab"), "text": ["\u202e", "\x1b[2J", "c", "d", "e", "f"]}
    )

    def written(path: Path, table: "pa.Table" = rows) -> bytes:
        if path.suffix == ".parquet":
            pq.write_table(table, path)
        else:
            with pa.ipc.new_stream(str(path), table.schema) as writer:
                writer.write_table(table)
        return path.read_bytes()

    def cut(path: Path, length: int) -> None:
        path.write_bytes(written(path)[:length])

    def flipped(path: Path, place: int) -> None:
        data = bytearray(written(path))
        data[place % len(data)] ^= 0xFF
        path.write_bytes(data)

    for name in ("set.parquet", "set.arrow"):
        for length in (0, 1, 7, 8, 100, -1, -8, -300):
            yield source(name, lambda p, n=length: cut(p, n), EITHER)
        for place in range(-400, 400, 40):
            yield source(name, lambda p, n=place: flipped(p, n), EITHER)
        for other in ({"image": [1]}, {"a": ["x"]}, {"image": [b"x"]}, {"image": [None]}, {"image": [{"bytes": 3}]}, {"image": pa.array([], pa.binary())},
                      {"image": [{"bytes": None, "path": "/etc/passwd"}]}, {"image": [picture()], "split": ["\x1b[2J"]}):  # fmt: skip
            yield source(name, lambda p, o=other: written(p, pa.table(o)))
    noted = (b"[]", b'{"info": 3}', b'{"info": {"features": []}}', b"[" * 100_000, b"\xff",
             b'{"info": {"features": {"label": {"_type": "ClassLabel", "names": 3}}}}')  # fmt: skip
    for text in noted:
        yield source(
            "set.parquet", lambda p, t=text: written(p, rows.replace_schema_metadata({b"huggingface": t})), EITHER
        )
    for text in ("", "[", "3", "{}", '{"_data_files": 3}', '{"_data_files": [{"filename": "../../canary"}]}', '{"_data_files": [3]}',
                 '{"_data_files": []}', "[" * 100_000, '{"splits": ["../canary"]}', '{"splits": ["\\u0000"]}', '{"splits": ["x"]}'):  # fmt: skip
        for name in ("state.json", "dataset_dict.json"):

            def saved(path: Path, t: str = text, n: str = name) -> None:
                path.mkdir()
                (path / "dataset_info.json").write_text("{}")
                (path / n).write_text(t)

            yield source("saved", saved)
    for text in ("file_name\n../../canary/a.png\n", "file_name\n/etc/passwd\n", "file_name\n\0\n", 'file_name,text\n"a\n',
                 "file_name,split\na.png,\x1b[2J\n", "file_name," + "c," * 5000 + "\na.png\n"):  # fmt: skip

        def beside(path: Path, t: str = text) -> None:
            path.mkdir()
            (path / "a.png").write_bytes(picture())
            (path / "metadata.csv").write_text(t)

        yield source("beside", beside, EITHER)
    for text in ("", "[", "a", "a" * 100_000, "a " + "x" * 100_000, '{"a": 1}', "\0", "[" * 100_000):
        for name in ("names.txt", "names.json", "names.csv"):

            def named(folder: Path, t: str = text, n: str = name) -> Words:
                (folder / n).write_text(t)
                for label in "ab":
                    (folder / "set" / label).mkdir(parents=True)
                    (folder / "set" / label / "1.png").write_bytes(picture())
                return ["ingest", "--source", folder / "set", "--class-names", folder / n, "--store", folder / "store"]

            yield f"class names {text[:20]}", named, WRONG


def comparisons() -> Iterator[Case]:
    """Names and samples that are none."""
    for word in (*(f"a{escape}={{set}}" for escape in ESCAPES), "=", "==", "a=", "=x", "../a={set}", "a/b={set}", "<b>={set}", "a" * 100 + "={set}",
                 "a=\0", "a=" + "x" * 5000, "a=-", "a=/dev/zero", "a=/proc/self/mem", "a=~nobody/x"):  # fmt: skip

        def words(folder: Path, w: str = word) -> Words:
            (folder / "set").mkdir()
            (folder / "set" / "1.png").write_bytes(picture())
            given = w.replace("{set}", str(folder / "set"))
            return ["compare", "--samples", given, "--reference", "images", "--judges", "pixels"]

        yield f"samples {word[:30]!r}", words, WRONG


def tables() -> Iterator[Case]:
    """Manifests of one endless line, of no characters, of rows that point astray."""
    long = "x" * (2 << 20)
    for name in ("set.csv", "set.jsonl"):
        for text in (long, "path\n" + long, f'path\n"{long}', "path\0\n", "", "\n\n", "\ufeff", "path\n\0.png\n", "[" * 100_000,
                     '{"path": "' + long + '"}', '{"path": "\\ud800.png"}', '{"path": "\\u0000"}', '{"path": ["a"]}', "null", "3",
                     '{"path": "' + "y" * 300 + '"}', '{"path": "' + "y/" * 3000 + '"}', '{"path": 9' + "9" * 5000 + "}",
                     "path," + ",".join(f"c{i}" for i in range(5000)) + "\na.png\n", "path,label\n../../../../etc/passwd,x\n",
                     "path\n/etc/passwd\n", "path\n.\n", "path\n..\n", "path\n/dev/zero\n", "path\n/proc/self/mem\n",
                     'path,split\n"a\x1b[2J.png",x\n', '{"path": "\\u001b[2J.png"}', '{"path": "a.png", "split": "\\u202e"}',
                     "path\n" + "," * 100_000, 'path\n"a\n' * 3, "path,path\na,b\n", '{"path": "a.png", "path": "b.png"}'):  # fmt: skip
            yield source(name, lambda p, t=text: p.write_text(t, encoding="utf-8", errors="surrogateescape"))
        yield source(name, lambda p: p.write_bytes(b"path\n\xff\xfe.png\n"))
        for label in ("\\ud800", "\\u001b[2J"):

            def bad(path: Path, label: str = label) -> None:
                (path.parent / "a.png").write_bytes(b"no image")
                path.write_text(f'{{"path": "a.png", "label": "{label}"}}\n')

            yield source("set.jsonl", bad)


def npy(
    shape: str, dtype: str = "|u1", data: bytes = bytes(64), version: bytes = b"\1\0", length: int | None = None
) -> bytes:
    """An .npy that says what it likes of itself."""
    words = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape}, }}".encode()
    words += b" " * (-(len(words) + 11) % 64) + b"\n"
    size = len(words) if length is None else length
    return b"\x93NUMPY" + version + struct.pack("<H" if version == b"\1\0" else "<I", size) + words + data


def arrays() -> Iterator[Case]:
    """Arrays of absurd shapes, of objects, packed without end."""
    shapes = ("(1000000000000000000, 8, 8)", "(-1, 8, 8)", "(-8, -8, 1)", "(1, 99999999999999999999, 8)", "()", "(8,)", "(0, 8, 8)",
              "(1, 8, 8, 1, 1)", "(4294967296, 4294967296, 4)", "(1.5, 8, 8)", "('a', 8, 8)", "((1, 8), 8, 8)", "[1, 8, 8]",
              "(True, 8, 8)", "(1, 8, 9)", "1 8", "(" * 3000, "__import__('os')", "(1, 8, 8")  # fmt: skip
    for shape in shapes:
        yield source("a.npy", lambda p, s=shape: p.write_bytes(npy(s)), EITHER if "True" in shape else WRONG)
    for dtype in ("|O", "<f4", "|V8", "<U9999999", "|S0", "<M8[ns]", "nonsense", "|u1,|u1", "\x1b[2J"):
        yield source("a.npy", lambda p, d=dtype: p.write_bytes(npy("(1, 8, 8)", d)))
    yield source("a.npy", lambda p: np.save(p, np.array([{"a": 1}] * 3, object), allow_pickle=True))
    for length in (0, 1, 65_000, 1 << 31, (1 << 32) - 1):
        yield source("a.npy", lambda p, n=length: p.write_bytes(npy("(1, 8, 8)", version=b"\2\0", length=n)))
        yield source("a.npy", lambda p, n=length: p.write_bytes(npy("(1, 8, 8)", version=b"\3\0", length=n)))
    for cut in (0, 5, 9, 12, 40, 100):
        yield source("a.npy", lambda p, n=cut: p.write_bytes(npy("(1, 8, 8)")[:n]))

    def npz(path: Path, data: bytes, how: int = zipfile.ZIP_DEFLATED) -> None:
        with zipfile.ZipFile(path, "w", how) as archive:
            archive.writestr("images.npy", data)

    for how in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield source("a.npz", lambda p, h=how: npz(p, npy("(1000000000000000000, 8, 8)"), h))
        yield source("a.npz", lambda p, h=how: npz(p, npy("(1, 8, 8)", "|O"), h))
        yield source("a.npz", lambda p, h=how: npz(p, b"no array", h))
    yield source("b.npz", lambda p: np.savez(p, other=np.zeros(3)))
    yield source("b.npz", lambda p: np.savez(p, images=np.zeros((3, 8, 8), np.uint8), label=np.zeros(2)))


def pictures() -> Iterator[Case]:
    """Files that call themselves images."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def png(width: int, height: int, *extra: bytes, depth: int = 8, colour: int = 2) -> bytes:
        first = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
        return (
            b"\x89PNG\r\n\x1a\n"
            + first
            + b"".join(extra)
            + chunk(b"IDAT", zlib.compress(bytes(100)))
            + chunk(b"IEND", b"")
        )

    def faces(data: bytes, name: str = "x.png") -> Callable[[Path], None]:
        def write(folder: Path) -> None:
            folder.mkdir()
            (folder / name).write_bytes(data)

        return write

    for width, height in (
        (1 << 31, 1),
        (65_535, 65_535),
        (0, 8),
        ((1 << 31) - 1, (1 << 31) - 1),
        (9_000, 9_999),
        (8, 8),
    ):
        yield source("faces", faces(png(width, height)), EITHER if width == 8 else WRONG)
        yield source("faces", faces(b"P6 %d %d 255\n" % (width, height)))
        yield source("faces", faces(b"GIF89a" + struct.pack("<HHBBB", width & 0xFFFF, height & 0xFFFF, 0, 0, 0) + b";"))
        yield source("faces", faces(b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, width % (1 << 31), -(height % (1 << 31)), 1, 24, 0, 0, 0, 0, 0, 0)))  # fmt: skip
    bomb = zlib.compress(bytes(80 << 20))
    for kind, data in ((b"zTXt", b"k\0\0" + bomb), (b"iTXt", b"k\0\1\0\0\0" + bomb), (b"iCCP", b"k\0\0" + bomb), (b"tEXt", b"k\0" + b"x" * (2 << 20)),
                       (b"eXIf", b"MM\0*\0\0\0\x08\xff\xff"), (b"acTL", b"\xff" * 8)):  # fmt: skip
        yield source("faces", faces(png(8, 8, chunk(kind, data))), EITHER)  # Pillow passes over what is no pixel
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(/etc/passwd) (r) file quit\n"
    for name in ("x.png", "x.jpg", "x.tif"):
        for data in (postscript, b"\xc5\xd0\xd3\xc6" + struct.pack("<II", 32, 90) + bytes(20) + postscript, b"%PDF-1.4\n", b"\xd7\xcd\xc6\x9a" + bytes(80),
                     b"qoif" + bytes(20), b"", b"\0", b"<svg/>", b"\x1b[2J", b"8BPS\0\1" + bytes(40), b"II*\0\x08\0\0\0\xff\xff"):  # fmt: skip
            yield source("faces", faces(data, name))
    loop = b"II*\0\x08\0\0\0" + struct.pack("<H", 1) + struct.pack("<HHII", 256, 4, 1, 8) + struct.pack("<I", 8)
    yield source("faces", faces(loop, "x.tif"))
    for kind in ("PCX", "TGA", "ICO", "DDS", "SGI", "IM", "SPIDER", "XBM", "MSP"):
        mode = {"XBM": "1", "MSP": "1", "SPIDER": "F"}.get(kind, "RGB")
        yield source("faces", lambda p, k=kind, m=mode: faces(picture(16, k, m))(p))
    for text in (*ESCAPES, "\udcff", "-rf", " ", "x" * 250):

        def odd(folder: Path, text: str = text) -> None:
            (folder / text / "c").mkdir(parents=True)
            (folder / text / f"{text[:200]}.png").write_bytes(b"no image")
            (folder / text / "c" / "y.png").write_bytes(b"no image")

        yield source("faces", odd)
        yield source("faces", odd, WRONG, "--label-regex", "(zzz)")


# ---- weights, options, references


class Code:
    """What a malicious file would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (os.system, ("touch canary/OWNED",))


WEIGHTS = (
    ("extract", "--images", "images", "--encoder", "timm:vit_tiny_patch16_224", "--weights"),
    ("evaluate", "--samples", "samples", "--reference", "images", "--judges"),
)


JUDGED = ("empty", "code", "cut", "bomb", "deep", "huge header")  # others are compared with all networks of torchvision


def weights() -> Iterator[Case]:
    """Weights files that lie, run code, or are none."""
    import torch

    def saved(content: object, **more: object) -> bytes:
        buffer = io.BytesIO()
        torch.save(content, buffer, **more)  # type: ignore[arg-type]
        return buffer.getvalue()

    def packed(content: object) -> bytes:
        buffer = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(saved(content))) as old,
            zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            for info in old.infolist():
                new.writestr(info.filename, old.read(info))
        return buffer.getvalue()

    def tensors(header: object, data: bytes = bytes(16), length: int | None = None) -> bytes:
        words = header if isinstance(header, bytes) else json.dumps(header).encode()
        return struct.pack("<Q", len(words) if length is None else length) + words + data

    def entry(**more: object) -> dict[str, object]:
        return {"w": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16], **more}}

    state = {"w": torch.zeros(4)}
    pth = {
        "empty": b"", "zero": b"\0", "text": b"hello\n", "newlines": b"\n\n\n", "code": pickle.dumps({"model": Code()}),
        "nested code": pickle.dumps([{"a": (Code(),)}]), "number": saved(3), "list": saved([torch.zeros(2)]), "none": saved({}),
        "words": saved({"w": "x"}), "other": saved(state), "legacy": saved(state, _use_new_zipfile_serialization=False),
        "code in a zip": saved({"w": Code()}), "bomb": packed({"w": torch.zeros(1 << 22)}),
        "cut": saved(state)[:-40], "half": saved(state)[:200], "keys": saved({3: torch.zeros(1), None: torch.zeros(1)}),
        "wide view": saved({"w": torch.zeros(1, dtype=torch.float16).expand(10**12)}), "escape": saved({"\x1b[2J": torch.zeros(2)}),
        "protocol": b"\x80\xff.", "long string": b"\x80\x02X\xff\xff\xff\x7f", "bytes": b"\x80\x04B\xff\xff\xff\x7f", "memo": b"\x80\x02h\xff.",
        "bytearray": b"\x80\x02cbuiltins\nbytearray\nK\x0a\x85R.", "global": b"\x80\x02cos\nsystem\n.", "deep": b"\x80\x02" + b"(" * 100_000,
    }  # fmt: skip
    for name, data in pth.items():
        for words in WEIGHTS if name in JUDGED else WEIGHTS[:1]:
            yield f"pth {name}", lambda f, d=data, w=words: ((f / "w.pth").write_bytes(d), [*w, f / "w.pth"])[1], WRONG
    files = {
        "empty": b"", "short": b"\1\2", "huge header": tensors(b"{}", length=1 << 62), "long header": tensors(b"{}", length=1 << 30),
        "no json": tensors(b"hello"), "deep": tensors(b"[" * 50_000), "list": tensors([]), "null": tensors(b"null"),
        "shape": tensors(entry(shape=[10**18])), "negative": tensors(entry(shape=[-4])), "overflow": tensors(entry(shape=[1 << 62, 1 << 62])),
        "offsets": tensors(entry(data_offsets=[0, 10**15])), "backwards": tensors(entry(data_offsets=[16, 0])), "dtype": tensors(entry(dtype="X9")),
        "hole": tensors(entry(data_offsets=[4, 20]), bytes(20)), "cut": tensors(entry(), bytes(8)), "other": tensors(entry()),
        "escape": tensors({"\x1b[2J": entry()["w"]}), "surrogate": tensors(b'{"\\ud800": 3}'), "many": tensors({f"k{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(3000)}, b""),
    }  # fmt: skip
    for name, data in files.items():
        for words in WEIGHTS if name in JUDGED else WEIGHTS[:1]:
            yield (
                f"safetensors {name}",
                lambda f, d=data, w=words: ((f / "w.safetensors").write_bytes(d), [*w, f / "w.safetensors"])[1],
                WRONG,
            )


NUMBERS = {
    ("ingest", "--source", "planted"): ("size", "count", "threads", "seed", "val-share"),
    ("extract", "--images", "images", "--encoder", "random:vit-16x1-h2-p4"): ("layer", "forward", "seed"),
    ("pretrain", "--images", "images", "--objective", "mae"):
        ("width", "depth", "heads", "patch", "predictor-width", "predictor-depth", "batch", "seed"),
    ("compress", "--embeddings", "embeddings"): ("channels", "batch", "forward", "seed"),
    ("diffuse", "--latents", "latents"): ("width", "depth", "batch", "train-images", "seed", "dropout", "ema"),
    ("decode", "--latents", "latents"): ("size", "width", "gan-width", "batch", "seed"),
    ("sample", "--denoiser", "denoiser", "--decoder", "decoder"): ("count", "steps", "forward", "seed", "milestone", "eta"),
    ("classify", "--images", "images"): ("batch", "seed"),
    ("probe", "--embeddings", "embeddings"): ("k", "seed"),
    ("evaluate", "--samples", "samples", "--reference", "images"): ("k", "seed"),
}  # fmt: skip


def options() -> Iterator[Case]:
    """Numbers nobody means, and words that are none."""
    for words, names in NUMBERS.items():
        for name in names:
            for value in (
                "1e21",
                "999999999999999999999",
                "1e16",
                "nan",
                "inf",
                "9" * 5000,
                "1\x1b[2J",
                "",
            ):
                yield f"{words[0]} --{name} {value[:20]}", lambda f, w=words, n=name, v=value: [*w, f"--{n}={v}"], WRONG
    for encoder in ("random:vit-0x1-h1-p4", "random:vit-16x0-h2-p4", "random:vit-16x1-h0-p4", "random:vit-16x1-h2-p0", "pixels:0", "pixels:²",
                    f"random:vit-{'9' * 30}x1-h1-p4", "random:vit-16x99999999-h2-p4", "random:vit-16x1-h99999-p4", "pixels:-4", f"pixels:{'9' * 30}",
                    "timm:../../etc/passwd", "timm:\x1b[2J", "random:", "timm:", ":", "\x1b]0;x\x07", "random:vit-16x1-h2-p4\n", "x" * 5000, "pixels:\u202e4"):  # fmt: skip
        yield encoder[:40], lambda f, e=encoder: ["extract", "--images", "images", "--encoder", e], WRONG
    for pattern in (
        "(",
        "()",
        "(?P<x",
        "(a",
        "[",
        "(?:a)",
        "\x1b(",
        "(" * 200,
        "(" * 5000 + ")" * 5000,
        "(a){99999999999}",
        "(\\",
        "(?<=a*)(b)",
    ):
        yield (
            f"regex {pattern[:20]}",
            lambda f, p=pattern: ["ingest", "--source", "images.zip", f"--label-regex={p}"],
            WRONG,
        )
    for device in ("\x1b[2J", "cuda:999999999999999999999", "", "x" * 5000, "cuda:-1"):
        yield (
            f"device {device[:20]}",
            lambda f, d=device: [
                "extract",
                "--images",
                "images",
                "--encoder",
                "random:vit-16x1-h2-p4",
                "--seed",
                77,
                f"--device={d}",
            ],
            WRONG,
        )


def references() -> Iterator[Case]:
    """What stands where an artefact, a path or a name is asked for."""
    for word in (*ESCAPES, "x" * 300, "x" * 5000, "y/" * 3000, "/", ".", "..", "../..", "/dev/zero", "/dev/null", "/proc/self/mem", "-",
                 "0" * 32, "abcdef", "*", "%s", "~", "\udcff", "names", "a\x00"[:1] + "\x01", "\ud800"):  # fmt: skip
        yield f"show {word[:20]!r}", lambda f, w=word: ["show", "--", w], WRONG
        yield f"extract {word[:20]!r}", lambda f, w=word: ["extract", f"--images={w}", "--encoder", "pixels:8"], WRONG
        yield f"source {word[:20]!r}", lambda f, w=word: ["ingest", f"--source={w}x.zip"], WRONG
        yield f"run {word[:20]!r}", lambda f, w=word: ["run", "--", w], WRONG
        yield (
            f"weights {word[:20]!r}",
            lambda f, w=word: ["extract", "--images", "images", "--encoder", "mae", f"--weights={w}x"],
            WRONG,
        )


FAMILIES: dict[str, Callable[[], Iterator[Case]]] = {
    "recipes": recipes, "zips": zips, "tars": tars, "nodes": nodes, "tables": tables, "arrays": arrays, "pictures": pictures,
    "weights": weights, "options": options, "references": references, "columns": columns, "comparisons": comparisons,
}  # fmt: skip
