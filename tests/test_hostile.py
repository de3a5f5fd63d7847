"""Hostile inputs: each ends in one line and exit code 2 or 3, soon, in little memory, and leaves everything else alone."""

# ruff: noqa: E501
import contextlib
import errno
import io
import json
import os
import random
import re
import signal
import struct
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from embprobe import console
from embprobe.page.charts import bars, curves
from embprobe.page.html import Cell, Section, page, table
from embprobe.study.latex import escaped
from embprobe.study.table import harmless
from tests.conftest import ROOT, Result, Shell, Zoo
from tests.hostile_inputs import EITHER, ESCAPES, FAMILIES, Case, header, npy, padded, patched, picture, zip_of
from tests.tiny import class_folder

SECONDS = 10
GIGABYTE = 1 << 30
RAW = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")  # as a terminal obeys it


@contextlib.contextmanager
def limit(seconds: float, name: str) -> Iterator[None]:
    """Fails what hangs."""

    class Hangs(BaseException):  # which no `except Exception` takes for an error of its own
        pass

    def stop(signum: int, frame: FrameType | None) -> None:
        raise Hangs(name)

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def wrong_with(done: Result, codes: tuple[int, ...]) -> str | None:
    """What is not as it should be with the end of a command."""
    errors = [line for line in done.err.split("\n") if line.startswith("embprobe: ")]
    if done.code not in codes:
        return f"exit code {done.code}"
    if "Traceback" in done.err or "defect" in done.err:
        return "a traceback"
    if len(errors) != (done.code != 0):
        return f"{len(errors)} lines of error"
    if len(done.err) > 20_000:
        return f"{len(done.err)} characters of error"
    return "raw control characters" if RAW.search(done.out + done.err) else None


