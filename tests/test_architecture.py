"""Imports point one way, and what is heavy is imported late."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "embprobe"
LAYERS = (
    ("errors", "__init__"),
    ("content", "console", "signals"),
    ("lock",),
    ("store",),
    ("stage",),
    ("make",),
    (
        *("engine", "nn", "diffusion", "metrics", "data", "encoders", "judges", "looks", "measure", "spaces"),
        *("milestones", "page", "study"),
    ),
    ("stages",),
    ("recipe", "inspection"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "zarr", "timm", "numpy", "torchvision", "diffusers", "PIL", "scipy")


def imported(path: Path) -> Iterator[tuple[str, ...]]:
    """The embprobe modules that a file imports anywhere, as parts below the package."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module == "embprobe":
            names = [f"embprobe.{a.name}" if a.name in RANK else "embprobe.__init__" for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            names = [node.module or ""]
        else:
            continue
        yield from (tuple(n.split(".")[1:]) for n in names if n.startswith("embprobe."))


def names_of(path: Path) -> list[str]:
    return [*path.relative_to(PACKAGE).with_suffix("").parts]


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    own = names_of(path)
    assert own[0] in RANK, f"{own[0]} has no place in the layers"
    for found in imported(path):
        assert RANK[found[0]] <= RANK[own[0]], f"{'.'.join(own)} imports {'.'.join(found)}"


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_stages_meet_only_through_artefacts(path: Path) -> None:
    others = {found[1] for found in imported(path) if found[0] == "stages"}
    first = {"evaluate": {"classify", "features"}}  # stages that `prepare` asks to be made first
    assert others <= first.get(path.stem, set())


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_who_may_print_touch_zarr_and_know_typer(path: Path) -> None:
    text, name = path.read_text(), path.relative_to(PACKAGE).as_posix()
    tree = ast.parse(text)
    calls = [n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    if name != "console.py":
        assert "print" not in calls and "sys.stdout" not in text
    roots = {
        word.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for word in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert "zarr" not in roots or "store" in path.parts
    assert not roots & {"typer", "click"} or name == "cli.py"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_no_pickle_is_written_and_none_read_but_tensors(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "torch.save")
        if called == "torch.load":
            assert "weights_only=True" in ast.unparse(node)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_file_says_in_one_line_what_it_is_for(path: Path) -> None:
    words = ast.get_docstring(ast.parse(path.read_text()))
    assert words and "\n" not in words.strip()


def python(code: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_stages_and_help_need_nothing_heavy() -> None:
    done = python(
        f"""
import sys
for name in {HEAVY}: sys.modules[name] = None
import embprobe.stages, embprobe.recipe, embprobe.inspection
from embprobe.cli import main
sys.argv = ["embprobe", "--help"]
main()
"""
    )
    assert done.returncode == 0, done.stderr
    assert "ingest" in done.stdout and "demo" in done.stdout


def test_asking_again_imports_no_torch(zoo) -> None:  # type: ignore[no-untyped-def]
    words = ["extract", "--images", "images", "--encoder", "random:vit-16x1-h2-p4", "--store", str(zoo.store.root)]
    done = python(
        f"""
import sys
from embprobe.cli import main
sys.argv = ["embprobe", *{words}]
try:
    main()
finally:
    sys.stderr.write("torch" if "torch" in sys.modules else "light")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{zoo['embeddings'].path}\n" and done.stderr == "light"


def commands() -> list[str]:
    from embprobe.cli import app

    return sorted(c.name or c.callback.__name__ for c in app.registered_commands if c.callback)


@pytest.mark.parametrize("command", commands())
def test_every_command_and_option_has_its_help(command: str) -> None:
    import typer

    from embprobe.cli import app

    found = typer.main.get_command(app).commands[command]  # type: ignore[attr-defined]
    assert (found.help or "").strip()
    for parameter in found.params:
        assert (getattr(parameter, "help", None) or "").strip(), parameter.name


def test_no_default_is_shown_in_two_brackets() -> None:
    import typer
    from typer.testing import CliRunner

    from embprobe.cli import app

    assert typer
    for command in commands():
        shown = CliRunner().invoke(app, [command, "--help"]).output
        assert not re.search(r"default:\s+\(", shown), command


def test_there_is_no_resume_option() -> None:
    for path in FILES:
        assert "resume:" not in path.read_text()
