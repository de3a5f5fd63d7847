"""ls, show, verify, rm: what is in the store, and whether it is whole."""

import json
from pathlib import Path

import pytest

from embprobe.inspection.upkeep import verify
from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Artefact, Store
from tests.conftest import Shell
from tests.store.test_store import flip


@pytest.fixture
def images(place: Store, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    monkeypatch.setattr("embprobe.stages.ingest.CHUNK_BYTES", 8 * 3 * 16 * 16)
    return make(Ingest(source="planted", count=20, size=16), place)


def test_ls_and_show_tell_stage_state_name_and_metrics(images: Artefact, shell: Shell) -> None:
    Store(images.root).name("scenes", images)
    listed = shell("ls", "--store", images.root)
    assert listed.code == 0 and images.short in listed.out and "scenes" in listed.out
    shown = shell("show", "scenes", "--store", images.root)
    assert str(images.path) in shown.out and "source=planted" in shown.out and "versions" in shown.out
    as_json = json.loads(shell("ls", "--json", "--store", images.root).out)
    assert as_json[0]["names"] == ["scenes"] and as_json[0]["complete"] is True
    assert json.loads(shell("show", images.short, "--json", "--store", images.root).out)["metrics"]["count"] == 20


def test_verify_names_the_chunk_and_exits_with_3(images: Artefact, shell: Shell) -> None:
    whole = shell("verify", "--store", images.root)
    assert whole.code == 0 and whole.out == "1 artefact whole\n"
    flip(images.path / "data.zarr/images/c/1/0/0/0")
    found = shell("verify", "--store", images.root)
    assert found.code == 3 and "chunk 1 of images, rows 8 to 15" in found.err
    assert found.lines[-1] == "embprobe: 1 damaged file; `embprobe verify --repair` makes again what can be made again"


def test_repair_redoes_that_chunk_alone(images: Artefact, shell: Shell) -> None:
    chunk = images.path / "data.zarr/images/c/1/0/0/0"
    before = chunk.read_bytes()
    others = {p: p.stat().st_mtime_ns for p in (images.path / "data.zarr").rglob("*") if p.is_file() and p != chunk}
    ledger = (images.path / "checksums.xxh128").read_text()
    flip(chunk)
    done = shell("verify", "--repair", "--store", images.root)
    assert done.code == 0 and done.out == "1 artefact whole, 1 repaired\n"
    assert "rows 8 to 15) made again" in done.err and "differs" not in done.err
    assert chunk.read_bytes() == before
    assert {p: p.stat().st_mtime_ns for p in others} == others
    assert (images.path / "checksums.xxh128").read_text() == ledger
    assert shell("verify", "--store", images.root).code == 0


def test_repair_says_when_the_new_bytes_differ(images: Artefact, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    from embprobe.data import crowds

    flip(images.path / "data.zarr/images/c/2/0/0/0")
    real = crowds.scenes
    monkeypatch.setattr(crowds, "scenes", lambda seed, *rest: real(seed + 1, *rest))
    done = shell("verify", images.short, "--repair", "--store", images.root)
    assert done.code == 0 and "rows 16 to 19) differs from the first" in done.err


@pytest.mark.parametrize("name", ["manifest.json", "checksums.xxh128", "key.jsonl", "data.zarr/images/zarr.json"])
def test_any_file_can_be_repaired(images: Artefact, shell: Shell, name: str) -> None:
    before = (images.path / "checksums.xxh128").read_text()
    (images.path / name).write_bytes(b"{}")
    assert shell("verify", "--store", images.root).code == 3
    done = shell("verify", "--repair", "--store", images.root)
    assert done.code == 0, done.err
    assert (images.path / "checksums.xxh128").read_text() == before
    assert shell("verify", "--store", images.root).code == 0


def test_damaged_weights_continue_from_a_milestone(zoo, shell: Shell, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import shutil

    copy = Store(Path(shutil.copytree(zoo.store.root, tmp_path / "copy", symlinks=True)))
    encoder = copy["encoder"]
    before = (encoder.path / "weights.safetensors").read_bytes()
    flip(encoder.path / "weights.safetensors", 999)
    done = shell("verify", "encoder", "--repair", "--store", copy.root)
    assert done.code == 0, done.err
    assert (encoder.path / "weights.safetensors").read_bytes() == before  # the last milestone is the end


def test_one_changed_digit_of_the_manifest_is_found(images: Artefact, shell: Shell) -> None:
    path = images.path / "manifest.json"
    path.write_text(path.read_text().replace('"size": 16', '"size": 17'))
    assert shell("show", images.short, "--store", images.root).code == 3
    assert "manifest.json is damaged" in shell("verify", "--store", images.root).err


def test_a_changed_source_is_not_repaired_from_and_what_is_whole_stays(
    place: Store, shell: Shell, tmp_path: Path
) -> None:
    from tests.tiny import flat_folder, picture

    folder = flat_folder(tmp_path / "faces", 6)
    images = make(Ingest(source=str(folder), size=16), place)
    picture(folder / "000.png", 77)
    flip(images.path / "data.zarr/images/c/0/0/0/0")
    done = shell("verify", "--repair", "--store", place.root)
    assert done.code != 0 and "its sources have changed since" in done.err
    assert images.complete and images.read_lines("key.jsonl")


def test_rm_keeps_what_others_were_made_from(zoo, shell: Shell) -> None:  # type: ignore[no-untyped-def]
    done = shell("rm", "latents", "--yes", "--store", zoo.store.root)
    assert done.code == 2 and "were made from what you chose, such as diffuse" in done.err
    assert zoo["latents"].complete


def test_rm_removes_an_artefact_and_its_names(images: Artefact, shell: Shell) -> None:
    Store(images.root).name("scenes", images)
    done = shell("rm", "scenes", "--yes", "--store", images.root)
    assert done.code == 0 and not images.path.exists() and not Store(images.root).names()


def test_unfinished_artefacts_are_listed_and_not_checked(images: Artefact, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("manifest.json", "manifest.xxh128"):
        (images.path / name).unlink()
    verify([images], repair=False, as_json=False)
    assert capsys.readouterr().out == "0 artefacts whole, 1 unfinished, not checked\n"


@pytest.fixture(scope="module")
def judged(zoo, tmp_path_factory: pytest.TempPathFactory) -> Store:  # type: ignore[no-untyped-def]
    """A copy of the zoo, with an evaluation, a probe and a report of it."""
    import shutil

    from embprobe.stages.evaluate import Evaluate
    from embprobe.stages.probe import Probe
    from embprobe.stages.report import Report
    from tests import tiny

    root = tmp_path_factory.mktemp("judged") / "copy"
    store = Store(Path(shutil.copytree(zoo.store.root, root, symlinks=True)))
    samples, images = store["samples"], store["images"]
    evaluated = make(Evaluate(samples=samples, reference=images, judges=(tiny.ENCODER,), k=2, device="cpu"), store)
    probed = make(Probe(embeddings=store["embeddings"], k=3, device="cpu"), store)
    make(Report(artefacts=(evaluated, probed)), store)
    return store


@pytest.mark.parametrize(
    ("stage", "name"),
    [
        ("features", "data.zarr/samples_features/c/0/0"), ("measure", "figures.json"), ("measure", "copies.json"),
        ("evaluate", "metrics.json"), ("probe", "probe.json"), ("sample", "data.zarr/images/c/0/0/0/0"),
        ("decode", "decoder.json"), ("extract", "data.zarr/embeddings/c/0/0/0/0"), ("report", "report.html"),
    ],
)  # fmt: skip
def test_what_prepare_fills_in_is_filled_in_again_for_a_repair(
    judged: Store, shell: Shell, stage: str, name: str
) -> None:
    found = [a for a in judged.artefacts() if a.stage == stage and a.folder.has(name)]
    artefact = next(a for a in found if a.options.get("judge") != "inception")  # whose weights are not here
    before = (artefact.path / name).read_bytes()
    flip(artefact.path / name, len(before) // 2)
    assert shell("verify", artefact.short, "--store", judged.root).code == 3
    done = shell("verify", "--repair", artefact.short, "--store", judged.root)
    assert done.code == 0, done.err
    assert (artefact.path / name).read_bytes() == before or stage == "report"  # a report tells when its parts were made
    assert shell("verify", artefact.short, "--store", judged.root).code == 0
