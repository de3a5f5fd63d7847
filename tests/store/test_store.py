"""The store: checksums, chunks, aliases, prefixes, and inputs left out."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from embprobe.errors import DamagedError, MachineError, UserError
from embprobe.making import make
from embprobe.store import Artefact, Store, digest, mending
from tests.tiny import Child, Toy


@pytest.fixture
def toy(place: Store) -> Artefact:
    return make(Toy(), place)


def flip(path: Path, at: int = 5) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("dtype", ["uint8", "int32", "float16", "float32", "float64", "uint16", "int8"])
def test_zarr_reads_what_was_written(place: Store, dtype: str) -> None:
    import zarr

    out = place.open(Toy())
    values = np.arange(7 * 2 * 3).reshape(7, 2, 3).astype(dtype)
    with out.locked():
        array = out.create("values", values.shape, dtype, chunk_rows=3, attrs={"encoding": "x"})
        array.write(values)
    group = zarr.open_group(str(out.path / "data.zarr"), mode="r")
    np.testing.assert_array_equal(group["values"][:], values)
    np.testing.assert_array_equal(out.array("values").read(), values)
    assert group["values"].dtype == values.dtype and dict(group["values"].attrs) == {"encoding": "x"}


def test_zarr_opens_every_array_of_every_stage(zoo) -> None:  # type: ignore[no-untyped-def]
    import zarr

    for artefact in zoo.artefacts.values():
        if not (artefact.path / "data.zarr").exists():
            continue
        group = zarr.open_group(str(artefact.path / "data.zarr"), mode="r")
        names = [name for name, _ in group.arrays()]
        assert names
        for name in names:
            np.testing.assert_array_equal(group[name][:], artefact.array(name).read(), err_msg=f"{artefact} {name}")


def test_chunks_equal_to_the_fill_value_are_written_too(place: Store) -> None:
    out = place.open(Toy())
    with out.locked():
        out.create("zeros", (8, 2), "float32", chunk_rows=4).write(np.zeros((8, 2)))
        assert out.has("zeros") and len(list((out.path / "data.zarr/zeros/c").glob("*/*"))) == 2


def test_the_last_chunk_is_padded_and_its_padding_never_read(toy: Artefact) -> None:
    array = toy.array("counts")
    assert array.n_chunks == 3 and array.rows_of(2) == range(8, 10)
    assert (toy.path / array.file(2)).stat().st_size == 4 * 3 * 4
    assert array.chunk(2).shape == (2, 3)
    np.testing.assert_array_equal(array.read(7, 99)[:, 0], [7, 8, 9])


def test_any_rows_are_taken_in_the_order_asked(toy: Artefact) -> None:
    rows = np.array([9, 0, 5, 5, 3])
    np.testing.assert_array_equal(toy.array("counts").take(rows)[:, 1], rows)
    np.testing.assert_array_equal(toy.array("counts").floats(slice(2, 5))[:, 0], [2, 3, 4])
    array = toy.array("counts")
    assert array[3].tolist() == [3, 3, 3] and array[-1].tolist() == [9, 9, 9] == array[[-1]][0].tolist()
    assert array[1:8:3][:, 0].tolist() == [1, 4, 7] and array[::-1][:, 0].tolist() == list(range(9, -1, -1))
    with pytest.raises(IndexError, match="counts has 10 rows, and none is number 10"):
        array[10]


def test_stored_encodings_decode_to_floats(place: Store) -> None:
    out = place.open(Toy())
    with out.locked():
        values = np.array([[1.5, -2.0], [0.25, 3.0]], np.float32)
        out.create("half", (2, 2), "uint16", attrs={"encoding": "bf16"}).write(
            (values.view(np.uint32) >> 16).astype(np.uint16)
        )
        out.create("eighth", (2, 2), "int8", attrs={"encoding": "int8", "scale": [0.5, 0.25]}).write(
            np.array([[3, -8], [1, 12]])
        )
        np.testing.assert_array_equal(out.array("half").floats(slice(0, 2)), values)
        np.testing.assert_array_equal(out.array("eighth").floats(np.array([1, 0])), [[0.5, 3.0], [1.5, -2.0]])


def test_checksums_are_lines_that_xxh128sum_checks(toy: Artefact) -> None:
    import shutil

    lines = (toy.path / "checksums.xxh128").read_text().splitlines()
    found = dict(reversed(line.split("  ", 1)) for line in lines)
    assert {"facts.json", "data.zarr/counts/zarr.json", "data.zarr/counts/c/0/0"} <= set(found)
    for name, value in found.items():
        assert digest((toy.path / name).read_bytes()) == value
    if shutil.which("xxh128sum"):
        subprocess.run(["xxh128sum", "-c", "checksums.xxh128"], cwd=toy.path, check=True)


@pytest.mark.parametrize("name", ["data.zarr/counts/c/1/0", "data.zarr/counts/zarr.json", "facts.json"])
def test_a_flipped_byte_is_never_read(toy: Artefact, name: str) -> None:
    flip(toy.path / name)
    fresh = Store(toy.root)[toy.short]
    with pytest.raises(DamagedError, match=f"{name} is damaged"):
        fresh.array("counts").read()
        fresh.read_json("facts.json")
    assert mending.damage(fresh) == [name]


def test_a_missing_chunk_and_a_changed_manifest_are_damage(toy: Artefact) -> None:
    (toy.path / "data.zarr/counts/c/2/0").unlink()
    with pytest.raises(DamagedError, match="is missing"):
        toy.array("counts").read()
    (toy.path / "manifest.json").write_text("{")
    assert mending.damage(Store(toy.root)[toy.short]) == ["manifest.json", "data.zarr/counts/c/2/0"]


def test_lines_hold_any_text(place: Store) -> None:
    out = place.open(Toy())
    captions = ["a\u2028b", "naïve café ☕", "line\nbreak", "nel\x85", ""]
    with out.locked():
        out.write_lines("caption.jsonl", captions)
    assert out.read_lines("caption.jsonl") == captions


def test_nothing_half_written_stays(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    out = place.open(Toy())
    monkeypatch.setattr("os.fsync", lambda fd: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"), out.locked():
        out.write_json("facts.json", 1)
    assert not list(out.path.rglob("*.part")) and not (out.path / "facts.json").exists()


def test_the_manifest_comes_last(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Toy, "run", lambda self, out: out.write_json("facts.json", out.complete))
    made = make(Toy(), place)
    assert made.complete and made.read_json("facts.json") is False
    manifest = json.loads((made.path / "manifest.json").read_text())
    ledger = (made.path / "checksums.xxh128").read_bytes()
    assert manifest["checksums"] == digest(ledger) and manifest["seconds"] >= 0 and manifest["peak_bytes"] > 0


# ---- names


def test_an_alias_moves_and_says_so(place: Store, toy: Artefact, capsys: pytest.CaptureFixture[str]) -> None:
    other = make(Toy(seed=1), place)
    place.name("mine", toy)
    assert place["mine"] == toy and capsys.readouterr().err.count("named") == 0
    place.name("mine", other)
    said = capsys.readouterr().err
    assert place["mine"] == other and toy.short in said and other.short in said
    assert place.names() == [("mine", other)]


def test_an_alias_is_no_second_artefact(place: Store, toy: Artefact) -> None:
    place.name("mine", toy)
    place.name("abcdef12", toy)
    assert place.artefacts() == [toy] and place["abcdef12"] == toy
    assert place.infer_input("toy", ("toy",), []) == toy


@pytest.mark.parametrize("alias", ["", "a/b", ".hidden", "../x"])
def test_a_name_with_a_slash_is_refused(place: Store, toy: Artefact, alias: str) -> None:
    with pytest.raises(UserError, match="can't be a name"):
        place.name(alias, toy)


def test_names_with_spaces_and_other_scripts(tmp_path: Path) -> None:
    store = Store(tmp_path / "ein Lager für Bilder ☕")
    made = make(Toy(), store)
    store.name("mein Hündchen 犬", made)
    assert store["mein Hündchen 犬"] == made == store[str(made.path)]
    np.testing.assert_array_equal(made.array("counts").read()[:, 0], np.arange(10))


def test_an_ambiguous_prefix_lists_what_it_fits(place: Store) -> None:
    for tail in ("aa", "bb"):
        folder = place.root / "toy" / ("0123456" + tail.ljust(25, "0"))
        folder.mkdir(parents=True)
        (folder / "spec.json").write_text('{"spec": {}, "options": {}, "inputs": {}}')
    with pytest.raises(UserError, match=r"0123456 fits 2 artefacts .*toy 0123456aa.*; give more digits"):
        place["0123456"]
    assert place["0123456aa"].fingerprint.startswith("0123456aa")
    assert place.lookup("01234") is None  # five digits are no reference


def test_an_unknown_reference_offers_a_near_one(place: Store, toy: Artefact) -> None:
    place.name("faces", toy)
    with pytest.raises(UserError, match='did you mean "faces"'):
        place["facse"]


# ---- inputs left out


def test_an_input_left_out_comes_from_the_lineage(place: Store, capsys: pytest.CaptureFixture[str]) -> None:
    toys = [make(Toy(seed=i), place) for i in range(2)]
    child = make(Child(toy=toys[1]), place)
    assert place.infer_input("toy", ("toy",), [child]) == toys[1]
    assert f"--toy {toys[1].short} (in the lineage)" in capsys.readouterr().err


def test_an_input_left_out_is_the_only_one_that_fits(place: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError, match=r"--toy is missing and nothing in .* fits; make one with `embprobe toy`"):
        place.infer_input("toy", ("toy",), [])
    only = make(Toy(), place)
    assert place.infer_input("toy", ("toy",), []) == only
    assert "the only one that fits" in capsys.readouterr().err


def test_where_several_inputs_fit_they_are_listed(place: Store) -> None:
    toys = [make(Toy(seed=i), place) for i in range(2)]
    with pytest.raises(UserError, match="2 artefacts fit") as error:
        place.infer_input("toy", ("toy",), [])
    assert all(toy.short in str(error.value) for toy in toys)


def test_one_of_another_lineage_does_not_fit(place: Store) -> None:
    toys = [make(Toy(seed=i), place) for i in range(2)]
    children = [make(Child(toy=toy), place) for toy in toys]
    assert place.infer_input("child", ("child",), [toys[0]]) == children[0]


# ---- the folder


def test_a_file_in_the_place_of_the_store_is_the_users_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="is no folder, and so no store"):
        Store(tmp_path / "file")


def test_an_array_begun_with_another_shape_is_not_mixed(place: Store) -> None:
    out = place.open(Toy())
    with out.locked():
        out.create("values", (4, 2), "float32")
        with pytest.raises(MachineError, match="has shape"):
            out.create("values", (5, 2), "float32")


def test_only_the_rows_of_a_chunk_fit_in_it(place: Store) -> None:
    out = place.open(Toy())
    with out.locked(), pytest.raises(ValueError, match="chunk 2 takes"):
        out.create("values", (10, 2), "float32", chunk_rows=4).write_chunk(2, np.zeros((4, 2)))
