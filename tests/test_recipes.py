"""The recipes that ship: each plans and runs end to end with smaller counts, widths and pixels; real data where it is."""

import os
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import yaml

from embprobe.recipe import load_recipe
from embprobe.store import Artefact, Store
from tests.conftest import ROOT, Shell

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
NETWORK, OTHER = "random:vit-32x2-h2-p8", "random:vit-24x1-h2-p8"
DEMO = {
    "count": 48, "size": 32, "patch": 8, "pretrain_steps": 2, "classify_steps": 2, "compress_steps": 2, "diffuse_steps": 3,
    "decode_steps": 2, "samples": 24, "curve_samples": 16, "curve": "[0.5]", "random": NETWORK,
}  # fmt: skip
IMAGENETTE = DEMO | {"width": 16, "depth": 1, "heads": 2, "pretrain_batch": 8, "diffuse_width": 16, "decode_width": 8}
AFHQ = {
    "size": 64, "pixels": 32, "ijepa": NETWORK, "mae": OTHER, "compress_steps": 3, "width": 16,
    "diffuse_steps": 3, "decoder_width": 8, "decode_steps": 2, "classify_steps": 2, "samples": 24, "sampler_steps": 2,
    "curve_samples": 16, "curve": "[0.5]",
}  # fmt: skip
ENCODERS = {
    "encoders": f"[{NETWORK}, {OTHER}]", "controls": "[pixels]", "size": 32, "channels": 4, "compress_steps": 2,
    "diffuse_steps": 2, "diffuse_width": 32, "diffuse_depth": 1, "decode_steps": 2, "decode_width": 8, "samples": 24,
    "sampler_steps": 2, "judges": NETWORK,
}  # fmt: skip
TEXT = {
    "count": 96, "judge_count": 64, "classify_steps": 2, "diffuse_steps": 3, "diffuse_width": 32, "diffuse_depth": 1,
    "decode_steps": 2, "samples": 96, "free_samples": 16, "sampler_steps": 2,
}  # fmt: skip
SCALING = {
    "count": 48, "pretrain_steps": 2, "objectives": "[mae]", "encoders": '["pixels:8"]', "widths": "[8, 16]",
    "images": "[24]", "seeds": "[0]", "diffuse_steps": 3, "milestones": "[0.4]", "depth": 1, "classify_steps": 2,
    "compress_steps": 2, "decode_steps": 2, "decode_width": 8, "samples": 12, "sampler_steps": 2,
}  # fmt: skip
SMALL = {
    "scaling": SCALING,
    "demo": DEMO,
    "text": TEXT,
    "tiny": {"size": 32, "width": 16, "depth": 1, "heads": 2, "batch": 8, "steps": 2},
    "encoders": ENCODERS,
    "imagenette64": {k: v for k, v in IMAGENETTE.items() if k not in ("count", "patch")} | {"sampler_steps": 2},
    "afhq-paper": AFHQ | {"by_class_steps": 9, "keep_epochs": "[2.3, 4.6]"},
    "afhq-modern": AFHQ | {"seeds": "[0]", "second_judges": f"[{NETWORK}]"},
}


