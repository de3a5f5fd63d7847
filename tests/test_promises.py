"""One question, one artefact: two spellings agree, two answers differ; what is added is all that is computed."""

import json
import typing
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embprobe.errors import Interrupted, UserError
from embprobe.making import make, planned
from embprobe.stage import spelled
from embprobe.stages import STAGES
from embprobe.stages.classify import Classify
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.extract import Extract
from embprobe.stages.features import Featurize
from embprobe.store import Artefact, Store
from embprobe.training.presets import MODERN
from tests import tiny
from tests.conftest import Shell, Zoo

# ---- one question, one artefact


def test_an_input_left_out_is_the_same_question_as_the_one_it_stands_for(zoo: Zoo) -> None:
    left_out, given = (Decode(latents=zoo["latents"], **more) for more in ({}, {"images": zoo["images"]}))
    assert zoo.store.open(left_out).fingerprint == zoo.store.open(given).fingerprint


def test_a_short_name_is_timms_own(zoo: Zoo) -> None:
    names = ("mae", "timm:mae", "timm:vit_huge_patch14_224.mae")
    assert len({zoo.store.open(Extract(images=zoo["images"], encoder=name)).fingerprint for name in names}) == 1


def test_a_seed_where_nothing_is_drawn_does_not_count(zoo: Zoo) -> None:
    def asked(encoder: str | Artefact, **options: object) -> set[str]:
        stages = [Extract(images=zoo["images"], encoder=encoder, seed=seed, **options) for seed in (0, 1)]
        return {zoo.store.open(stage).fingerprint for stage in stages}

    assert len(asked("pixels")) == len(asked("mae")) == len(asked(zoo["encoder"])) == 1
    assert len(asked("pixels", storage="int8")) == len(asked(tiny.ENCODER)) == 2


