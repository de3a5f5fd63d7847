"""The commands on a page make the same artefacts in an empty store, and hold what belongs and nothing else."""

import re
import shlex
from html import unescape
from pathlib import Path

import pytest

from embprobe.making import make
from embprobe.stages import STAGES
from embprobe.stages.evaluate import Evaluate
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.probe import Probe
from embprobe.stages.report import Report
from embprobe.store import Artefact, Store
from embprobe.study.commands import Script, needed, taken
from embprobe.study.provenance import in_order
from tests import fake_study, tiny
from tests.conftest import Shell, Zoo

HASH = re.compile(r"\b[0-9a-f]{10,32}\b")


@pytest.fixture(scope="module")
def page(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Artefact:
    """A page of a real chain, of which some have aliases."""
    place = Store(tmp_path_factory.mktemp("commands") / "store")
    judged = Evaluate(samples=zoo["samples"], reference=zoo["images"], judges=(tiny.ENCODER,), k=2, device="cpu")
    probe = make(Probe(embeddings=zoo["embeddings"], k=3), place)
    return make(Report(artefacts=(make(judged, place), probe), title="it's tiny"), place)


def block(page: Artefact) -> list[str]:
    (found,) = re.findall(
        r'aria-label="Commands"><code>(.*?)</code>', (page.path / "report.html").read_text(), re.DOTALL
    )
    return unescape(found).splitlines()


def run(lines: list[str], shell: Shell, store: Path) -> Artefact:
    """Lines as a shell would take them; the artefact of the last one."""
    known: dict[str, str] = {}
    for line in lines[1:]:
        name, command = match.groups() if (match := re.fullmatch(r"(\w+)=\$\((.*)\)", line)) else ("", line)
        words = shlex.split(re.sub(r"\$(\w+)", lambda found: known[found[1]], command))
        done = shell(*words[1:], "--store", store)
        assert done.code == 0, (line, done.err)
        known[name] = done.out.strip()
    return Store(store)[Path(done.out.strip()).name]


def test_the_block_makes_the_same_page_in_an_empty_store(page: Artefact, shell: Shell, tmp_path: Path) -> None:
    lines = block(page)
    assert lines[0] == "set -euo pipefail" and not any(HASH.search(line) for line in lines)
    again = run(lines, shell, tmp_path / "empty")
    assert {a for a in again.lineage() if a.stage != "report"} == {a for a in page.lineage() if a.stage != "report"}
    assert again == page  # the same names, too


def test_only_what_is_no_default_is_told(page: Artefact) -> None:
    lines = block(page)
    (ingest,) = [line for line in lines if "embprobe ingest" in line]
    assert shlex.split(ingest) == shlex.split(
        "embprobe ingest --source planted --size 16 --val-share 0.25 --count 48 --name images"
    )
    assert not any(
        f"--{word}" in line for line in lines for word in ("device", "forward", "threads", "resident", "later")
    )
    assert not any("embprobe measure" in line or "embprobe features" in line for line in lines)
    (diffuse,) = [line for line in lines if "embprobe diffuse" in line]
    assert "--latents latents" in diffuse and "--objective" not in diffuse and "--shift" not in diffuse


def test_a_folder_has_no_count(zoo: Zoo) -> None:
    assert "count" in taken(zoo["flat"]) and "count" not in needed(Ingest, taken(zoo["flat"]))


def test_a_weights_file_is_told_by_its_path_and_what_has_no_alias_by_a_variable(zoo: Zoo, tmp_path: Path) -> None:
    (tmp_path / "it's.pth").write_bytes(b"weights")
    stage = Extract(
        images=zoo["images"], encoder="timm:vit_tiny_patch16_224", weights=tmp_path / "it's.pth", later=True
    )
    asked = zoo.store.open(stage)
    script = Script([asked], {zoo["images"].fingerprint: "images"}, STAGES)
    assert script.text().splitlines()[1] == (
        f"E=$(embprobe extract --images images --encoder timm:vit_tiny_patch16_224 --weights "
        f"{shlex.quote(str(tmp_path / chr(39).join(('it', 's.pth'))))} --later)"
    )


def test_several_of_a_stage_are_numbered_and_each_follows_what_it_needs(place: Store) -> None:
    everything = in_order(list({b for a in fake_study.artefacts(place, curve=False) for b in a.lineage()}))
    script = Script(everything, {}, STAGES)
    known: set[str] = set()
    for line in script.text().splitlines()[1:]:
        name, command = re.fullmatch(r"(\w+)=\$\((.*)\)", line).groups()  # type: ignore[union-attr]
        assert set(re.findall(r"\$(\w+)", command)) <= known, line
        assert name not in known
        known.add(name)
    assert {"I", "E1", "E2", "E3", "M1"} <= known
