"""README.md and the guide: what they name is there, and every block that can be run is run as it is written."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import typer.main

from embprobe.cli import app
from embprobe.cli.guide import FOLDER, GENERATED, ORDER, page_of, stages_page
from embprobe.recipe import SHIPPED
from embprobe.stages import STAGES
from tests import tiny
from tests.conftest import ROOT, Shell

PAGES = {"README": ROOT / "README.md"} | {name: FOLDER / f"{name}.md" for name in ORDER}
OTHERS = {"--requeue", "--open-mode", "--signal", "--time", "--gpus", "--check", "--quiet", "--help"}  # not of embprobe
NEVER = {"--resume"}  # said not to be there
SMALL = re.compile(r"`(SIZE=\S+ [^`]*)`")
each_page = pytest.mark.parametrize("name", PAGES)


def text(name: str) -> str:
    return PAGES[name].read_text(encoding="utf-8")


def blocks(name: str, language: str) -> list[str]:
    """The code blocks of a page in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)


def block(name: str, language: str, part: str) -> str:
    """The one code block of a page that holds `part`."""
    (found,) = [b for b in blocks(name, language) if part in b]
    return found


# ---- what is named is there


def command_options() -> dict[str, set[str]]:
    """What each command takes, from the command line itself."""
    group = typer.main.get_command(app)
    commands = group.commands.items()  # type: ignore[attr-defined]
    return {name: {word for p in c.params for word in (*p.opts, *p.secondary_opts)} for name, c in commands}


def code(name: str) -> list[str]:
    """Code blocks, their continuation lines joined, and code in the text."""
    every = re.findall(r"^```\w*\n(.*?)^```", text(name), re.DOTALL | re.MULTILINE)
    inline = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text(name), flags=re.S | re.M))
    return [b.replace("\\\n", " ") for b in every] + inline


@each_page
def test_every_command_and_option_named_exists(name: str) -> None:
    known = command_options()
    everything = set().union(*known.values()) | {"--install-completion", "--show-completion", "--version"}
    for command, rest in re.findall(r"embprobe ([a-z][\w-]*)([^\n`#|)]*)", "\n".join(code(name))):
        assert command in known, command
        assert set(re.findall(r"--[a-z][\w-]*", rest)) <= known[command] | {"--help"}, f"embprobe {command}{rest}"
    scripts = {o for line in code(name) if "tests" in line for o in re.findall(r"--[a-z][\w-]*", line)}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", text(name))) <= everything | OTHERS | NEVER | scripts


def test_every_command_stage_and_shipped_recipe_is_named() -> None:
    named = "\n".join(line for name in PAGES for line in code(name))
    assert [c for c in command_options() if not re.search(rf"\b{c}\b", named)] == []
    assert [s for s in STAGES if f"| `{s}` |" not in text("flow")] == []
    assert [p.stem for p in SHIPPED[-1].glob("*.yaml") if f"| `{p.stem}` |" not in text("recipes")] == []


@each_page
def test_links_lead_somewhere(name: str) -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text(name))
    assert [t for t in targets if not (PAGES[name].parent / t).exists()] == []


def test_the_page_of_options_is_made_from_the_program() -> None:
    assert text(GENERATED) == stages_page(), "python -m tests.remake_guide"


def test_every_page_is_listed_and_readable_in_the_terminal(shell: Shell) -> None:
    assert {p.stem for p in FOLDER.glob("*.md")} == set(ORDER)
    listed = shell("guide")
    assert listed.code == 0 and all(f"`embprobe guide {topic}`" in listed.out for topic in ORDER)
    for topic in ORDER:
        assert shell("guide", topic).out == page_of(topic).rstrip("\n") + "\n"
    wrong = shell("guide", "metric")
    assert wrong.code == 2 and 'did you mean "metrics"' in wrong.err
    assert len(text("README").splitlines()) < 60, "README is one page"


def test_the_guide_comes_with_the_package() -> None:
    assert FOLDER.parent.name == "embprobe" and FOLDER.parent.parent == ROOT


