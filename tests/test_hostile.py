"""Hostile inputs: each ends in one line and exit code 2 or 3, soon, in little memory, and leaves everything else alone."""

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest

from tests.conftest import Result, Shell, Zoo
from tests.hostile_inputs import EITHER, FAMILIES, Case

SECONDS = 10
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
        beside = set(os.listdir(tmp_path))
        try:
            with limit(SECONDS, name):
                done = shell(*words_of(folder))
        except BaseException as error:
            failures.append((number, name, f"{type(error).__name__}: {error}"[:300], ""))
            continue
        told = wrong_with(done, codes)
        if set(os.listdir(tmp_path)) - beside - {"cache"} or contents(tmp_path / "canary") != guarded:
            told = "it wrote beside its folder"
        if told:
            failures.append((number, name, told, done.err[-400:]))
    assert not failures, "\n".join(f"{n} {name!r}: {told}\n    {err!r}" for n, name, told, err in failures)
    assert {a.path for a in zoo.store.artefacts() if a.complete} == before


def test_there_are_at_least_four_hundred() -> None:
    cases: list[Case] = [case for family in FAMILIES.values() for case in family()]
    assert len(cases) >= 400 and sum(codes == EITHER for _, _, codes in cases) < len(cases) / 10
