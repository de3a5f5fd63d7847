"""Imports point one way, what is heavy is imported late, a file is one thought, a name one meaning."""

import ast
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "embprobe"
ROOMS = (  # a file imports from rooms before its own, and from its own
    *("errors", "threads", "signals", "console", "device", "pixels", "diffusion", "sampling", "metrics", "page"),
    *("store", "data", "stage", "options", "making", "views", "chunks", "training", "nn", "encoders", "evaluation"),
    *("study", "stages", "recipe", "running", "inspection", "cli", "__main__"),
)
FILES = sorted(PACKAGE.rglob("*.py"))
HEAVY = ("torch", "zarr", "timm", "numpy", "torchvision", "diffusers", "PIL", "scipy", "numcodecs", "huggingface_hub",
         "pyarrow")  # fmt: skip
MODULES = {
    ".".join(("embprobe", *p.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__"): p for p in FILES
}
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def for_types_only(path: Path) -> set[int]:
    """The nodes below `if TYPE_CHECKING`, which no program ever runs."""
    blocks = [n for n in ast.walk(tree(path)) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.unparse(n.test)]
    return {id(node) for block in blocks for node in ast.walk(block)}


@cache
def imported(path: Path) -> frozenset[str]:
    """The modules of embprobe that a file imports anywhere, late imports included."""
    names: set[str] = set()
    skipped = for_types_only(path)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and id(node) not in skipped:
            assert node.level == 0, f"{path.name}: relative import"
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name for name in inner if name in MODULES} or {node.module or ""}
    return frozenset(name for name in names if name in MODULES)


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else "__init__"


# ---- one direction


@each_file
def test_imports_point_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if own == "__init__":
        return  # the door for Python, which names every room and imports none
    assert own in ROOMS, f"{own} has no place in the order"
    for module in imported(path) - {"embprobe"}:
        assert ROOMS.index(room(module)) <= ROOMS.index(own), f"{own} imports {module}"


def test_no_circle_among_files() -> None:
    uses = {module: imported(path) - {module, "embprobe"} for module, path in MODULES.items() if module != "embprobe"}

    def reached(module: str) -> set[str]:
        seen: set[str] = set()
        todo = [module]
        while todo:
            fresh = {m for m in uses[todo.pop()] if MODULES[m].name != "__init__.py"} - seen
            seen |= fresh
            todo += fresh
        return seen

    assert [module for module in uses if module in reached(module)] == []


def test_at_most_twelve_loose_modules_beside_the_command_line() -> None:
    loose = {p.stem for p in PACKAGE.glob("*.py")} - {"cli", "__init__", "__main__"}
    assert len(loose) <= 12, sorted(loose)


# ---- the store


PATHS = ("data.zarr", "zarr.json", "log.jsonl", "spec.json", "manifest.json", "manifest.xxh128", "checksums.xxh128",
         "weights.safetensors", "milestones/", ".lock")  # fmt: skip


@each_file
def test_no_path_inside_a_store_is_spelled_outside_of_it(path: Path) -> None:
    if "store" in path.parts:
        return
    docs = {id(n.body[0].value) for n in ast.walk(tree(path)) if isinstance(n, (ast.Module, ast.ClassDef, ast.FunctionDef))
            and n.body and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    texts = [
        n.value
        for n in ast.walk(tree(path))
        if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docs
    ]
    assert [t for t in texts if any(word in t for word in PATHS)] == []


@each_file
def test_artefacts_are_read_through_views(path: Path) -> None:
    if {"store", "views"} & set(path.parts) or path.name in ("making.py", "inspection.py", "stage.py"):
        return
    text = path.read_text()
    assert not re.search(r"\.inputs\[|split\s*==\s*\d", text)


# ---- a file is one thought, a name has one meaning


@each_file
def test_no_file_is_longer_than_300_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300


@each_file
def test_every_file_says_in_one_line_what_it_is_for(path: Path) -> None:
    words = ast.get_docstring(tree(path))
    assert words and ("\n" not in words.strip() or (path.name == "__init__.py" and path.parent == PACKAGE))


def test_one_public_name_has_one_meaning() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for module, path in MODULES.items():
        for node in tree(path).body:
            if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and not node.name.startswith("_"):
                homes[node.name].append(module)
    assert {name: found for name, found in homes.items() if len(found) > 1} == {}


HOOKS = ("resolved", "validate", "prepare", "spec", "options", "check", "work", "disk", "run", "export")


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_every_stage_file_has_the_same_shape(path: Path) -> None:
    from embprobe.stages import FLOW

    classes = [n for n in tree(path).body if isinstance(n, ast.ClassDef)]
    (stage,) = [c for c in classes if c.name in {cls.__name__ for cls in FLOW}]
    methods = [n.name for n in stage.body if isinstance(n, ast.FunctionDef)]
    assert ast.get_docstring(stage) and "run" in methods and "__post_init__" not in methods
    own = [name for name in methods if name in HOOKS]
    assert own == [name for name in HOOKS if name in own]
    fields = [i for i, n in enumerate(stage.body) if isinstance(n, ast.AnnAssign)]
    firsts = [i for i, n in enumerate(stage.body) if isinstance(n, ast.FunctionDef)]
    assert fields and max(fields) < min(firsts)
    assert (tree(path).body.index(stage)) < min(
        (tree(path).body.index(n) for n in tree(path).body if isinstance(n, ast.FunctionDef)), default=10**6
    )


@pytest.mark.parametrize("path", sorted((PACKAGE / "stages").glob("[a-z]*.py")), ids=lambda p: p.stem)
def test_stages_meet_only_through_artefacts(path: Path) -> None:
    others = {m.split(".")[2] for m in imported(path) if m.startswith("embprobe.stages.")}
    prepared = {
        "evaluate": {"classify", "measure", "features"},
        "measure": {"features"},
        "probe": {"read"},
        "read": {"ceiling"},
    }  # made first, by `prepare`
    assert others <= prepared.get(path.stem, set())


def test_a_number_out_of_bounds_is_told_in_one_place() -> None:
    places = Counter(p.name for p in FILES for _ in re.findall("must be at least|it must be {", p.read_text()))
    assert places.keys() <= {"stage.py", "options.py"}


# ---- who may do what


@each_file
def test_who_may_print_touch_zarr_and_know_typer_or_rich(path: Path) -> None:
    name = path.relative_to(PACKAGE).as_posix()
    calls = [n.func.id for n in ast.walk(tree(path)) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    if name != "console/__init__.py":
        assert "print" not in calls and not re.search(
            r"sys\.stdout\.(write|flush)|sys\.stderr\.write", path.read_text()
        )
    roots = {
        word.split(".")[0]
        for node in ast.walk(tree(path))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for word in ([a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert not roots & {"zarr", "numcodecs"} or "store" in path.parts
    assert not roots & {"typer", "click"} or name.startswith("cli/")
    assert "rich" not in roots or name == "console/__init__.py"


@each_file
def test_no_pickle_is_written_and_none_read_but_tensors(path: Path) -> None:
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called, words = ast.unparse(node.func), ast.unparse(node)
        assert called not in ("pickle.load", "pickle.loads", "pickle.dump", "pickle.dumps", "torch.save")
        if called == "torch.load":
            assert "weights_only=True" in words and path.name == "weights.py"
        if called == "np.load":
            assert "allow_pickle=False" in words


def test_every_dependency_is_imported() -> None:
    import tomllib

    declared = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    named = {"pillow": "PIL", "pyyaml": "yaml", "clean-fid": "cleanfid", "huggingface-hub": "huggingface_hub"}
    everything = "\n".join(path.read_text() for path in FILES)
    for requirement in declared:
        name = re.split(r"[<>=]", requirement)[0]
        module = named.get(name, name)
        assert re.search(rf"^\s*(from|import) {module}\b", everything, re.M), f"nothing imports {name}"


# ---- what is heavy is imported late


def python(code: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(PACKAGE.parent)}
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)


def test_every_module_can_be_the_first_to_be_imported() -> None:
    names = [module for module in MODULES if module != "embprobe.__main__"]
    code = f"""
import importlib, sys
for name in {names}:
    for loaded in [m for m in sys.modules if m.split(".")[0] == "embprobe"]:
        del sys.modules[loaded]
    importlib.import_module(name)
"""
    done = python(code)
    assert done.returncode == 0, done.stderr


def test_stages_and_help_need_nothing_heavy() -> None:
    done = python(
        f"""
import sys
for name in {HEAVY}: sys.modules[name] = None
import embprobe, embprobe.stages, embprobe.recipe, embprobe.running, embprobe.inspection, embprobe.study
for name in embprobe.__all__: getattr(embprobe, name)
from embprobe.__main__ import main
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
from embprobe.__main__ import main
sys.argv = ["embprobe", *{words}]
try:
    main()
finally:
    sys.stderr.write("torch" if "torch" in sys.modules else "light")
"""
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{zoo['embeddings'].path}\n" and done.stderr == "light"


# ---- commands


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


@pytest.mark.parametrize("command", commands())
def test_no_default_is_shown_in_two_brackets(command: str) -> None:
    from typer.testing import CliRunner

    from embprobe.cli import app

    assert not re.search(r"default:\s+\(", CliRunner().invoke(app, [command, "--help"]).output)


@each_file
def test_there_is_no_resume_option(path: Path) -> None:
    assert "resume:" not in path.read_text()
