"""A class may be called otherwise; it stays the class it is."""

import json
from pathlib import Path

import pytest

from embprobe.data.classnames import class_name_map
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Store
from embprobe.views import Images
from tests.conftest import Shell
from tests.tiny import class_folder, flat_folder

WNIDS = ["n01440764", "n02012849", "n03126707"]  # a tench, a crane that flies and one that lifts


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return class_folder(tmp_path / "set", WNIDS, 4)


def test_imagenet_has_a_thousand_names_and_no_name_twice() -> None:
    names = class_name_map("imagenet")
    assert len(names) == len(set(names.values())) == 1000
    assert [names[wnid] for wnid in WNIDS] == ["tench", "crane (n02012849)", "crane (n03126707)"]


def test_names_change_neither_the_order_nor_the_ids_of_classes(folder: Path, place: Store) -> None:
    plain = Images(make(Ingest(source=str(folder), size=16), place))
    names = folder.parent / "names.txt"
    names.write_text("n01440764 zander\nn02012849 crane\n")
    named = Images(make(Ingest(source=str(folder), size=16, class_names=str(names)), place))
    assert named.classes == ["zander", "crane", "n03126707"] and plain.classes == WNIDS
    assert (named.labels == plain.labels).all() and (named.split == plain.split).all()  # type: ignore[union-attr]
    assert named.artefact.metrics["class_counts"] == {"zander": 4, "crane": 4, "n03126707": 4}
    assert named.artefact.metrics["unnamed"] == 1


def test_names_count_by_what_they_say_and_not_by_the_file_they_lie_in(folder: Path, place: Store) -> None:
    plain = place.open(Ingest(source=str(folder), size=16))
    files = {"a.json": json.dumps({"n01440764": "tench"}), "b.csv": "n01440764,tench\n", "c.txt": "n01440764\ttench\n"}
    files |= {"keras.json": json.dumps({"0": ["n01440764", "tench"]})}
    made = set()
    for name, text in files.items():
        (folder.parent / name).write_text(text)
        made.add(place.open(Ingest(source=str(folder), size=16, class_names=str(folder.parent / name))))
    assert len(made) == 1 and plain not in made
    (folder.parent / "c.txt").write_text("n01440764 a tench\n")
    assert place.open(Ingest(source=str(folder), size=16, class_names=str(folder.parent / "c.txt"))) not in made


def test_two_classes_of_one_name_stay_two(folder: Path, place: Store) -> None:
    names = folder.parent / "names.json"
    names.write_text(json.dumps(dict.fromkeys(WNIDS[:2], "animal")))
    made = Images(make(Ingest(source=str(folder), size=16, class_names=str(names)), place))
    assert made.classes == ["animal (n01440764)", "animal (n02012849)", "n03126707"]


def test_a_list_names_classes_by_number(tmp_path: Path) -> None:
    (tmp_path / "names.json").write_text('["airplane", "automobile"]')
    assert class_name_map(str(tmp_path / "names.json")) == {"0": "airplane", "1": "automobile"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds no names"),
        ("tench\n", '"tench" stands without a name'),
        ("n9 other\n", r"names none of the classes \(n01440764"),
        ("n01440764 " + "x" * 300, "more than 200 characters"),
    ],
)
def test_a_map_that_fits_nothing_is_refused_before_anything_is_made(
    folder: Path, place: Store, text: str, message: str
) -> None:
    names = folder.parent / "names.txt"
    names.write_text(text)
    with pytest.raises(UserError, match=message):
        make(Ingest(source=str(folder), size=16, class_names=str(names)), place)
    assert place.artefacts() == []


@pytest.mark.parametrize("text", ["[1, 2]", "3", '{"a": 1}', "{", '{"a": "\\ud800"}'])
def test_json_that_is_no_map_is_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "names.json").write_text(text)
    with pytest.raises(UserError, match=r"cannot read .*names\.json"):
        class_name_map(str(tmp_path / "names.json"))


def test_a_set_without_classes_and_a_word_that_is_no_file(tmp_path: Path, place: Store, shell: Shell) -> None:
    flat = flat_folder(tmp_path / "flat", 4)
    with pytest.raises(UserError, match="the images have no classes"):
        make(Ingest(source=str(flat), size=16, class_names="imagenet"), place)
    done = shell("ingest", "--source", flat, "--class-names", "imagenett", "--store", place.root)
    assert done.code == 2 and 'there is no such file; did you mean "imagenet"' in done.err
    done = shell("ingest", "--source", "planted", "--class-names", "imagenet", "--store", place.root)
    assert done.code == 2 and "does not apply to planted scenes" in done.err