def test_a_preset_counts_by_what_it_holds(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    stage = Diffuse(latents=zoo["latents"], preset="modern")
    before = zoo.store.open(stage)
    spelled = {f.name: getattr(MODERN, f.name) for f in fields(MODERN) if f.name in ("ema", "rate", "batch", "network")}
    assert zoo.store.open(Diffuse(latents=zoo["latents"], **spelled)).fingerprint == before.fingerprint
    monkeypatch.setattr("embprobe.stages.diffuse.MODERN", replace(MODERN, beta_2=0.9))
    assert zoo.store.open(Diffuse(latents=zoo["latents"])).fingerprint != before.fingerprint


def hub(cache: Path, name: str, seed: int) -> Path:
    """A checkpoint in a cache of the hub's layout."""
    import timm
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    state = timm.create_model(name.split(".")[0], pretrained=False, num_classes=0).state_dict()
    folder = cache / f"models--timm--{name}"
    (folder / "snapshots" / "abc").mkdir(parents=True, exist_ok=True)
    (folder / "refs").mkdir(exist_ok=True)
    (folder / "refs" / "main").write_text("abc")
    save_file(state, folder / "snapshots" / "abc" / "model.safetensors")
    return folder / "snapshots" / "abc" / "model.safetensors"


def test_weights_of_a_hub_count_by_content_and_as_a_file_they_are_the_same(
    zoo: Zoo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    name = "vit_tiny_patch16_224.augreg_in21k"
    stage = Extract(images=zoo["images"], encoder=f"timm:{name}", device="cpu")
    file = hub(tmp_path / "hub", name, 0)
    first = planned(stage, zoo.store)
    assert planned(Extract(images=zoo["images"], encoder=f"timm:{name}", weights=file), zoo.store) == first
    made = make(stage, Store(tmp_path / "store"))
    assert made == first and made.metrics["encoder"]["weights_hash"]
    hub(tmp_path / "hub", name, 1)
    assert planned(stage, zoo.store) != first


# ---- features and judges


@dataclass(frozen=True)
class Judged:
    """Tiny samples, and a judge."""

    store: Store
    samples: Artefact
    images: Artefact
    judge: Artefact

    def evaluate(self, *judges: Artefact | str, store: Store | None = None) -> Artefact:
        stage = Evaluate(samples=self.samples, reference=self.images, judges=judges, k=2, device="cpu")
        return make(stage, store or self.store)


@pytest.fixture(scope="module")
def judged(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    store = Store(tmp_path_factory.mktemp("judged"))
    judge = make(Classify(images=zoo["images"], **tiny.CLASSIFY), store)
    return Judged(store, zoo["samples"], zoo["images"], judge)


def test_adding_a_judge_computes_that_judge_alone(judged: Judged) -> None:
    first = judged.evaluate(judged.judge)
    before = {a: a.manifest["finished"] for a in judged.store.artefacts()}
    both = judged.evaluate(judged.judge, tiny.ENCODER)
    fresh = [a.stage for a in judged.store.artefacts() if a not in before]
    assert sorted(fresh) == ["evaluate", "features", "features", "measure"]
    reports = both.read_json("metrics.json")["judges"]
    assert reports[0] == first.read_json("metrics.json")["judges"][0] and len(reports) == 2


def test_judges_are_found_before_the_question_is_put(judged: Judged, tmp_path: Path) -> None:
    stage = Evaluate(samples=judged.samples, reference=judged.images, k=2).prepare(
        lambda other: planned(other, judged.store), download=False
    )
    assert stage.judges and all(isinstance(j, Artefact) or j == "inception" for j in stage.judges)
    assert set(stage.spec()["measured"]) == {a.fingerprint for a in stage.measured}


def test_features_stopped_after_a_chunk_continue_bit_equal(
    judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("embprobe.stages.features.CHUNK_ROWS", 8)
    monkeypatch.setattr("embprobe.stages.features.BATCH", 8)
    stage = Featurize(images=judged.images, judge=judged.judge, size=(16, 16), device="cpu")
    whole, asked = make(stage, Store(tmp_path / "whole")), [0]

    def check() -> None:
        asked[0] += 1
        if asked[0] > 3:
            raise Interrupted("stop")

    store = Store(tmp_path / "stopped")
    with monkeypatch.context() as patch:
        patch.setattr("embprobe.chunks.signals", SimpleNamespace(check=check))
        with pytest.raises(Interrupted):
            make(stage, store)
    partly = store.open(stage).array("train_features")
    assert 0 < len(partly.missing()) < partly.n_chunks
    assert make(stage, store).folder.sums == whole.folder.sums


def test_a_measure_killed_between_its_parts_keeps_the_first(
    judged: Judged, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from embprobe.stages.measure import Measure

    stage = Measure(samples=judged.samples, reference=judged.images, judge=judged.judge, k=2, device="cpu")
    whole, store = make(stage, Store(tmp_path / "whole")), Store(tmp_path / "killed")
    with monkeypatch.context() as patch:
        patch.setattr(Measure, "copies", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            make(stage, store)
    out = planned(stage, store)
    assert out.has("figures.json") and not out.complete
    monkeypatch.setattr(Measure, "figures", lambda self: pytest.fail("it was computed again"))
    assert make(stage, store).folder.sums == whole.folder.sums


def test_features_of_other_images_are_not_taken_for_those_asked_for(judged: Judged) -> None:
    from embprobe.evaluation.features import feature_set
    from embprobe.views import Features

    made = make(Featurize(images=judged.images, judge=judged.judge, size=(16, 16), device="cpu"), judged.store)
    rows = made.array("train_rows")
    kept = rows.read()
    made.folder.write(rows.file(0), rows.coder.encode(np.concatenate([kept[:-1], kept[-1:]])))
    assert len(feature_set(Features(made), "train", None)) == len(kept)
    with pytest.raises(UserError, match="wants what features makes"):
        Features(judged.images)


# ---- bounds are declared, shown and checked

BOUNDED = [
    (cls, f.name, bound, f.metadata["bounds"][bound])
    for cls in STAGES.values()
    for f in fields(cls)
    for bound in ("least", "above", "most", "below")
    if f.metadata["bounds"][bound] is not None
]


@pytest.mark.parametrize(
    ("cls", "name", "bound", "value"), BOUNDED, ids=lambda v: v.__name__ if isinstance(v, type) else str(v)
)
def test_a_number_out_of_its_bounds_is_one_line_and_help_says_them(
    cls: type, name: str, bound: str, value: float, shell: Shell, zoo: Zoo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBPROBE_STORE", str(zoo.store.root))
    hint = typing.get_type_hints(cls)[name]
    step = 1 if hint in (int, int | None, tuple[int, ...]) else 0.5
    wrong = {"least": value - step, "above": value, "most": value + step, "below": value}[bound]
    required = {"images": "images", "latents": "latents", "embeddings": "embeddings", "denoiser": "denoiser",
                "decoder": "decoder", "samples": "samples", "reference": "images", "source": "planted",
                "objective": "mae", "encoder": "pixels", "judge": "encoder", "size": "16",
                "reader": "low-shot", "grid": "4,4"}  # fmt: skip
    positional = [f.name for f in fields(cls) if f.metadata["positional"]]
    words = [w for f in fields(cls) if f.default is MISSING and f.name in required
             and f.name != name for w in (f"--{f.name}", required[f.name])]  # fmt: skip
    done = shell(cls.name(), *words, *(["images"] if positional else []), f"--{name.replace('_', '-')}", wrong)
    assert done.code == 2 and "Traceback" not in done.err, done.err
    assert f"--{name.replace('_', '-')} is {spelled(wrong)}; it must be " in done.lines[-1]
    shown = shell(cls.name(), "--help").out
    words_of = {"least": "at least", "above": "above", "most": "at most", "below": "below"}
    assert f"{words_of[bound]} {spelled(value)}" in " ".join(shown.replace("│", " ").split())


def test_what_happened_before_a_kill_is_in_the_manifest(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    out = place.open(tiny.Toy())
    with out.locked():
        out.log.add(event="rolled back", near=20, to=0)
    made = make(tiny.Toy(), place)
    assert [event["event"] for event in made.manifest["events"]] == ["rolled back"]
    assert json.loads((made.path / "manifest.json").read_text())["events"][0]["near"] == 20


# ---- what is given in Python is read as the shell reads it


def test_numbers_and_paths_of_python_are_the_shells(zoo: Zoo, tmp_path: Path) -> None:
    from embprobe.stages.ingest import Ingest
    from embprobe.stages.sample import Sample

    def same(*stages: object) -> bool:
        return len({zoo.store.open(stage).fingerprint for stage in stages}) == 1  # type: ignore[arg-type]

    assert same(Ingest(source="planted", val_share=0), Ingest(source="planted", val_share=0.0, size=64.0))  # type: ignore[arg-type]
    drawn = {"denoiser": zoo["denoiser"], "decoder": zoo["decoder"]}
    assert same(Sample(**drawn, guidance=2), Sample(**drawn, guidance=2.0))
    steps = Sample(**drawn).denoiser.spec["steps"]
    assert same(Sample(**drawn), Sample(**drawn, milestone=steps), Sample(**drawn, milestone=float(steps)))
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"x")
    name = "timm:vit_tiny_patch16_224"
    given = [Extract(images=zoo["images"], encoder=name, weights=w) for w in (weights, str(weights))]  # type: ignore[arg-type]
    assert same(*given)
    assert Evaluate(samples=zoo["samples"], reference=zoo["images"], judges="inception").judges == ("inception",)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--storage is 'f32'; it must be one of f16, bf16, int8"):
        Extract(images=zoo["images"], encoder="pixels", storage="f32")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--size is '64'; it must be a whole number"):
        Ingest(source="planted", size="64")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, float("inf"), float("nan"), True, "8"])
def test_no_number_of_python_is_taken_for_a_whole_one(zoo: Zoo, value: object) -> None:
    with pytest.raises(UserError, match="it must be a whole number"):
        Extract(images=zoo["images"], encoder="pixels", forward=value)  # type: ignore[arg-type]


def test_a_numpy_number_is_the_same_question(zoo: Zoo) -> None:
    given = Extract(images=zoo["images"], encoder="random:vit-16x1-h2-p4", seed=np.int64(3))  # type: ignore[arg-type]
    assert type(given.seed) is int and given.seed == 3


def test_the_seed_of_another_packages_encoder_counts(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    from embprobe.encoders import names

    entry = EntryPoint("mine", "package:function", names.GROUP)
    monkeypatch.setattr(names, "families", lambda: {"mine": entry})
    prints = {zoo.store.open(Extract(images=zoo["images"], encoder="mine:x", seed=s)).fingerprint for s in (0, 1)}
    assert len(prints) == 2


def test_a_mask_takes_the_rows_it_says_and_no_others(zoo: Zoo) -> None:
    from embprobe.views import Images

    images = Images(zoo["images"])
    mask = images.labels == 1
    np.testing.assert_array_equal(images.array[mask], images.array.read()[mask])
    for wrong in (mask[:-1], [48], np.array([-49])):
        with pytest.raises(IndexError, match="images has 48 rows"):
            images.array[wrong]


def test_classes_are_compared_by_name_and_never_by_number(zoo: Zoo, tmp_path: Path) -> None:
    from embprobe.evaluation.features import compared_sets
    from embprobe.stages.ingest import Ingest
    from embprobe.views import Features, Images

    store = Store(tmp_path / "store")
    sets = [
        make(Ingest(source=str(tiny.class_folder(tmp_path / names[0], names, 12)), size=16, val_share=0.25), store)
        for names in (["bird", "cat", "dog"], ["cat", "dog"])
    ]
    look = {"judge": tiny.ENCODER, "size": (16, 16), "device": "cpu"}
    real = Features(make(Featurize(images=sets[0], **look), store))
    for other, ids in ((sets[0], {0, 1, 2}), (sets[1], {1, 2})):
        drawn = Features(make(Featurize(images=other, whole=True, **look), store))
        assert set(compared_sets(Images(sets[0]), real, drawn)["samples"].label.tolist()) == ids


def test_a_recipe_may_set_any_name(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text(
        "set: {device: cuda}\nsteps: [{ingest: {source: planted, count: 20, size: 16, device: $device}}]"
    )
    done = shell("run", tmp_path / "r.yaml", "--set", "device=cpu", "--store", tmp_path / "s")
    assert done.code == 0, done.err


@pytest.mark.parametrize("size", ["0", "1,2,3", ","])
def test_a_size_that_is_none_is_one_line(size: str, zoo: Zoo, shell: Shell) -> None:
    words = ("features", "--images", "images", "--judge", tiny.ENCODER, "--size", size, "--store", zoo.store.root)
    done = shell(*words)
    assert done.code == 2 and "--size is a height and a width" in done.lines[-1], done.err
