"""What a stage is: its fields are its options and its fingerprint."""

import os
import typing
import zipfile
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.options import build
from embprobe.stage import RUNTIME, described, fields_of, option
from embprobe.stages import STAGES
from embprobe.stages.ingest import Ingest
from embprobe.store import Artefact, Store
from embprobe.store.hashes import file_hash, fingerprint
from tests.tiny import Child, Toy, class_folder


def asked(store: Store, **given: object) -> Toy:
    return typing.cast(Toy, build(Toy, given, store, lambda stage: make(stage, store)))


def test_words_become_typed_values(place: Store, tmp_path: Path) -> None:
    (tmp_path / "w").write_text("x")
    stage = asked(place, rows="1_000", seed="3", weights=str(tmp_path / "w"), forward=4.0)
    assert (stage.rows, stage.seed, stage.weights, stage.forward) == (1000, 3, tmp_path / "w", 4)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"rows": "abc"}, "--rows is 'abc'; it must be a whole number"),
        ({"rows": "1.5"}, "it must be a whole number"),
        ({"rows": True}, "it must be a whole number"),
        ({"rows": "nan"}, "it must be a whole number"),
        ({"rows": "inf"}, "it must be a whole number"),
        ({"rows": [1]}, "it must be a whole number"),
        ({"rows": 0}, "--rows is 0; it must be at least 1"),
        ({"row": 3}, "toy has no option 'row'; did you mean \"rows\""),
    ],
)
def test_wrong_values_are_the_users_mistake(place: Store, given: dict[str, object], message: str) -> None:
    with pytest.raises(UserError) as error:
        asked(place, **given)
    assert message in str(error.value)


def test_an_artefact_of_another_kind_is_refused(place: Store) -> None:
    toy = make(Toy(), place)
    child = make(Child(toy=toy), place)
    with pytest.raises(UserError, match=f"--toy: {child.short} was made by child, but child needs what toy makes"):
        build(Child, {"toy": child.short}, place, lambda stage: make(stage, place))


def test_where_and_how_fast_do_not_decide(place: Store, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("weights")
    (tmp_path / "b").write_text("weights")
    os.utime(tmp_path / "b", (1, 1))
    one, other = Toy(weights=tmp_path / "a", forward=1), Toy(weights=tmp_path / "b", forward=9)
    assert fingerprint(one.spec()) == fingerprint(other.spec())


def test_contents_options_and_the_version_decide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("weights")
    (tmp_path / "b").write_text("Weights")
    asked = [Toy(), Toy(seed=1), Toy(rows=11), Toy(weights=tmp_path / "a"), Toy(weights=tmp_path / "b")]
    prints = {fingerprint(stage.spec()) for stage in asked}
    monkeypatch.setattr(Toy, "version", 2)
    prints.add(fingerprint(Toy().spec()))
    assert len(prints) == 6


def test_a_file_that_changed_hashes_anew(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("one")
    first = file_hash(path)
    path.write_text("two")
    assert file_hash(path) != first
    path.write_text("one")
    assert file_hash(path) == first


def test_the_table_of_hashes_may_be_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "a").write_text("one")
    first = file_hash(tmp_path / "a")
    (tmp_path / "cache" / "embprobe" / "hashes.json").write_text("{torn")
    assert file_hash(tmp_path / "a") == first


def test_a_folder_and_its_zip_are_the_same_question(place: Store, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "Bilder ☕" / "my set", ["cat", "dög"], 6)
    packed = tmp_path / "packed.zip"
    with zipfile.ZipFile(packed, "w") as file:
        for path in sorted(folder.rglob("*.png"), reverse=True):
            file.write(path, Path("my set") / path.relative_to(folder))
    asked = [place.open(Ingest(source=str(source), size=16)) for source in (folder, packed)]
    assert asked[0].fingerprint == asked[1].fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert place.open(Ingest(source=str(moved), size=16)).fingerprint == asked[0].fingerprint
    (moved / "cat" / "000.png").rename(moved / "cat" / "zzz.png")
    assert place.open(Ingest(source=str(moved), size=16)).fingerprint != asked[0].fingerprint


def test_an_artefact_counts_by_its_fingerprint(place: Store) -> None:
    toys = [make(Toy(seed=seed), place) for seed in (0, 1)]
    assert Child(toy=toys[0]).spec()["toy"] == toys[0].fingerprint
    assert Child(toy=toys[0]).inputs() == {"toy": toys[0]}
    assert Child(toy=toys[0], parents=tuple(toys)).inputs()["parents.1"] == toys[1]


@dataclass(frozen=True, kw_only=True)
class Grown(Toy):
    """A toy with an option that it had not from the start."""

    shares: tuple[float, ...] = option("shares", (), above=0, below=1, later=True)


def test_an_option_that_came_later_counts_only_where_it_differs_from_its_default() -> None:
    assert "shares" not in Grown().spec() and Grown(shares=(0.5,)).spec()["shares"] == [0.5]
    assert Grown().options()["shares"] == []


def test_an_empty_default_is_not_shown() -> None:
    assert described(fields_of(Grown)[0]) == "shares  [above 0 and below 1]"


def test_the_bounds_of_a_list_hold_for_each_of_its_numbers(place: Store) -> None:
    for given in ("0.5,1", [0.5, 1]):
        with pytest.raises(UserError, match="--shares is 1; it must be above 0 and below 1"):
            build(Grown, {"shares": given}, place, lambda stage: make(stage, place))


def test_nothing_in_a_list_is_left_out(place: Store) -> None:
    toy = make(Toy(), place)
    assert asked(place, parents=[toy.short, None]).parents == (toy,)


@pytest.mark.parametrize("cls", STAGES.values(), ids=STAGES.keys())
def test_every_field_has_its_help_and_a_type_the_shell_knows(cls: type) -> None:
    from embprobe.cli.stages import metavar

    hints = typing.get_type_hints(cls)
    for field in fields(cls):
        assert field.metadata["help"].strip(), field.name
        assert metavar(field, hints[field.name])
        if hints[field.name] is Artefact:
            assert field.metadata["made_by"], field.name


@pytest.mark.parametrize("cls", STAGES.values(), ids=STAGES.keys())
def test_only_where_and_how_fast_stay_out_of_a_fingerprint(cls: type) -> None:
    hints = typing.get_type_hints(cls)
    runtime = {f.name for f in fields(cls) if f.metadata["runtime"]}
    named = {f.name for f in fields(cls)}
    assert named & set(RUNTIME) == runtime
    assert not any(Artefact in (hints[name], *typing.get_args(hints[name])) for name in runtime)


@pytest.mark.parametrize("cls", STAGES.values(), ids=STAGES.keys())
def test_a_stage_shows_its_own_options_before_those_it_shares(cls: type) -> None:
    shown = [f.name for f in fields_of(cls)]
    assert sorted(shown) == sorted(f.name for f in fields(cls))
    assert shown[0] in cls.__annotations__
