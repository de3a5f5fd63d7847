"""README.md: its chain, snippets, options and recipe are run or checked as they are written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer.main

from embprobe.cli import app
from embprobe.recipe import SHIPPED
from embprobe.stages import STAGES
from tests import tiny
from tests.conftest import ROOT, Shell

README = (ROOT / "README.md").read_text(encoding="utf-8")
OTHERS = {
    "--requeue",
    "--open-mode",
    "--signal",
    "--time",
    "--gpus",
    "--check",
    "--quiet",
    "--resume",
}  # not of embprobe


def block(language: str, part: str) -> str:
    """The one code block that holds `part`."""
    (found,) = [b for b in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if part in b]
    return found


def command_options() -> dict[str, set[str]]:
    """What each command takes, from the command line itself."""
    group = typer.main.get_command(app)
    commands = group.commands.items()  # type: ignore[attr-defined]
    return {name: {word for p in c.params for word in (*p.opts, *p.secondary_opts)} for name, c in commands}


@dataclass(frozen=True)
class Chain:
    """What the README's commands left behind."""

    folder: Path
    environment: dict[str, str]
    out: list[str]

    def made(self, stage: str) -> Path:
        (found,) = (self.folder / "embstore" / stage).iterdir()
        return found


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chain]:
    """The chain as it stands in README.md, in a folder that holds `faces`, with the small values README.md gives."""
    folder = tmp_path_factory.mktemp("readme")
    tiny.class_folder(folder / "faces", ["cat", "dog"], 20)
    command = folder / "bin" / "embprobe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embprobe "$@"\n')
    command.chmod(0o755)
    small = re.search(r"`(SIZE=\S+ [^`]*)`", README)
    assert small
    path = f"{command.parent}:{os.environ['PATH']}"
    environment = os.environ | dict(word.split("=", 1) for word in small[1].split())
    environment |= {"PATH": path, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("EMBPROBE_STORE", None)
    text = block("bash", "embprobe ingest --source faces")
    done = subprocess.run(
        ["bash", "-c", text], cwd=folder, env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr
    yield Chain(folder, environment, done.stdout.splitlines())
    shutil.rmtree(folder)


def test_the_chain_runs_as_written_and_prints_the_paths_that_nothing_caught(chain: Chain) -> None:
    assert [Path(line) for line in chain.out] == [chain.made("ingest"), chain.made("report")]
    assert (chain.made("report") / "report.html").stat().st_size > 1000
    for stage in ("extract", "compress", "diffuse", "decode", "sample", "evaluate"):
        assert (chain.made(stage) / "manifest.json").exists()


def test_the_zarr_lines_read_an_artefact_without_embprobe(chain: Chain) -> None:
    words = [sys.executable, "-c", block("python", "import sys, zarr"), str(chain.made("extract"))]
    environment = chain.environment | {"PYTHONPATH": ""}
    done = subprocess.run(words, env=environment, cwd=chain.folder, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(40, 8, 8, 32) float16")


def test_the_python_section_runs_as_written_in_an_empty_folder(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("EMBPROBE_STORE", None)
    words = [sys.executable, "-c", block("python", "import embprobe")]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == "report.html" and Path(done.stdout.strip()).stat().st_size > 10_000
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not shutil.which("xxh128sum"), reason="xxh128sum (package xxhash) is not installed")
def test_xxh128sum_agrees_with_every_checksum(chain: Chain) -> None:
    for stage in ("extract", "report", "diffuse"):
        environment = chain.environment | {"E": str(chain.made(stage))}
        done = subprocess.run(
            ["bash", "-c", block("bash", "xxh128sum")], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_recipe_parses_and_its_last_step_takes_every_evaluation(tmp_path: Path, shell: Shell) -> None:
    from embprobe.recipe import load_recipe

    tiny.class_folder(tmp_path / "faces", ["cat", "dog"], 4)
    (tmp_path / "study.yaml").write_text(block("yaml", "about: Two encoders"))
    assert len(load_recipe(tmp_path / "study.yaml", {}).steps[-1].options["artefacts"]) == 6
    planned = shell("plan", tmp_path / "study.yaml", "--store", tmp_path / "store", "--set", "steps=50000")
    assert planned.code == 0, planned.err
    assert "26 to make" in planned.out


def test_every_command_and_option_named_exists() -> None:
    known = command_options()
    everything = set().union(*known.values())
    for command, rest in re.findall(r"embprobe ([a-z][\w-]*)([^\n`#|)]*)", "\n".join(code())):
        assert command in known, command
        assert set(re.findall(r"--[a-z][\w-]*", rest)) <= known[command] | {"--help"}, f"embprobe {command}{rest}"
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", README)) <= everything | OTHERS | {"--help"}


def code() -> list[str]:
    """Code blocks, their continuation lines joined, and code in the text."""
    found = re.findall(r"```\w*\n(.*?)```", README, re.DOTALL)
    return [b.replace("\\\n", " ") for b in found] + re.findall(
        r"`([^`\n]+)`", re.sub(r"```.*?```", "", README, flags=re.S)
    )


def test_every_command_and_shipped_recipe_is_named() -> None:
    named = "\n".join(code())
    assert [c for c in command_options() if not re.search(rf"\b{c}\b", named)] == []
    assert [s for s in STAGES if f"| `{s}` |" not in README] == []
    assert [p.stem for p in SHIPPED[-1].glob("*.yaml") if f"| `{p.stem}` |" not in README] == []


def test_files_the_readme_points_to_are_there() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", README)
    assert [t for t in targets if not (ROOT / t).exists()] == []


def test_the_slurm_lines_shown_are_those_of_the_script() -> None:
    shown = block("bash", "#SBATCH").splitlines()
    assert set(shown) <= set((ROOT / "recipes" / "slurm.sh").read_text().splitlines())