def words(small: dict[str, object]) -> list[str]:
    """`--set` for each value."""
    return [word for key, value in small.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Classes told apart by their brightness, in splits as AFHQ has them."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("faces")
    rng = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "wild")):
        for split, count in (("train", 14), ("val", 6)):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = rng.integers(80 * number, 80 * number + 90, (64, 64, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{index:02d}.png")
    return folder


def given(recipe: Path, faces: Path) -> list[str]:
    """What a recipe needs to be given."""
    return [] if recipe.stem in ("demo", "text", "scaling") else ["--set", f"images={faces}"]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_tells_its_subject_and_plans_with_its_own_values(
    recipe: Path, faces: Path, shell: Shell, tmp_path: Path
) -> None:
    assert len(yaml.safe_load(recipe.read_text())["about"]) > 100
    planned = shell("plan", recipe.stem, "--store", tmp_path, *given(recipe, faces))
    assert planned.code == 0, planned.err
    assert "report" in planned.out and not list(tmp_path.glob("*/*/manifest.json"))


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small torchvision classifier's weights, in Inception's place."""
    import torch
    from torchvision.models import squeezenet1_1

    path = tmp_path_factory.mktemp("weights") / "squeezenet1_1.pth"
    torch.manual_seed(0)
    torch.save(squeezenet1_1().state_dict(), path)
    return path


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_runs_end_to_end_and_again_at_no_cost(
    recipe: Path, faces: Path, classifier: Path, shell: Shell, tmp_path: Path
) -> None:
    line = ["run", recipe.stem, "--store", tmp_path, *given(recipe, faces), *words(SMALL[recipe.stem])]
    line += ["--set", f"judges=[{classifier}]"] if recipe.stem == "afhq-paper" else []
    made = shell(*line)
    assert made.code == 0, made.err
    report = report_of(tmp_path, made.out)
    assert (report.path / "report.html").stat().st_size > 10_000
    if recipe.stem == "scaling":
        has_a_surface_for_each_encoder(report)
    if recipe.stem == "afhq-paper":
        has_the_papers_tables_and_figures(report)
    if recipe.stem == "text":
        page = (report.path / "report.html").read_text()
        assert all(
            w in page for w in ("words never seen together", "Samples without a prompt", "a red beetle", "by caption")
        )
    again = shell(*line)
    assert (again.code, again.out) == (0, made.out)
    learning = "pretraining" if recipe.stem == "tiny" else "diffusing"
    assert learning in made.err and learning not in again.err
    planned = shell("plan", *line[1:])
    assert "0 to make" in planned.out


def has_a_surface_for_each_encoder(report: Artefact) -> None:
    """Every width and number of images after a milestone and at the end, on the page too."""
    found = report.read_json("table.json")["scaling"]
    assert [surface["encoder"] for surface in found] == ["mae, by class", "pixels:8, by class"]
    for surface in found:
        points = {(p["width"], p["train_images"], p["steps"]) for p in surface["points"]}
        assert points == set(product((8, 16), (24,), (1, 3))) and surface["said"]
    assert "What width, images and steps buy</h2>" in (report.path / "report.html").read_text()
    assert (report.path / "figures" / "scaling-2.svg").stat().st_size > 1000


def has_the_papers_tables_and_figures(report: Artefact) -> None:
    """Tables 1 and 2 after every kept epoch, the paper's values to be filled up, curves by both judges, grids."""
    tables = {t["name"]: t for t in report.read_json("table.json")["published"]}
    by = " (by squeezenet1_1)"
    columns = ["IS ↑ (score by squeezenet1_1)", "ResNet ↑", "TV ↓", f"recall ↑{by}", f"precision ↑{by}"]
    columns.append("FID ↓ (FD by squeezenet1_1)")
    stages = {"1a": "2.29", "1, between": "4.57", "1b": "6.86", "2a": "2.29", "2, between": "4.57", "2b": "5.14"}
    against = ["Paper against here, Table 1", "Paper against here, Table 2b"]
    assert list(tables) == [*(f"Table {name}" for name in stages), *against]
    for name, epochs in stages.items():
        table = tables[f"Table {name}"]
        assert f"after {epochs} epochs; 24 samples" in table["caption"]
        assert "FID is against all training images" in table["caption"]
        assert all(None not in line for line in table["values"])
    assert tables["Table 1a"]["headers"] == ["encoder", *columns]
    assert [row[0] for row in tables["Table 1b"]["rows"]] == [NETWORK, OTHER]
    assert tables["Table 2a"]["headers"] == ["encoder", "class", columns[0], columns[4], columns[3], columns[5]]
    assert [row[:2] for row in tables["Table 2b"]["rows"]] == [
        [e, c] for e in (NETWORK, OTHER) for c in ("cat", "dog", "wild")
    ]
    lines = tables[against[0]]["rows"]
    assert [line[2] for line in lines] == ["paper", "here"] * 4 and lines[1][3:] == ["–"] * 6
    figures = {p.name for p in (report.path / "figures").iterdir()}
    keys = ("fd", "fd_all", "kid", "score", "tv", "precision", "recall")
    assert figures >= {f"curve-{key}.svg" for key in keys}
    assert figures >= {f"curve-squeezenet1-1-{key}.svg" for key in keys if key != "tv"}
    assert len([name for name in figures if name.startswith("samples-") and name.endswith(".png")]) == 12
    page = (report.path / "report.html").read_text()
    assert all(f"{NETWORK}, by class, after {epochs} epochs" in page for epochs in ("2.29", "4.57", "5.14"))
    rows = report.read_json("table.json")["over_training"]["squeezenet1_1"]
    assert [round(row["epochs"], 2) for row in rows[:3]] == [2.29, 4.57, 6.86] and len(rows) == 12


def test_the_papers_recipe_judges_at_every_kept_epoch_by_all_judges_inception_among_them(faces: Path) -> None:
    steps = load_recipe(ROOT / "recipes" / "afhq-paper.yaml", {"images": str(faces), "vgg_weights": "vgg16.pth"}).steps
    denoisers = [s.options for s in steps if s.cls.name() == "diffuse"]
    assert len(denoisers) == 4 and all(d["keep_epochs"] == [50, 100, 150] for d in denoisers)
    drawn = [s.options for s in steps if s.cls.name() == "sample"]
    assert [d["epoch"] for d in drawn if "epoch" in d] == [50, 100, 150] * 4
    assert {d["count"] for d in drawn} == {5000}
    judged = [s.options["judges"] for s in steps if s.cls.name() == "evaluate"]
    assert len(judged) == 2 + len(drawn) and all(judges[1:] == ["inception", "vgg16.pth"] for judges in judged)
    for stage, key, value in (("compress", "standardise", False), ("diffuse", "posterior", "sample"),
                              ("decode", "posterior", "sample")):  # fmt: skip
        assert all(s.options[key] == value for s in steps if s.cls.name() == stage)


def report_of(store: Path, out: str) -> Artefact:
    """The report whose path was printed."""
    path = Path(out.strip())
    assert path.parent == store / "report"
    return Store(store)[path.name]


def test_a_recipe_names_every_step_of_the_flow_between_them() -> None:
    from embprobe.stages import STAGES

    named = "\n".join(p.read_text() for p in RECIPES)
    assert [s for s in STAGES if f"- {s}:" not in named and s not in ("features", "measure", "read", "ceiling")] == []


# ---- real images, where they are

DATA = Path(os.environ.get("EMBPROBE_DATA", ROOT.parent / "shared" / "data"))
SQUEEZENET = DATA.parent / "weights" / "squeezenet1_0_deepcompression.pth"
CHAIN = """
set: {images: null, size: 64, limit: null, label_regex: null, judge: null}
steps:
  - ingest: {source: $images, size: $size, limit: $limit, label_regex: $label_regex, as: data}
  - extract: {images: $data, encoder: "random:vit-32x2-h2-p8", as: embeddings}
  - compress: {embeddings: $embeddings, kind: linear, steps: 5, as: latents}
  - diffuse: {latents: $latents, steps: 3, width: 16, batch: 8, as: denoiser}
  - decode: {latents: $latents, steps: 2, width: 8, size: 32, batch: 8, as: decoder}
  - sample: {denoiser: $denoiser, decoder: $decoder, count: 24, steps: 2, as: samples}
  - evaluate: {samples: $samples, reference: $data, judges: $judge, limit: 64, as: metrics}
  - report: {artefacts: [$metrics]}
"""


def data(name: str) -> Path:
    """A file of real images; skips where it is not."""
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {DATA} (EMBPROBE_DATA says where)")
    return path


def run_chain(shell: Shell, folder: Path, **sets: object) -> Store:
    """The store after a short chain."""
    (folder / "chain.yaml").write_text(CHAIN)
    made = shell("run", folder / "chain.yaml", "--store", folder / "store", *words(sets))
    assert made.code == 0, made.err
    return Store(folder / "store")


def only(store: Store, stage: str) -> Artefact:
    (found,) = [a for a in store.artefacts() if a.stage == stage]
    return found


def test_photos_go_through_every_stage(shell: Shell, tmp_path: Path) -> None:
    small = words(SMALL["imagenette64"] | {"images": data("imagenette64.zip"), "size": 64, "limit": 600})
    made = shell("run", "imagenette64", "--store", tmp_path, *small)
    assert made.code == 0, made.err
    photos = only(Store(tmp_path), "ingest")
    assert photos.metrics["classes"] == 10 and sum(photos.metrics["splits"].values()) == 600
    assert {a.stage for a in Store(tmp_path).artefacts()} >= {"pretrain", "classify", "probe", "evaluate", "report"}


def test_one_class_is_judged_by_other_networks_and_has_no_label_metrics(shell: Shell, tmp_path: Path) -> None:
    judge = SQUEEZENET if SQUEEZENET.is_file() else NETWORK
    store = run_chain(shell, tmp_path, images=data("afhq_cat64.zip"), limit=120, judge=judge)
    metrics = only(store, "evaluate").metrics
    assert metrics["fd"] > 0 and 0 <= metrics["precision"] <= 1
    assert not {"tv", "asked_class"} & metrics.keys()


def test_faces_are_labelled_by_their_names(shell: Shell, tmp_path: Path) -> None:
    source = data("afhq_stargan_representative512.zip")
    store = run_chain(shell, tmp_path, images=source, label_regex="(cat|dog|wild)", judge=NETWORK)
    images = only(store, "ingest")
    assert images.read_json("classes.json") == ["cat", "dog", "wild"] and images.metrics["count"] == 43
    assert np.bincount(images.array("label").read()).min() > 5
