"""Recipes: YAML to stages, `$name`, `for:`, paths, and failures that stop only what needs them."""

from pathlib import Path

import pytest

from embprobe import recipe as module
from embprobe.errors import DamagedError, UserError
from embprobe.making import make
from embprobe.recipe import assigned, load_recipe
from embprobe.running import made as made_steps
from embprobe.stage import Stage
from embprobe.store import Artefact, Store
from tests.conftest import Shell
from tests.tiny import Child, Toy, class_folder


@pytest.fixture(autouse=True)
def toys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.STAGES, "toy", Toy)
    monkeypatch.setitem(module.STAGES, "child", Child)


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def made(path: Path, store: Store, *sets: str) -> list[Artefact]:
    steps = made_steps(load_recipe(path, assigned(sets)), store, lambda stage: make(stage, store))
    return [out for _, _, out in steps]


def test_steps_refer_to_earlier_ones_by_name(tmp_path: Path, place: Store) -> None:
    path = write(
        tmp_path, "steps:\n- toy: {rows: 5, as: five}\n- toy: {rows: 6}\n- child: {toy: $five}\n- child: {toy: $toy}"
    )
    five, six, first, second = made(path, place)
    assert first.inputs["toy"] == five and second.inputs["toy"] == six


def test_for_repeats_steps_and_a_list_of_artefacts_is_one(tmp_path: Path, place: Store) -> None:
    path = write(
        tmp_path,
        """
set: {seeds: [3, 4]}
steps:
- for: {seed: $seeds}
  steps:
  - toy: {seed: $seed, as: one, label: toy $seed}
- child: {toy: first, parents: $one}
""",
    )
    place.name("first", make(Toy(seed=3), place))
    *repeated, child = made(path, place)
    assert [a.spec["seed"] for a in repeated] == [3, 4]
    assert {a.spec["seed"] for k, a in child.inputs.items() if k.startswith("parents")} == {3, 4}


def test_set_replaces_a_value(tmp_path: Path, place: Store) -> None:
    path = write(tmp_path, "set: {n: 5}\nsteps:\n- toy: {rows: $n}")
    assert made(path, place, "n=7")[0].spec["rows"] == 7
    with pytest.raises(UserError, match=r"nothing to set called 'm'; did you mean \"n\"|known: n"):
        load_recipe(path, {"m": 1})
    with pytest.raises(UserError, match="has no `=`"):
        assigned(["n"])


def test_paths_in_a_recipe_start_at_it_and_paths_in_set_where_one_stands(
    tmp_path: Path, place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipes, here = tmp_path / "recipes", tmp_path / "here"
    for number, folder in enumerate((recipes, here)):
        class_folder(folder / "faces", ["cat", "dog"], 3 + number)
    monkeypatch.chdir(here)
    path = write(recipes, "set: {data: faces}\nsteps:\n- ingest: {source: $data, size: 16}")
    assert made(path, place)[0].metrics["count"] == 6
    assert made(path, place, "data=faces")[0].metrics["count"] == 8


def test_a_branch_goes_on_when_another_fails_and_the_worst_code_is_returned(
    tmp_path: Path, place: Store, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(
        tmp_path,
        "steps:\n- toy: {rows: 0, as: a}\n- child: {toy: $a, label: needs a}\n- toy: {rows: 4}\n"
        "- toy: {seed: 9}\n- toy: {rows: 5}",
    )
    real = Toy.run

    def run(self: Toy, out: Artefact) -> None:
        if self.seed == 9:
            raise DamagedError("damaged")
        real(self, out)

    monkeypatch.setattr(Toy, "run", run)
    done: list[Artefact] = []
    with pytest.raises(DamagedError, match=r"toy: damaged \(1 step left out, needing what failed\)"):
        for _, _, out in made_steps(load_recipe(path, {}), place, lambda stage: make(stage, place)):
            done.append(out)
    assert [a.spec["rows"] for a in done] == [4, 5]
    assert "a: --rows is 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", "line 1 is not YAML"),
        ("- toy: {}", "needs a list called `steps`"),
        ("steps: 3", "needs a list called `steps`"),
        ("stepz: []", "needs a list called `steps`"),
        ("steps: []\nabuot: x", 'did you mean "about"'),
        ("steps: [toy]", "a step is `STAGE: {options}`"),
        ("steps: [{toys: {}}]", "there is no stage 'toys'; did you mean \"toy\""),
        ("steps: [{toy: {}, child: {}}]", "a step names one stage"),
        ("steps: [{toy: 3}]", "needs its options as `key: value`"),
        ("steps: [{toy: {rows: $n}}]", "nothing before it is called $n"),
        ("set: [1]\nsteps: []", "`set` must map names to values"),
        ("steps: [{for: {a: 3}}]", "for"),
        ("steps: [{for: 3, steps: []}]", "for"),
    ],
)
def test_what_a_recipe_cannot_mean_is_said_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        load_recipe(path, {})
    assert message in str(error.value) and "recipe.yaml" in str(error.value)


def test_bytes_that_are_no_text_are_said_to_be_none(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00steps")
    with pytest.raises(UserError, match="is not YAML"):
        load_recipe(tmp_path / "r.yaml", {})


def shipped() -> list[Path]:
    return sorted({p.resolve() for folder in module.SHIPPED for p in folder.glob("*.yaml")})


@pytest.mark.parametrize("path", shipped(), ids=lambda p: p.stem)
def test_every_shipped_recipe_parses_and_says_what_it_is_about(path: Path) -> None:
    loaded = load_recipe(path, {})
    assert loaded.about.strip() and loaded.steps
    for step in loaded.steps:
        assert issubclass(step.cls, Stage)
        assert set(step.options) <= set(step.cls.__dataclass_fields__)


def test_run_says_each_step_and_prints_the_last_artefact(tmp_path: Path, place: Store, shell: Shell) -> None:
    path = write(tmp_path, "steps:\n- toy: {rows: 4}\n- child: {toy: $toy}")
    done = shell("run", path, "--store", place.root, "--name", "end")
    assert done.code == 0 and done.out == f"{place['end'].path}\n"
    assert [line[:6] for line in done.lines if line.startswith("[")] == ["[1/2] ", "[2/2] "]


def test_plan_tells_what_is_cached_what_runs_and_why(tmp_path: Path, place: Store, shell: Shell) -> None:
    path = write(tmp_path, "set: {n: 4}\nsteps:\n- toy: {rows: $n}\n- child: {toy: $toy}")
    new = shell("plan", path, "--store", place.root)
    assert new.code == 0 and new.out.count("will run") == 2 and "toy will be made first" in new.out
    assert not place.artefacts()  # planning makes nothing
    shell("run", path, "--store", place.root)
    assert shell("plan", path, "--store", place.root).out.count("cached") >= 2
    changed = shell("plan", path, "--store", place.root, "--set", "n=5")
    assert "rows 4 → 5" in changed.out