def canary(root: Path) -> Path:
    """A folder that nobody may touch."""
    folder = root / "canary"
    folder.mkdir(exist_ok=True)
    (folder / "a.png").write_text("whole")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_one_is_one_line_and_harms_nothing(
    family: str, zoo: Zoo, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBPROBE_STORE", str(zoo.store.root))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    guarded = contents(canary(tmp_path))
    before = {a.path for a in zoo.store.artefacts() if a.complete}
    failures = []
    for number, (name, words_of, codes) in enumerate(FAMILIES[family]()):
        folder = tmp_path / f"{number}"
        folder.mkdir()
        beside = {path.name for path in tmp_path.iterdir()}
        try:
            with limit(SECONDS, name):
                done = shell(*words_of(folder))
        except BaseException as error:
            failures.append((number, name, f"{type(error).__name__}: {error}"[:300], ""))
            continue
        told = wrong_with(done, codes)
        written = {path.name for path in tmp_path.iterdir()} - beside - {"cache"}
        if written or contents(tmp_path / "canary") != guarded:
            told = "it wrote beside its folder"
        if told:
            failures.append((number, name, told, done.err[-400:]))
    assert not failures, "\n".join(f"{n} {name!r}: {told}\n    {err!r}" for n, name, told, err in failures)
    assert {a.path for a in zoo.store.artefacts() if a.complete} == before


def test_there_are_at_least_four_hundred() -> None:
    cases: list[Case] = [case for family in FAMILIES.values() for case in family()]
    assert len(cases) >= 400 and sum(codes == EITHER for _, _, codes in cases) < len(cases) / 10


# ---- in a process of its own: memory, stdout, who may read what


def sparse(path: Path, start: bytes, size: int) -> Path:
    """A file that claims a size and takes no room."""
    path.write_bytes(start)
    os.truncate(path, size)
    return path


def bomb_tar(folder: Path) -> Path:
    """A tar of a terabyte, of which a few blocks take room."""
    start = header("b.png", 1 << 40)
    return sparse(folder / "bomb.tar", header("a.png", 3) + padded(b"abc") + start, (1 << 40) + 4096)


def bomb_zip(folder: Path) -> Path:
    """A zip of more than a gigabyte of zeros that says it holds 100 bytes."""
    with (
        zipfile.ZipFile(folder / "bomb.zip", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("a.png", "w") as member,
    ):
        for _ in range(1200):
            member.write(bytes(1 << 20))
    patched(folder / "bomb.zip", b"PK\x01\x02", 24, struct.pack("<I", 100))
    return folder / "bomb.zip"


def bomb_npz(folder: Path) -> Path:
    """Gigabytes of zeros in a megabyte."""
    with (
        zipfile.ZipFile(folder / "bomb.npz", "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("images.npy", "w") as member,
    ):
        member.write(npy("(20000, 256, 256)", data=b""))
        for _ in range(1250):
            member.write(bytes(1 << 20))
    return folder / "bomb.npz"


BOMBS: dict[str, Callable[[Path], list[object]]] = {
    "tar": lambda f: ["ingest", "--source", bomb_tar(f)],
    "zip": lambda f: ["ingest", "--source", bomb_zip(f)],
    "npz": lambda f: ["ingest", "--source", bomb_npz(f)],
    "npy header": lambda f: [
        "ingest",
        "--source",
        sparse(f / "a.npy", npy("x", version=b"\2\0", length=3 << 30), 4 << 30),
    ],
    "npy rows": lambda f: ["ingest", "--source", sparse(f / "a.npy", npy("(2000000000, 1, 1)", data=b""), 3 << 30)],
    "line": lambda f: ["ingest", "--source", sparse(f / "a.csv", b"path\n", 3 << 30)],
    "json line": lambda f: ["ingest", "--source", sparse(f / "a.jsonl", b'{"path": "', 3 << 30)],
    "pax": lambda f: ["ingest", "--source", sparse(f / "a.tar", header("x", 3 << 30, b"x"), 4 << 30)],
    "scenes": lambda f: ["ingest", "--source", "planted", "--count", "1e12"],
    "shards": lambda f: ["ingest", "--source", f"{f}/a{{0..999999999}}.tar"],
    "recipe": lambda f: ["plan", sparse(f / "a.yaml", b"steps: []\n", 3 << 30)],
}
MEASURED = """
import re, sys
from embprobe.__main__ import main
try:
    main()
finally:  # getrusage would count what the parent held before exec
    sys.stderr.write("peak " + re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1])
"""


@pytest.mark.parametrize("name", BOMBS)
def test_no_bomb_takes_a_gigabyte(name: str, tmp_path: Path) -> None:
    words = [str(word) for word in (*BOMBS[name](tmp_path), "--store", tmp_path / "store")]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *words],
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
        check=False,
    )
    told, _, peak = done.stderr.rpartition("peak ")
    assert done.returncode == 2 and told.count("embprobe: ") == 1 and "Traceback" not in told, told
    assert int(peak) * 1024 < GIGABYTE, f"{int(peak) / 1e6:.2f} GB"


@pytest.mark.parametrize(
    ("shell_line", "code", "told"),
    [
        ("ls >&-", 2, "stdout is closed"),
        ("encoders >&-", 2, "stdout is closed"),
        ("encoders > /dev/full", 1, "stdout could not be written"),
        ("ls --json > /dev/full", 1, "stdout could not be written"),
        ("encoders --json 2>&-", 0, ""),
        ("exract 2>&-", 2, ""),
        ("encoders <&- >/dev/null", 0, ""),
        ("encoders | true", -signal.SIGPIPE, ""),
    ],
)
def test_where_nobody_reads(shell_line: str, code: int, told: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "EMBPROBE_STORE": str(tmp_path / "store")}
    (tmp_path / "store").mkdir()
    script = f"set -o pipefail; {sys.executable} -m embprobe {shell_line}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == (code if code >= 0 else 128 - code), done.stderr
    assert told in done.stderr and len(done.stderr.splitlines()) == bool(told), done.stderr


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE])
@pytest.mark.parametrize("depth", ["faces", "faces/cat", "faces/cat/young"])
def test_a_folder_that_cannot_be_read_is_named(
    number: int, depth: str, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("dog", "cat/young"):
        class_folder(tmp_path / "faces" / folder, ["x"], 2)
    scandir = os.scandir

    def failing(path: str) -> object:
        if str(path) == str(tmp_path / depth):
            raise OSError(number, os.strerror(number), str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", failing)
    done = shell("ingest", "--source", tmp_path / "faces", "--size", 16, "--store", tmp_path / "s")
    assert done.code == 2 and len(done.lines) == 1 and f"{tmp_path / depth} (" in done.err, done.err


def test_a_thousand_folders_inside_each_other_are_walked(
    shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        for _ in range(1200):
            Path("d").mkdir()
            os.chdir("d")
        os.chdir(tmp_path)
        with limit(SECONDS, "deep"):
            done = shell("ingest", "--source", "d", "--store", tmp_path / "s")
        assert done.code == 2 and "holds no image" in done.err and len(done.lines) == 1
    finally:
        os.chdir(tmp_path)
        subprocess.run(["rm", "-rf", "d"], check=True)  # Python's own removal would recurse


def test_what_a_terminal_obeys_is_spelled_out(capsys: pytest.CaptureFixture[str]) -> None:
    for text in ESCAPES[:-1]:
        console.say(text)
        console.fail(text)
        console.result(text)
        console.print_table([text], [[text]])
        console.result_json({text: [text]})
        with console.progress(text, total=1, unit=text) as bar:
            bar.advance()
        console.trace(ValueError(text))
    found = capsys.readouterr()
    assert not RAW.search(found.out + found.err)
    assert (
        "\\x1b[2J" in found.err
        and "\\u202etxt" in found.out
        and "\\u001b[2J" in found.out
        and "\\u009b31m" in found.out
    )
    console.result_path("a\x1b[2J")
    assert capsys.readouterr().out == "a\x1b[2J\n"
    console.result_json({"name": "\x9b\u2028\x7f\u202e"})
    assert json.loads(capsys.readouterr().out) == {"name": "\x9b\u2028\x7f\u202e"}


def test_a_page_holds_no_control_character() -> None:
    for text in (*ESCAPES[:5], "\u2028", "\t"):
        cell = Cell(text, text)
        parts = [
            table([text], [[cell]], caption=text),
            bars({text: {text: (0.5, None, None)}}, text),
            escaped(text),
            harmless(text),
        ]
        parts += [
            curves({text: [(1.0, 0.5, None, None), (2.0, 0.6, None, None)]}, text, text),
            page(text, "", [Section(text, "x")]),
        ]
        assert not any(RAW.search(part.replace("\n", "")) for part in parts)
    assert [harmless(text) for text in ("=1", "+1", "-1", "@x", "1")] == ["'=1", "'+1", "'-1", "'@x", "1"]


# ---- mutations of what is right


def valid(folder: Path) -> dict[str, bytes]:
    """One good file of every kind."""
    import torch
    from safetensors.torch import save

    rows = "path,label\n" + "".join(f"{i}.png,c{i % 2}\n" for i in range(3))
    zip_of(folder / "a.zip", "a/0.png", "b/1.png", "b/2.png")
    with tarfile.open(folder / "a.tar", "w") as archive:
        for name in ("a/0.png", "b/1.png"):
            info = tarfile.TarInfo(name)
            info.size = len(picture())
            archive.addfile(info, io.BytesIO(picture()))
    torch.save({"w": torch.zeros(8)}, folder / "w.pth")
    archives = {name: (folder / name).read_bytes() for name in ("a.zip", "a.tar", "w.pth")}
    images = {
        f"x.{kind.lower()}": picture(16, kind)
        for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM", "JPEG2000")
    }
    images["x.jp2"] = images.pop("x.jpeg2000")
    return archives | images | {
        "r.yaml": (ROOT / "recipes" / "demo.yaml").read_bytes(), "a.csv": rows.encode(), "a.jsonl": b'{"path": "0.png", "label": "c"}\n',
        "w.safetensors": save({"w": torch.zeros(8)}), "a.npy": npy("(2, 4, 8)"),
    }  # fmt: skip


def mutated(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some flipped, cut, doubled or moved."""
    changed = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        a, b = sorted(rng.randrange(len(changed) + 1) for _ in range(2))
        kind = rng.randrange(5)
        if kind == 0 and changed:
            changed[min(a, len(changed) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del changed[b:]
        elif kind == 2:
            changed[a:a] = changed[a : min(b, a + 4096)]
        elif kind == 3:
            changed[a : a + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\0\0\0\x80"))
        else:
            changed[a:b] = changed[a:b][::-1] if b - a < 64 else b""
    return bytes(changed)


def test_no_mutation_of_a_good_file_is_more_than_one_line(
    zoo: Zoo, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("EMBPROBE_STORE", str(zoo.store.root))
    good = valid(tmp_path)
    rng, failures = random.Random(20), []
    for number in range(int(os.environ.get("EMBPROBE_FUZZ", "240"))):
        name = sorted(good)[number % len(good)]
        folder = tmp_path / f"{number}"
        folder.mkdir()
        for index in range(3):
            (folder / f"{index}.png").write_bytes(picture()) if name.startswith("a.") else None
        (folder / name).write_bytes(mutated(good[name], rng))
        ingest = ["ingest", "--size", 8, "--store", folder / "store", "--source"]
        words = [*ingest, folder if name.startswith("x.") else folder / name]
        if name.startswith("w."):
            words = [
                "extract",
                "--images",
                "images",
                "--encoder",
                "timm:vit_tiny_patch16_224",
                "--weights",
                folder / name,
            ]
        if name == "r.yaml":
            words = ["plan", folder / name, "--store", folder / "store"]
        try:
            with limit(SECONDS, name):
                done = shell(*words)
            told = wrong_with(done, EITHER)
            if name == "r.yaml" and told and told.endswith("lines of error"):
                told = None  # each step that fails says so
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        if told:
            failures.append(f"{number} {name}: {told}\n{done.err[-600:]}")
    assert not failures, "\n".join(failures)