def test_every_metric_of_the_tables_is_explained() -> None:
    from embprobe.metrics.table import METRICS

    known = text("metrics")
    plain = {m.header.rstrip(" ↑↓").replace(" ↓", "") for m in METRICS}
    missing = [header for header in plain if re.split(r" of |, ", header)[0].lower() not in known.lower()]
    assert missing == []


def test_the_slurm_lines_shown_are_those_of_the_script() -> None:
    shown = block("slurm", "sh", "#SBATCH").splitlines()
    assert set(shown) <= set((ROOT / "recipes" / "slurm.sh").read_text().splitlines())


# ---- what can be run is run


@dataclass(frozen=True)
class Reader:
    """Somebody who copies commands from the guide, in a folder with images, weights and samples of his own."""

    folder: Path
    environment: dict[str, str]

    def runs(self, script: str, timeout: float = 500) -> "subprocess.CompletedProcess[str]":
        words = ["bash", "-euo", "pipefail", "-c", script]
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def made(self, stage: str) -> Path:
        (found,) = (self.folder / "embstore" / stage).iterdir()
        return found


@pytest.fixture
def reader(tmp_path: Path) -> Reader:
    return reader_in(tmp_path)


def reader_in(folder: Path) -> Reader:
    """The reader, with what the pages speak of."""
    from safetensors.torch import save_file
    from timm.models.vision_transformer import VisionTransformer

    tiny.class_folder(folder / "faces", ["cat", "dog"], 20)
    tiny.class_folder(folder / "photos", ["cat", "dog"], 20)
    tiny.class_folder(folder / "drawn", ["cat", "dog"], 16)
    np.savez(folder / "adm.npz", arr_0=np.random.default_rng(0).integers(0, 255, (32, 32, 32, 3), np.uint8))
    sizes = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 0}
    for seed, name in enumerate(("mine", "mae", "ijepa")):  # others each, else they would be one encoder
        torch.manual_seed(seed)
        vit = VisionTransformer(**sizes, class_token=False, global_pool="avg", fc_norm=False)
        save_file(vit.state_dict(), folder / f"{name}.safetensors")
    command = folder / "bin" / "embprobe"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m embprobe "$@"\n')
    command.chmod(0o755)
    environment = os.environ | {
        "PATH": f"{command.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "PYTHON": sys.executable,
    }
    environment.pop("EMBPROBE_STORE", None)
    return Reader(folder, environment)


def transformers_folder(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    transformers.Dinov2Model(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Reader, list[str]]]:
    """The chain as it stands in the guide, with the small values that the guide gives, and what it printed."""
    folder = tmp_path_factory.mktemp("guide")
    reader = reader_in(folder)
    small = SMALL.search(text("flow"))
    assert small
    reader.environment.update(dict(word.split("=", 1) for word in small[1].split()))
    first = blocks("flow", "bash")[0]
    done = reader.runs(first)
    yield reader, done.stdout.splitlines()
    shutil.rmtree(folder)


def test_the_chain_runs_as_written_and_prints_the_paths_that_nothing_caught(chain: tuple[Reader, list[str]]) -> None:
    reader, out = chain
    assert [Path(line) for line in out] == [reader.made("ingest"), reader.made("report")]
    assert (reader.made("report") / "report.html").stat().st_size > 1000
    for stage in ("extract", "compress", "diffuse", "decode", "sample", "evaluate"):
        assert (reader.made(stage) / "manifest.json").exists()


def test_what_stands_after_the_chain_runs_too(chain: tuple[Reader, list[str]]) -> None:
    reader, _ = chain
    _, listing, exporting = blocks("flow", "bash")
    assert "what" in reader.runs(listing).stdout
    assert (reader.folder / "look" / "contact.png").stat().st_size > 1000
    pytest.importorskip("pyarrow")
    reader.environment.update(E=str(reader.made("extract")), S=str(reader.made("sample")))
    reader.runs(exporting)
    assert np.load(reader.folder / "embeddings" / "embeddings.npy").shape[0] == 40
    assert len(list((reader.folder / "samples").rglob("*.png"))) == 16


def test_the_zarr_lines_read_an_artefact_without_embprobe(chain: tuple[Reader, list[str]]) -> None:
    reader, _ = chain
    words = [sys.executable, "-c", block("store", "python", "import sys, zarr"), str(reader.made("extract"))]
    environment = reader.environment | {"PYTHONPATH": ""}
    done = subprocess.run(words, env=environment, cwd=reader.folder, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("(40, 8, 8, 32) float16")


@pytest.mark.skipif(not shutil.which("xxh128sum"), reason="xxh128sum (package xxhash) is not installed")
def test_xxh128sum_agrees_with_every_checksum(chain: tuple[Reader, list[str]]) -> None:
    reader, _ = chain
    for stage in ("extract", "report", "diffuse"):
        reader.environment["E"] = str(reader.made(stage))
        reader.runs(block("store", "bash", "xxh128sum"))


@pytest.mark.parametrize("name", ["data", "encoders", "samples", "text"])
def test_a_page_runs_from_top_to_bottom_in_a_folder_of_its_own(name: str, reader: Reader) -> None:
    if name == "encoders":
        transformers_folder(reader.folder / "my-dinov2")
        reader.runs("embprobe ingest --source photos --size 32 --name photos")
    if name == "samples":
        reader.runs("embprobe ingest --source faces --size 32 --name faces")
    for script in blocks(name, "bash"):
        done = reader.runs(script)
        assert done.stdout.strip()


def test_the_python_page_runs_as_written_in_an_empty_folder(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment.pop("EMBPROBE_STORE", None)
    words = [sys.executable, "-c", block("python", "python", "import embprobe")]
    done = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).name == "report.html" and Path(done.stdout.strip()).stat().st_size > 10_000
    assert "Traceback" not in done.stderr


def test_the_recipe_parses_and_its_last_step_takes_every_evaluation(tmp_path: Path, shell: Shell) -> None:
    from embprobe.recipe import load_recipe

    tiny.class_folder(tmp_path / "faces", ["cat", "dog"], 4)
    (tmp_path / "study.yaml").write_text(block("recipes", "yaml", "about: Two encoders"))
    assert len(load_recipe(tmp_path / "study.yaml", {}).steps[-1].options["artefacts"]) == 6
    planned = shell("plan", tmp_path / "study.yaml", "--store", tmp_path / "store", "--set", "steps=50000")
    assert planned.code == 0, planned.err
    assert "26 to make" in planned.out


def test_the_first_walk_reaches_its_page_with_a_small_budget(reader: Reader) -> None:
    """The six commands of the first page, but for pip; tests/walk.py takes them as they are, on real photos."""
    shutil.make_archive(str(reader.folder / "cats"), "zip", reader.folder, "faces")
    small = "size=32 compress_steps=2 diffuse_steps=2 diffuse_width=32 diffuse_depth=1 decode_steps=2 samples=16"
    small += " sampler_steps=2 controls=[pixels] channels=4"
    lines = block("start", "sh", "pip install .\nembprobe ingest").splitlines()
    assert lines[0] == "pip install ." and len(lines) == 6
    lines.append(block("start", "sh", "heads=4").strip())
    for line in lines[1:]:
        if " encoders " in line:
            line = line.replace("heads=4", "heads=2").replace("squeezenet1_0.pth", "random:vit-32x2-h2-p8")
            line += "".join(f" --set {word}" for word in small.split())
        reader.runs(line.replace("--size 64", "--size 32"))
    page_ = (reader.folder / "answer.html").read_text()
    assert "mae-tiny" in page_ and "ijepa-tiny" in page_ and (reader.folder / "look" / "contact.png").exists()
    mine = reader.runs("embprobe show mine").stdout
    assert re.search(r"\bmae\b", mine) and re.search(r"\bijepa\b", mine)
